//! Everything that a run says: what it traces, and what is printed of what it gives back.

use std::error::Error as StdError;
use std::fmt::{Debug, Write as _};

use crate::trace_capture::TraceCapture;

/// The longest beginning of a secret that may be seen.
const HARMLESS: usize = 8;

/// A growing text, and the traces of this thread.
pub(super) struct Said {
    capture: TraceCapture,
    text: String,
}

impl Said {
    pub(super) fn new(capture: TraceCapture) -> Self {
        Self { capture, text: String::new() }
    }

    /// Takes in how a value is printed.
    pub(super) fn shown(&mut self, value: &impl Debug) {
        let _ = writeln!(self.text, "{value:?} {value:#?}");
    }

    /// Takes in an error, with all its causes.
    pub(super) fn error(&mut self, error: &(dyn StdError + 'static)) {
        let mut next = Some(error);
        while let Some(cause) = next {
            let _ = writeln!(self.text, "{cause} {cause:?} {cause:#?}");
            next = cause.source();
        }
    }

    /// Everything said so far.
    pub(super) fn everything(&self) -> String {
        format!("{}{}", self.text, self.capture.text())
    }

    /// Where a secret is seen: itself, a part of it between dots, or the beginning of one.
    pub(super) fn leak(&self, secret: &str) -> Option<String> {
        let everything = self.everything();
        let parts = secret.split('.').filter(|part| part.len() > HARMLESS);
        let mut beginnings = parts.map(|part| &part[..=HARMLESS]);
        let leaked = beginnings.find_map(|beginning| Some((beginning, everything.find(beginning)?)));
        leaked.map(|(beginning, at)| {
            let begin = (0..=at.saturating_sub(300)).rev().find(|at| everything.is_char_boundary(*at));
            let around: String = everything[begin.unwrap_or_default()..].chars().take(600).collect();
            format!("{beginning} in …{around}…")
        })
    }
}
