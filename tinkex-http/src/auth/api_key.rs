//! The simplest credential: a key that is sent as it is.

use std::fmt;

use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tinkex_types::InvalidInput;

use super::{AuthProvider, CredentialFuture};
use crate::BaseUrl;

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
