//! A line of log at most once per interval, shared by all polls of one poller.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Throttle {
    last: Mutex<Option<Instant>>,
}

impl Throttle {
    /// True where the line is due; the caller who gets true must write it.
    pub(crate) fn due(&self, now: Instant, interval: Duration) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match *last {
            Some(before) if now.saturating_duration_since(before) < interval => false,
            _ => {
                *last = Some(now);
                true
            }
        }
    }
}
