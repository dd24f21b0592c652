//! A warning at most once a minute, which says how much has happened since the one before.

use std::time::Duration;

use tokio::time::Instant;

/// At most one line in this time.
const INTERVAL: Duration = Duration::from_secs(60);

/// What has happened, and when it was told.
#[derive(Debug, Default)]
pub(super) struct Debounce {
    last: Option<Instant>,
    untold: u64,
}

impl Debounce {
    /// Counts `more`. Where a line is due, how much has come together for it.
    pub(super) fn note(&mut self, more: u64) -> Option<u64> {
        self.untold = self.untold.saturating_add(more);
        let now = Instant::now();
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}
