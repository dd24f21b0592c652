//! Credentials (PROTOCOL 3). Whatever the form, a credential travels in `X-API-Key`.

mod api_key;
mod error;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

pub use api_key::ApiKey;
pub use error::AuthError;
use http::HeaderValue;
use secrecy::SecretString;

/// Gives the credential of the next attempt. Asked once per attempt, so it may refresh what it holds
/// (PROTOCOL 3).
pub trait AuthProvider: Send + Sync + fmt::Debug {
    /// The value of `X-API-Key`; none sends no credential. An error is surfaced unchanged and not retried. Must be
    /// cancel-safe: the call's deadline and its caller may end the wait.
    fn credential(&self) -> CredentialFuture<'_>;

    /// The service does not take `rejected` any more: it answered 401 and said `error="invalid_token"`. What this gives
    /// replaces it in one replay of the same attempt; none, or `rejected` itself, lets the 401 stand. Errors and
    /// cancellation are as with [`credential`](Self::credential). Default: none, for credentials that cannot be renewed.
    fn replace(&self, rejected: &HeaderValue) -> CredentialFuture<'_> {
        let _ = rejected;
        Box::pin(std::future::ready(Ok(None)))
    }

    /// A text that stays the same for the same account; the backoff gate and the retry budget are shared by it.
    fn identity(&self) -> SecretString;
}

/// What [`AuthProvider::credential`] and [`AuthProvider::replace`] return.
pub type CredentialFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Option<HeaderValue>, AuthError>> + Send + 'a>>;

/// No credential at all, for servers that want none (PROTOCOL 3).
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAuth;

impl AuthProvider for NoAuth {
    fn credential(&self) -> CredentialFuture<'_> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn identity(&self) -> SecretString {
        SecretString::from("")
    }
}
