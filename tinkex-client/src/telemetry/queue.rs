//! The events that wait to be sent. Adding one takes a lock for a moment, and never waits for the network.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tinkex_http::WallClock;
use tinkex_metrics::contract;
use tinkex_types::TelemetryEvent;
use tokio::sync::{Notify, SetOnce};

use super::debounce::Debounce;
use super::redaction::Secrets;
use super::report::{Report, Stamp, Urgency};
use super::timestamp;

/// More events than this do not wait; what comes then is dropped (PROTOCOL 20).
pub(super) const CAPACITY: usize = 10_000;
/// Nor do more bytes of them than this, by a rough count: an event can hold a whole error page.
pub(super) const CAPACITY_BYTES: usize = 16 << 20;

/// The events of one session.
pub(super) struct EventQueue {
    state: Mutex<State>,
    /// Woken for events that are to be sent at once, and for the drain.
    wake: Notify,
    /// Nothing is sent any more.
    over: SetOnce<()>,
    clock: WallClock,
    secrets: Secrets,
}

struct State {
    events: VecDeque<Waiting>,
    /// What the events take, in bytes.
    bytes: usize,
    next_index: u64,
    phase: Phase,
    dropped: Debounce,
}

/// An event and its size.
struct Waiting {
    event: TelemetryEvent,
    bytes: usize,
}

impl State {
    fn is_full(&self) -> bool {
        self.events.len() >= CAPACITY || self.bytes >= CAPACITY_BYTES
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// What is queued is sent, and nothing is added any more.
    Draining,
    Over,
}

impl EventQueue {
    pub(super) fn new(clock: WallClock, secrets: Secrets) -> Self {
        let state = State {
            events: VecDeque::new(),
            bytes: 0,
            next_index: 0,
            phase: Phase::Open,
            dropped: Debounce::default(),
        };
        Self { state: Mutex::new(state), wake: Notify::new(), over: SetOnce::new(), clock, secrets }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What no event may hold.
    pub(super) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The time of day, in seconds since 1970.
    pub(super) fn unix_seconds(&self) -> f64 {
        timestamp::unix_seconds(self.clock.now())
    }

    /// Whether it is worth making an event. One that finds no room counts as dropped.
    pub(super) fn has_room(&self) -> bool {
        let state = self.state();
        if state.phase == Phase::Open && state.is_full() {
            refuse(state);
            return false;
        }
        state.phase == Phase::Open
    }

    /// Adds an event, or drops it where there is no room. Its number is used up all the same, so that the service sees
    /// the gap.
    pub(super) fn add(&self, report: Report) {
        let urgency = report.urgency();
        if self.push(report, Phase::Open) && urgency == Urgency::AtOnce {
            self.wake.notify_one();
        }
    }

    fn push(&self, report: Report, next: Phase) -> bool {
        // Made before the lock is taken.
        let bytes = report.bytes();
        let (event_id, timestamp) = (tinkex_http::random_uuid(), timestamp::rfc3339(self.clock.now()));
        let mut state = self.state();
        if state.phase != Phase::Open {
            return false;
        }
        state.phase = next;
        // There is always room for the last event: the service is to know that the session has ended.
        if next == Phase::Open && state.is_full() {
            refuse(state);
            return false;
        }
        let event_session_index = state.next_index;
        state.next_index += 1;
        let event = report.into_event(Stamp { event_id, event_session_index, timestamp });
        state.bytes += bytes;
        state.events.push_back(Waiting { event, bytes });
        true
    }

    /// The oldest events, `most` at most.
    pub(super) fn take(&self, most: usize) -> Vec<TelemetryEvent> {
        let mut state = self.state();
        let count = state.events.len().min(most);
        let taken: Vec<_> = state.events.drain(..count).collect();
        state.bytes -= taken.iter().map(|waiting| waiting.bytes).sum::<usize>();
        taken.into_iter().map(|waiting| waiting.event).collect()
    }

    /// Completes when something is to be sent at once.
    pub(super) async fn urgent(&self) {
        self.wake.notified().await;
    }

    /// Takes a last event, where there is one, and no other; everything is to be sent now.
    pub(super) fn drain(&self, last: Option<Report>) {
        match last {
            Some(last) => {
                self.push(last, Phase::Draining);
            }
            None => {
                let mut state = self.state();
                if state.phase == Phase::Open {
                    state.phase = Phase::Draining;
                }
            }
        }
        self.wake.notify_one();
    }

    /// Whether everything was sent, and nothing comes any more.
    pub(super) fn is_drained(&self) -> bool {
        let state = self.state();
        state.phase != Phase::Open && state.events.is_empty()
    }

    /// Ends reporting. What is left is dropped.
    pub(super) fn end(&self) {
        let left = {
            let mut state = self.state();
            state.phase = Phase::Over;
            state.bytes = 0;
            std::mem::take(&mut state.events).len()
        };
        if left > 0 {
            count_dropped(left as u64);
        }
        // Where it has ended before, everybody knows.
        let _ = self.over.set(());
    }

    /// Completes when reporting has ended.
    pub(super) async fn ended(&self) {
        self.over.wait().await;
    }
}

/// Shows no event: secrets are taken out only when they are sent.
impl fmt::Debug for EventQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (events, phase) = {
            let state = self.state();
            (state.events.len(), state.phase)
        };
        f.debug_struct("EventQueue").field("events", &events).field("phase", &phase).finish_non_exhaustive()
    }
}

/// Drops an event for want of room.
fn refuse(mut state: MutexGuard<'_, State>) {
    state.next_index += 1;
    let (due, waiting) = (state.dropped.note(1), state.events.len());
    drop(state);
    count_dropped(1);
    if let Some(count) = due {
        tracing::warn!("{waiting} telemetry events wait to be sent already; dropped {count} more");
    }
}

fn count_dropped(count: u64) {
    contract::TELEMETRY_EVENTS.add(["dropped"], count);
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use serde_json::json;
    use tinkex_types::Severity;

    use super::*;

    /// Error pages fill the queue before their number does. The end of the session is taken in all the same, and what is
    /// taken out makes room.
    #[test]
    fn bounded_in_bytes() {
        let queue = || EventQueue::new(WallClock::new(|| SystemTime::UNIX_EPOCH), Secrets::default());
        let page = || Report::generic("page", Severity::Error, json!({ "body": "x".repeat(1 << 20) }));
        let full = queue();
        let fit = (0..32).take_while(|_| full.has_room()).map(|_| full.add(page())).count();
        assert_eq!(fit, 16);
        full.add(page());
        assert_eq!(full.take(4).len(), 4);
        assert!(full.has_room());
        (0..4).for_each(|_| full.add(page()));
        assert!(!full.has_room());
        full.drain(Some(Report::SessionEnd { after: Duration::ZERO }));
        let left = full.take(100);
        assert_eq!(left.len(), 17);
        assert!(matches!(left.last(), Some(TelemetryEvent::SessionEnd { .. })));
        assert_eq!(full.state().bytes, 0);
    }
}
