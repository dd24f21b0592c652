//! The grace period: how long the client has been in its present state (PROTOCOL 17.3).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tinkex_types::QueueState;
use tokio::time::Instant;

/// Remembers the state and when it was entered. Used only where a grace period is set, so the default policy takes no
/// lock.
#[derive(Debug, Default)]
pub(crate) struct StateAge {
    // The label, not the state: unknown states count as one, and reasons do not count.
    entered: Mutex<Option<(&'static str, Instant)>>,
}

impl StateAge {
    /// Notes the state, and tells for how long it has lasted. Zero where it is new, or where another thread noted it
    /// later than `now`.
    pub(crate) fn note(&self, state: &QueueState, now: Instant) -> Duration {
        let mut entered = self.entered.lock().unwrap_or_else(PoisonError::into_inner);
        match *entered {
            Some((label, since)) if label == state.label() => now.saturating_duration_since(since),
            _ => {
                *entered = Some((state.label(), now));
                Duration::ZERO
            }
        }
    }
}
