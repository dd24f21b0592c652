//! What is wrong with a request to compute a loss.

/// Data or numbers that a loss cannot be computed from: the caller's fault. The text names the datum and the input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LossError(String);

impl LossError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
