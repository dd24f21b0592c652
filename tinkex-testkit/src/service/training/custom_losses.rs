//! Uploaded losses (PROTOCOL 13.3).

/// All uploaded losses.
#[derive(Debug, Default)]
pub(crate) struct CustomLosses {}
