//! The time-based debounce: one atomic decides which of many threads writes the line (F-06).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::should_log;

/// No line was written yet. Not zero: a line may be written in the instant the clock is made (C-8).
const NEVER: u64 = u64::MAX;

/// The time of the last line, in nanoseconds since `origin` (584 years fit).
#[derive(Debug)]
pub(crate) struct DebounceClock {
    origin: Instant,
    last: AtomicU64,
}

impl DebounceClock {
    pub(crate) fn new(origin: Instant) -> Self {
        Self { origin, last: AtomicU64::new(NEVER) }
    }

    /// Claims the right to log now. Of any number of callers at once, one wins: the others lose the
    /// compare-exchange, look again, and see the winner's time.
    pub(crate) fn claim(&self, now: Instant, interval: Duration) -> bool {
        let nanos = now.saturating_duration_since(self.origin).as_nanos();
        let now_nanos = u64::try_from(nanos).unwrap_or(NEVER).min(NEVER - 1);
        let mut seen = self.last.load(Ordering::Acquire);
        while should_log(self.instant(seen), now, interval) {
            match self.last.compare_exchange_weak(seen, now_nanos, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(newer) => seen = newer,
            }
        }
        false
    }

    /// When the last line was written.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.instant(self.last.load(Ordering::Acquire))
    }

    fn instant(&self, nanos: u64) -> Option<Instant> {
        (nanos != NEVER).then(|| self.origin + Duration::from_nanos(nanos))
    }
}
