//! How far an attempt has got, so that one that runs out of time can say where it got stuck.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::call::seconds;

/// The progress of one attempt.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    head: AtomicBool,
    bytes: AtomicUsize,
}

impl Progress {
    /// The head of the response has come.
    pub(crate) fn head(&self) {
        self.head.store(true, Ordering::Relaxed);
    }

    /// A piece of its body has come.
    pub(crate) fn piece(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What to say where the time `limit` was not enough.
    pub(crate) fn out_of_time(&self, limit: Duration) -> String {
        let limit = seconds(limit);
        if self.head.load(Ordering::Relaxed) {
            let bytes = self.bytes.load(Ordering::Relaxed);
            format!("the response body stalled after {bytes} bytes: it was not complete within {limit} s")
        } else {
            format!("no complete response within {limit} s")
        }
    }
}
