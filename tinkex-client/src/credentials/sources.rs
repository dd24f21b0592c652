//! Where a credential can come from, and the provider made of the choice (PROTOCOL 3.2).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::ExposeSecret as _;
use tinkex_http::{AuthProvider, WallClock};
use tinkex_types::InvalidInput;

use super::command::CredentialCommand;
use super::fixed::FixedCredential;
use super::resolve::{Choice, Offer, Unresolved, resolve};
use super::store::{CredentialStore, CredentialStoreError};

/// What the user and the environment offer. Each is the one that was given to the builder, else the environment's.
#[derive(Clone, Default)]
pub(crate) struct CredentialSources {
    pub(crate) key: Option<String>,
    pub(crate) command: Option<String>,
    /// The file of stored keys, where it is to be looked at.
    pub(crate) file: Option<PathBuf>,
    pub(crate) production: bool,
    pub(crate) clock: WallClock,
}

impl CredentialSources {
    /// What the start-up flags are asked for with.
    pub(crate) fn for_flags(&self) -> Result<Arc<dyn AuthProvider>, InvalidInput> {
        self.provider(resolve(self.offer(self.key()), false, || self.stored()))
    }

    /// What is sent with everything else, where the service does not exchange credentials. The production service then
    /// takes no output of a command.
    pub(crate) fn for_everything(&self) -> Result<Arc<dyn AuthProvider>, InvalidInput> {
        match resolve(self.offer(self.key()), false, || self.stored()) {
            Ok(Choice::Command(_)) if self.production => Err(InvalidInput::new(
                "credential command",
                "is not enough: the service does not exchange credentials for tokens, so it wants an API key; pass \
                 api_key(..), or set TINKER_API_KEY and use from_env()",
            )),
            choice => self.provider(choice),
        }
    }

    /// What is exchanged for tokens.
    pub(crate) fn for_exchange(&self, enforce_command: bool) -> Result<Arc<dyn AuthProvider>, InvalidInput> {
        // Where there is neither key nor command, the stored default counts as the key.
        let stored = match (self.key(), &self.command) {
            (None, None) => self.stored().map_err(|error| unresolved(&error.into()))?,
            _ => None,
        };
        let offer = self.offer(self.key().or(stored.as_deref()));
        self.provider(resolve(offer, enforce_command, || Ok(None)))
    }

    fn key(&self) -> Option<&str> {
        self.key.as_deref().map(str::trim).filter(|key| !key.is_empty())
    }

    fn offer<'a>(&'a self, key: Option<&'a str>) -> Offer<'a> {
        Offer { key, command: self.command.as_deref(), production: self.production }
    }

    fn stored(&self) -> Result<Option<String>, CredentialStoreError> {
        let Some(file) = &self.file else { return Ok(None) };
        let store = CredentialStore::load(file)?;
        Ok(store.default_key().map(|key| key.key().expose_secret().trim().to_owned()))
    }

    fn provider(&self, choice: Result<Choice, Unresolved>) -> Result<Arc<dyn AuthProvider>, InvalidInput> {
        match choice.map_err(|error| unresolved(&error))? {
            Choice::Key(key) => {
                Ok(Arc::new(FixedCredential::new(&key, !self.production, self.clock.clone())?))
            }
            Choice::Command(line) => Ok(Arc::new(CredentialCommand::new(line, self.clock.clone()))),
        }
    }
}

fn unresolved(error: &Unresolved) -> InvalidInput {
    InvalidInput::new("API key", error.to_string())
}

/// Key and command are secrets.
impl fmt::Debug for CredentialSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialSources").field("file", &self.file).finish_non_exhaustive()
    }
}
