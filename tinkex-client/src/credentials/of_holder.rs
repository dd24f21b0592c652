//! The credentials of one holder: what is sent before its flags are known, and after (PROTOCOL 3.2, 4.3).

use std::fmt;
use std::sync::{Arc, OnceLock};

use http::HeaderValue;
use secrecy::SecretString;
use tinkex_http::{AuthProvider, CredentialFuture, HttpClient, Jitter, WallClock};
use tinkex_types::{ClientConfig, InvalidInput};
use tokio::runtime::Handle;

use super::CredentialSources;
use super::jwt_exchange::JwtExchange;

/// What `credential_default_source` says where the command is enforced.
const ENFORCED: &str = "credential_cmd";

/// Gives the credential of everything a holder sends.
#[derive(Debug)]
pub(crate) struct HolderCredentials {
    source: Source,
    /// What the start-up flags are asked for with.
    first: Arc<dyn AuthProvider>,
    adopted: OnceLock<Adopted>,
    clock: WallClock,
    seed: Option<u64>,
}

enum Source {
    /// The user's own provider, or none: it is used whatever the server says.
    Given,
    Sources(CredentialSources),
}

/// What is sent once the flags are known.
#[derive(Debug)]
enum Adopted {
    AsItIs(Arc<dyn AuthProvider>),
    Exchanged(JwtExchange),
}

impl HolderCredentials {
    /// Uses a provider as it is.
    pub(crate) fn given(auth: Arc<dyn AuthProvider>, clock: WallClock, seed: Option<u64>) -> Self {
        Self { source: Source::Given, first: auth, adopted: OnceLock::new(), clock, seed }
    }

    /// Chooses from what there is.
    ///
    /// # Errors
    /// Where nothing can be used.
    pub(crate) fn from_sources(sources: CredentialSources, seed: Option<u64>) -> Result<Self, InvalidInput> {
        let (first, clock) = (sources.for_flags()?, sources.clock.clone());
        Ok(Self { source: Source::Sources(sources), first, adopted: OnceLock::new(), clock, seed })
    }

    /// What the start-up flags are asked for with.
    pub(crate) fn first(&self) -> Arc<dyn AuthProvider> {
        Arc::clone(&self.first)
    }

    /// Goes by the server's flags from now on. Called again, it keeps what was decided first.
    ///
    /// # Errors
    /// Where the flags demand a credential that there is none of.
    pub(crate) fn adopt(
        &self,
        flags: &ClientConfig,
        http: &HttpClient,
        runtime: &Handle,
    ) -> Result<(), InvalidInput> {
        if self.adopted.get().is_some() {
            return Ok(());
        }
        let exchanged = flags.pjwt_auth_enabled;
        let credential = match &self.source {
            Source::Given => self.first(),
            Source::Sources(sources) if exchanged => {
                sources.for_exchange(flags.credential_default_source == ENFORCED)?
            }
            Source::Sources(sources) => sources.for_everything()?,
        };
        let adopted = if exchanged {
            let jitter = self.seed.map(Jitter::seeded).unwrap_or_default();
            let clock = self.clock.clone();
            Adopted::Exchanged(JwtExchange::new(credential, http, runtime.clone(), clock, jitter))
        } else {
            Adopted::AsItIs(credential)
        };
        // Another one that was faster has decided the same.
        let _ = self.adopted.set(adopted);
        Ok(())
    }

    /// Ends the background refresh of tokens.
    pub(crate) fn end(&self) {
        if let Some(Adopted::Exchanged(exchange)) = self.adopted.get() {
            exchange.end();
        }
    }

    fn current(&self) -> &dyn AuthProvider {
        match self.adopted.get() {
            None => &*self.first,
            Some(Adopted::AsItIs(auth)) => &**auth,
            Some(Adopted::Exchanged(exchange)) => exchange,
        }
    }
}

impl AuthProvider for HolderCredentials {
    fn credential(&self) -> CredentialFuture<'_> {
        self.current().credential()
    }

    fn replace(&self, rejected: &HeaderValue) -> CredentialFuture<'_> {
        self.current().replace(rejected)
    }

    fn identity(&self) -> SecretString {
        self.current().identity()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given => f.write_str("Given"),
            Self::Sources(sources) => sources.fmt(f),
        }
    }
}
