//! Why a transport had no response to give, named by what it means for a retry.

use std::error::Error as StdError;
use std::fmt;

use http::HeaderValue;

use crate::redact;

/// The kinds of transport failure. Each says whether the request may have reached the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportErrorKind {
    /// No connection was made (refused, DNS, TLS): the request was **never sent**. Retried, unless the error is
    /// [permanent](TransportError::is_permanent).
    Connect,
    /// Time ran out. The request may have been processed. Retried, since every call carries an idempotency key.
    Timeout,
    /// The connection broke after the request may have been sent (reset, closed early, half a body). Retried.
    Interrupted,
    /// The bytes that came back are not HTTP, not the announced encoding, or too many. Not retried.
    Decode,
    /// Anything else. Retried like [`Interrupted`](Self::Interrupted).
    Other,
}

/// A failed exchange.
pub struct TransportError {
    kind: TransportErrorKind,
    message: String,
    permanent: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl TransportError {
    /// An error with a message and no cause.
    pub fn new(kind: TransportErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), permanent: false, source: None }
    }

    /// Adds the cause, kept for [`source`](StdError::source) and left out of `Display`.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Marks a failure that another attempt would meet again, such as a certificate that is not trusted: the call is
    /// not retried, whatever the kind.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.permanent = true;
        self
    }

    /// The error without the credential, which a server may have put into what the message quotes, such as the target of
    /// a redirect.
    pub(crate) fn scrubbed(mut self, credential: Option<&HeaderValue>) -> Self {
        self.message = redact::scrub(self.message, credential);
        self
    }

    /// Whether another attempt would meet the same.
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// What the failure means for a retry.
    pub fn kind(&self) -> TransportErrorKind {
        self.kind
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportError")
            .field("kind", &self.kind)
            .field("message", &self.message)
            .field("permanent", &self.permanent)
            .field("source", &self.source)
            .finish()
    }
}

impl StdError for TransportError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}
