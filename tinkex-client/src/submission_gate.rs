//! The gate of one submission: the limits it is sent under, and an eye on what the server says. Pauses are told to the
//! observers, and a sequence id that is used up ends the submission.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tinkex_future::PollProgress as _;
use tinkex_http::{Admission, AttemptGate, Refusal, Ruling};
use tinkex_observer::ObserverSet;
use tinkex_types::{ClientKind, QueueState, QueueStateChange, QueueStateObserver as _, RequestType};

use crate::inflight::Row;

/// Who submits, and to whom its pauses are told.
pub(crate) struct Submitter {
    pub(crate) client: ClientKind,
    pub(crate) client_id: Arc<str>,
    pub(crate) kind: RequestType,
    pub(crate) observers: Arc<ObserverSet>,
    pub(crate) row: Arc<Row>,
}

/// The gate of one submission. `limits` lets attempts in; `is_final` says which refusals end the submission whatever
/// the decision table says.
pub(crate) struct SubmissionGate<L, F> {
    limits: L,
    is_final: F,
    submitter: Submitter,
    /// The state and reason told last.
    told: Mutex<Option<(QueueState, Option<Arc<str>>)>>,
}

impl<L, F> SubmissionGate<L, F>
where
    L: AttemptGate,
    F: Fn(&Refusal<'_>) -> bool + Send + Sync,
{
    pub(crate) fn new(limits: L, submitter: Submitter, is_final: F) -> Self {
        Self { limits, is_final, submitter, told: Mutex::new(None) }
    }

    /// The server has taken the request in. Where it had reported a pause before, the pause is over for this request.
    pub(crate) fn accepted(&self) {
        let paused = self.told.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if paused {
            self.tell(QueueState::Active, None);
        }
    }

    fn tell(&self, state: QueueState, reason: Option<&str>) {
        let Submitter { client, client_id, kind, observers, row } = &self.submitter;
        let change = QueueStateChange::new(state, *client, Arc::clone(client_id))
            .with_reason(reason)
            .with_request("", *kind);
        let now = (change.state.clone(), change.reason.clone());
        let before = self.told.lock().unwrap_or_else(PoisonError::into_inner).replace(now.clone());
        let transition = before.as_ref() != Some(&now);
        let change = change.with_previous(before.map(|(state, _)| state), transition);
        observers.on_observation(&change);
        row.observed(&change);
    }
}

impl<L, F> AttemptGate for SubmissionGate<L, F>
where
    L: AttemptGate,
    F: Fn(&Refusal<'_>) -> bool + Send + Sync,
{
    fn admit(&self) -> Admission<'_> {
        self.limits.admit()
    }

    fn throttled(&self, hint: Option<Duration>) {
        self.limits.throttled(hint);
    }

    fn refused(&self, refusal: &Refusal<'_>) -> Ruling {
        if refusal.status == 429
            && let Some(Pause { queue_state: Some(state), queue_state_reason }) = read_pause(refusal.body)
        {
            self.tell(QueueState::parse(&state), queue_state_reason.as_deref());
        }
        if (self.is_final)(refusal) { Ruling::Final } else { Ruling::AsUsual }
    }
}

#[derive(Deserialize)]
struct Pause {
    queue_state: Option<String>,
    queue_state_reason: Option<String>,
}

fn read_pause(body: &[u8]) -> Option<Pause> {
    let pause: Pause = serde_json::from_slice(body).ok()?;
    pause.queue_state.as_ref().is_some_and(|state| !state.trim().is_empty()).then_some(pause)
}

/// The sequence id that a server which insists on an order names in its refusal ("expected 5").
pub(crate) fn expected_seq_id(body: &[u8]) -> Option<u64> {
    const WORD: &str = "expected";
    let text = std::str::from_utf8(body).ok()?.to_ascii_lowercase();
    let after = &text[text.find(WORD)? + WORD.len()..];
    let digits = after.find(|c: char| c.is_ascii_digit())?;
    // Only a few characters may stand between, such as " seq_id " or ": ".
    if digits > 16 {
        return None;
    }
    let number = &after[digits..];
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::expected_seq_id;

    #[test]
    fn reads_the_expected_id() {
        for (body, expected) in [
            (&b"{\"detail\":\"Sequence conflict: expected 5, got 3\"}"[..], Some(5)),
            (b"Expected seq_id: 12", Some(12)),
            (b"expected something else entirely, 7 of them", None),
            (b"expected 99999999999999999999999", None),
            (b"conflict", None),
            (b"expected", None),
            (b"\xff expected 1", None),
        ] {
            assert_eq!(expected_seq_id(body), expected, "{}", String::from_utf8_lossy(body));
        }
    }
}
