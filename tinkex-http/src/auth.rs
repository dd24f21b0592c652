//! Credentials (PROTOCOL 3). Whatever the form, a credential travels in `X-API-Key`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tinkex_types::InvalidInput;

use crate::BaseUrl;

/// Gives the credential of the next attempt. Asked once per attempt, so it may refresh what it holds
/// (PROTOCOL 3).
pub trait AuthProvider: Send + Sync + fmt::Debug {
    /// The value of `X-API-Key`; none sends no credential. An error is surfaced unchanged and not retried. Must be
    /// cancel-safe: the call's deadline and its caller may end the wait.
    fn credential(&self) -> CredentialFuture<'_>;

    /// A text that stays the same for the same account; the backoff gate and the retry budget are shared by it.
    fn identity(&self) -> SecretString;
}

/// What [`AuthProvider::credential`] returns.
pub type CredentialFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Option<HeaderValue>, AuthError>> + Send + 'a>>;

/// Why there is no credential.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct AuthError {
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl AuthError {
    /// An error with a message for the user.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// A key that never expires. Its text is in no Debug, Display, log or metric (PROTOCOL 3).
#[derive(Clone)]
pub struct ApiKey {
    secret: SecretString,
    header: HeaderValue,
}

impl ApiKey {
    const PREFIX: &'static str = "tml-";
    const JWT_PREFIX: &'static str = "eyJ";

    /// Takes a key as text; surrounding blanks are dropped.
    ///
    /// # Errors
    /// Where the key is empty or cannot be a header value.
    pub fn new(key: impl AsRef<str>) -> Result<Self, InvalidInput> {
        let key = key.as_ref().trim();
        if key.is_empty() {
            return Err(InvalidInput::new("API key", "is empty; set TINKER_API_KEY or pass api_key(..)"));
        }
        let printable = key.bytes().all(|b| b.is_ascii_graphic());
        let header = HeaderValue::from_str(key).ok().filter(|_| printable);
        let Some(mut header) = header else {
            return Err(InvalidInput::new(
                "API key",
                "must be printable ASCII without blanks or line breaks",
            ));
        };
        header.set_sensitive(true);
        Ok(Self { secret: SecretString::from(key), header })
    }

    /// Checks that the service accepts keys of this form: the production service only those that begin with `tml-`
    /// (or a JWT), other servers any.
    ///
    /// # Errors
    /// Where it does not.
    pub fn check_for(&self, base_url: &BaseUrl) -> Result<(), InvalidInput> {
        let key = self.secret.expose_secret();
        if base_url.is_production() && !key.starts_with(Self::PREFIX) && !key.starts_with(Self::JWT_PREFIX) {
            return Err(InvalidInput::new("API key", "must begin with tml- for the production service"));
        }
        Ok(())
    }
}

impl AuthProvider for ApiKey {
    fn credential(&self) -> CredentialFuture<'_> {
        Box::pin(std::future::ready(Ok(Some(self.header.clone()))))
    }

    fn identity(&self) -> SecretString {
        self.secret.clone()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey([REDACTED])")
    }
}

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
