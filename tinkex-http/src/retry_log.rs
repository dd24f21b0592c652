//! The lines that tell of retries: enough to see an outage, not one for each of a thousand calls.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// At most one line per operation in this time, over all calls of a client.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);

/// The same where the server asks for patience, which many a busy service does all the time.
pub(crate) const THROTTLED_INTERVAL: Duration = Duration::from_secs(60);

/// What a client has told of its retries.
#[derive(Debug, Default)]
pub(crate) struct RetryLog(Mutex<HashMap<&'static str, Told>>);

#[derive(Debug)]
struct Told {
    last: Instant,
    /// Retries since that were not told.
    silent: u64,
}

impl RetryLog {
    /// Whether a line is due for a retry of `operation`, of which there is at most one in `interval`; if so, how many
    /// retries went untold since the last one.
    pub(crate) fn due(&self, operation: &'static str, interval: Duration) -> Option<u64> {
        let now = Instant::now();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match told.get_mut(operation) {
            Some(told) if now.saturating_duration_since(told.last) < interval => {
                told.silent = told.silent.saturating_add(1);
                None
            }
            before => {
                let silent = before.map_or(0, |told| told.silent);
                told.insert(operation, Told { last: now, silent: 0 });
                Some(silent)
            }
        }
    }
}
