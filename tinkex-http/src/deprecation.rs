//! Deprecation notices in response headers (PROTOCOL 5.2).

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, HeaderValue};

use crate::redact;

/// Notices are told once each, since every response may carry the same one; this many are remembered.
const REMEMBERED: usize = 100;

/// The notices a client has told.
#[derive(Debug, Default)]
pub(crate) struct Deprecations(Mutex<HashSet<String>>);

impl Deprecations {
    /// Logs the notice of a response, if it has one that is new: as a warning, or as an error where the service says
    /// so.
    pub(crate) fn announce(&self, headers: &HeaderMap, credential: Option<&HeaderValue>) {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(note) = text("x-deprecation-note") else { return };
        let note = redact::scrub(note.to_owned(), credential);
        {
            let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if told.contains(&note) || told.len() >= REMEMBERED {
                return;
            }
            told.insert(note.clone());
        }
        if text("x-deprecation-level").is_some_and(|level| level.trim().eq_ignore_ascii_case("error")) {
            tracing::error!("Deprecation notice: {note}");
        } else {
            tracing::warn!("Deprecation notice: {note}");
        }
    }
}
