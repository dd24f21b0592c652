//! Whether a client has ever reached its service. A long job bears with an outage in silence, but somebody who has just
//! started a program with a wrong address must not wait minutes to be told.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::attempt::AttemptFailure;

/// What a client knows of its service's presence.
#[derive(Debug, Default)]
pub(crate) struct FirstContact {
    /// The service has answered, or it was told that it does not.
    settled: AtomicBool,
}

impl FirstContact {
    /// The service has answered something.
    pub(crate) fn made(&self) {
        if !self.settled.load(Ordering::Relaxed) {
            self.settled.store(true, Ordering::Relaxed);
        }
    }

    /// No connection could be made, and it will be tried again. Told once, where it never was different.
    pub(crate) fn missing(&self, host: &str, operation: &'static str, failure: &AttemptFailure) {
        if !self.settled.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                operation,
                server.address = host,
                "{host} has not been reached yet, trying again: {failure}"
            );
        }
    }
}
