//! A key or a JWT that was given once and is sent as it is (PROTOCOL 3.1).

use secrecy::SecretString;
use tinkex_http::{ApiKey, AuthError, AuthProvider, CredentialFuture, WallClock};
use tinkex_types::InvalidInput;

use super::claims::{Claims, JWT_PREFIX, unix_seconds};

/// A credential that does not change. A JWT is refused before use once it has expired.
#[derive(Debug)]
pub(crate) struct FixedCredential {
    key: ApiKey,
    /// In seconds since 1970, of a JWT that says so.
    expires: Option<f64>,
    clock: WallClock,
}

impl FixedCredential {
    /// Takes a key of any form. `opaque` is for servers whose keys this client knows nothing of: there even what looks like
    /// a JWT need not be one.
    ///
    /// # Errors
    /// Where it cannot be sent, or is a JWT whose claims cannot be read.
    pub(crate) fn new(key: &str, opaque: bool, clock: WallClock) -> Result<Self, InvalidInput> {
        let key = key.trim();
        let claims = key.starts_with(JWT_PREFIX).then(|| Claims::read(key));
        if claims == Some(None) && !opaque {
            let problem = "looks like a JWT, but its claims cannot be read; was it cut off?";
            return Err(InvalidInput::new("API key", problem));
        }
        let expires = claims.flatten().and_then(|claims| claims.expires);
        Ok(Self { key: ApiKey::new(key)?, expires, clock })
    }

    fn check_expiry(&self) -> Result<(), AuthError> {
        let now = unix_seconds(self.clock.now());
        match self.expires {
            Some(expires) if now >= expires => {
                let ago = now - expires;
                let text = format!("the JWT that serves as credential expired {ago:.0} s ago; get a new one");
                // What a service would say to it.
                Err(AuthError::new(text).with_status(401))
            }
            _ => Ok(()),
        }
    }
}

impl AuthProvider for FixedCredential {
    fn credential(&self) -> CredentialFuture<'_> {
        match self.check_expiry() {
            Ok(()) => self.key.credential(),
            Err(expired) => Box::pin(std::future::ready(Err(expired))),
        }
    }

    fn identity(&self) -> SecretString {
        self.key.identity()
    }
}
