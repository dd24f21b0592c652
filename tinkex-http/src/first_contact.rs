//! Whether a client has ever reached its service. A long job bears with an outage in silence, but somebody who has just
//! started a program with a wrong address must not wait minutes to be told.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::attempt::AttemptFailure;
use crate::{HttpError, HttpErrorKind};

/// What a client knows of its service's presence.
#[derive(Debug, Default)]
pub(crate) struct FirstContact {
    /// The service has answered something.
    made: AtomicBool,
    /// It was told that it does not.
    told: AtomicBool,
}

impl FirstContact {
    /// The same knowledge, for another client of the service.
    pub(crate) fn as_known(&self) -> Self {
        Self {
            made: self.made.load(Ordering::Relaxed).into(),
            told: self.told.load(Ordering::Relaxed).into(),
        }
    }

    /// The service has answered something.
    pub(crate) fn made(&self) {
        // Nearly always known: a look is cheaper than a change that all cores must hear of.
        if !self.made.load(Ordering::Relaxed) {
            self.made.store(true, Ordering::Relaxed);
        }
    }

    /// No connection could be made, and it will be tried again. Told once, where it never was different.
    pub(crate) fn missing(&self, host: &str, operation: &'static str, failure: &AttemptFailure) {
        if !self.made.load(Ordering::Relaxed) && !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                operation,
                server.address = host,
                "{host} has not been reached yet, trying again: {failure}"
            );
        }
    }

    /// Adds to the final error of a call what to check, where the service was never reached.
    pub(crate) fn advise(&self, error: HttpError) -> HttpError {
        let unreached = error.kind() == HttpErrorKind::Connect
            && error.limit().is_some()
            && !self.made.load(Ordering::Relaxed);
        if unreached {
            error.advising("check the base URL, the network and the proxy (HTTPS_PROXY, NO_PROXY)")
        } else {
            error
        }
    }
}
