//! A body that could not be read.

use std::fmt;

/// What was being read and what is wrong with it. Never retried: the same bytes would fail again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    subject: &'static str,
    detail: String,
}

impl DecodeError {
    /// An error about `subject`, the type or field that was being read.
    pub fn new(subject: &'static str, detail: impl fmt::Display) -> Self {
        Self { subject, detail: detail.to_string() }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read {}: {}", self.subject, self.detail)
    }
}

impl std::error::Error for DecodeError {}
