//! What a submission makes of refusals: pauses are told to the observers, and a sequence id that is used up ends it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tinkex_future::PollProgress as _;
use tinkex_http::{Admission, AttemptGate, Refusal, Ruling};
use tinkex_observer::ObserverSet;
use tinkex_types::{ClientKind, QueueState, QueueStateChange, QueueStateObserver as _, RequestType};

use crate::dispatch::SampleGate;
use crate::inflight::Row;

/// The gate of one submission: the dispatch limits, and an eye on what the server says.
pub(super) struct SubmissionGate {
    pub(super) limits: SampleGate,
    pub(super) seq_id: u64,
    pub(super) sampling_session_id: Arc<str>,
    pub(super) observers: Arc<ObserverSet>,
    pub(super) row: Arc<Row>,
    /// The state and reason told last.
    pub(super) told: Mutex<Option<(QueueState, Option<Arc<str>>)>>,
}

impl SubmissionGate {
    /// The server has taken the sample in. Where it had reported a pause before, the pause is over for this sample.
    pub(super) fn accepted(&self) {
        let paused = self.told.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if paused {
            self.tell(QueueState::Active, None);
        }
    }

    fn tell(&self, state: QueueState, reason: Option<&str>) {
        let change =
            QueueStateChange::new(state, ClientKind::Sampling, Arc::clone(&self.sampling_session_id))
                .with_reason(reason)
                .with_request("", RequestType::Sample);
        let now = (change.state.clone(), change.reason.clone());
        let before = self.told.lock().unwrap_or_else(PoisonError::into_inner).replace(now.clone());
        let transition = before.as_ref() != Some(&now);
        let change = change.with_previous(before.map(|(state, _)| state), transition);
        self.observers.on_observation(&change);
        self.row.observed(&change);
    }
}

impl AttemptGate for SubmissionGate {
    fn admit(&self) -> Admission<'_> {
        self.limits.admit()
    }

    fn throttled(&self, hint: Option<Duration>) {
        self.limits.throttled(hint);
    }

    fn refused(&self, refusal: &Refusal<'_>) -> Ruling {
        match refusal.status {
            429 => {
                if let Some(Pause { queue_state: Some(state), queue_state_reason }) = read_pause(refusal.body)
                {
                    self.tell(QueueState::parse(&state), queue_state_reason.as_deref());
                }
                Ruling::AsUsual
            }
            // An id that is ahead of its turn comes into its turn; one that is behind never does.
            409 if expected_seq_id(refusal.body).is_some_and(|expected| expected > self.seq_id) => {
                Ruling::Final
            }
            _ => Ruling::AsUsual,
        }
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
pub(super) fn expected_seq_id(body: &[u8]) -> Option<u64> {
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
