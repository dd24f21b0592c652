//! Credentials: where they come from, in which order, and what is sent (PROTOCOL 3).
//!
//! * [`resolve`]: the order, as a pure function over what there is.
//! * [`sources`]: what there is: a key, a command, a stored file; and the choice made from it.
//! * [`fixed`], [`command`]: the two forms a choice can have.
//! * [`store`]: the file of stored keys.
//! * [`jwt_exchange`], [`refresh`], [`token`], [`claims`]: the exchange of a credential for short-lived tokens.
//! * [`of_holder`]: which of them one holder uses, before and after it knows the server's flags.

mod claims;
mod command;
mod fixed;
mod jwt_exchange;
mod of_holder;
mod refresh;
mod resolve;
mod sources;
mod store;
mod token;

pub(crate) use jwt_exchange::Patience;
pub(crate) use of_holder::HolderCredentials;
pub(crate) use sources::CredentialSources;
pub use store::{CredentialStore, CredentialStoreError, KeyDetails, StoredKey};
