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

/// The sequence id that a server which insists on an order names in its refusal: "expected seq_id 5", or "expected 5,
/// got 3". Names and counts of other things that happen to stand beside the word are none.
pub(crate) fn expected_seq_id(body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?.to_ascii_lowercase();
    text.match_indices("expected").find_map(|(at, word)| {
        let inside_a_word = text[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-'));
        if inside_a_word { None } else { number_after(&text[at + word.len()..]) }
    })
}

/// The sequence id in what follows the word "expected".
fn number_after(text: &str) -> Option<u64> {
    const OF_SEQUENCES: [&str; 3] = ["seq", "seqid", "sequence"];
    const BETWEEN: [&str; 8] = ["id", "number", "next", "the", "is", "was", "to", "be"];
    let (between, number) = text.split_at(text.find(|c: char| c.is_ascii_digit())?);
    if !between.ends_with(|c: char| c.is_whitespace() || matches!(c, ':' | '=' | '"' | '\'' | '#' | '(')) {
        return None;
    }
    let words = || between.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let of_sequences = |word: &str| OF_SEQUENCES.contains(&word);
    if !words().all(|word| of_sequences(word) || BETWEEN.contains(&word)) {
        return None;
    }
    let (number, after) = number.split_at(number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len()));
    let goes_on = after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-'))
        || after.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    (!goes_on && (words().any(of_sequences) || ends_there(after))).then(|| number.parse().ok()).flatten()
}

/// Whether the number before `text` counts nothing: the sentence is over, or goes on with what came instead.
fn ends_there(text: &str) -> bool {
    let instead = text.trim_start_matches([',', ';', ' ', '(']);
    let over = text.trim_end().trim_end_matches(['"', '\'', '}', ']', ')', '.', '!']).is_empty();
    over || text.starts_with("\",")
        || ["got", "but ", "received", "not "].iter().any(|word| instead.starts_with(word))
}

#[cfg(test)]
mod tests {
    use super::expected_seq_id;

    #[test]
    fn reads_the_expected_id() {
        for (body, expected) in [
            (&b"{\"detail\":\"Sequence conflict: expected 5, got 3\"}"[..], Some(5)),
            (b"Expected seq_id: 12", Some(12)),
            (b"sequence conflict on tsm-1: expected 7, got 9", Some(7)),
            (b"{\"error\":\"Expected 4 but got 3\"}", Some(4)),
            (b"{\"expected_seq_id\": 8}", Some(8)),
            (b"{\"detail\":\"expected 5\",\"code\":\"conflict\"}", Some(5)),
            (b"out of order: the server expected the next sequence number 6.", Some(6)),
            (b"an unexpected 5 of them; expected seq_id 6, got 7", Some(6)),
            (b"unexpected 5 of them", None),
            (b"{\"detail\":\"checkpoint expected_return_12 exists\"}", None),
            (b"checkpoint expected_12 of sequence a exists", None),
            (b"checkpoint expected-12 exists", None),
            (b"expected 3 datasets, got 4", None),
            (b"expected 3.5 of a sequence", None),
            (b"expected rank 8, got 4", None),
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
