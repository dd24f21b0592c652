//! The file of stored keys (PROTOCOL 3.3).

mod error;
mod key;
mod layout;
mod replace;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use error::CredentialStoreError;
pub use key::{KeyDetails, StoredKey};

use crate::environment::Environment;

/// The keys stored for this user, by their ids, of which one may be the default. It is what the file held when it was
/// loaded; [`save`](Self::save) writes it back.
///
/// The file is `~/.tinker/credentials.json`, shared with the other SDKs of the service. Readers see the old file or the new
/// one, never half of one. Of two programs that change it at once, the one that saves last wins, with all it holds.
///
/// ```no_run
/// use tinkex_client::{CredentialStore, StoredKey};
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let path = CredentialStore::default_path().ok_or("there is no home directory")?;
/// let mut store = CredentialStore::load(path)?;
/// store.add("key-1", StoredKey::manual("tml-...", "laptop"));
/// store.set_default("key-1")?;
/// store.save()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct CredentialStore {
    path: PathBuf,
    default: Option<String>,
    keys: BTreeMap<String, StoredKey>,
}

impl CredentialStore {
    /// Where the file of this user is: `.tinker/credentials.json` in the directory that `HOME` names (on Windows
    /// `USERPROFILE`); none where the variable is not set.
    pub fn default_path() -> Option<PathBuf> {
        Environment::read().credentials_file
    }

    /// Loads a file. One that does not exist is an empty store.
    ///
    /// # Errors
    /// Where the file cannot be read or is malformed, an empty file included.
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, CredentialStoreError> {
        let path = path.into();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path, default: None, keys: BTreeMap::new() });
            }
            Err(error) => return Err(CredentialStoreError::read(&path, error)),
        };
        match layout::read(&text) {
            Ok((default, keys)) => Ok(Self { path, default, keys }),
            Err(error) => Err(CredentialStoreError::malformed(&path, &error)),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every key with its id, in the order of the ids.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &StoredKey)> {
        self.keys.iter().map(|(id, key)| (id.as_str(), key))
    }

    /// The key of this id.
    pub fn get(&self, id: &str) -> Option<&StoredKey> {
        self.keys.get(id)
    }

    /// The id of the default key, where there is one.
    pub fn default_id(&self) -> Option<&str> {
        self.default.as_deref().filter(|id| self.keys.contains_key(*id))
    }

    /// The default key, where there is one.
    pub fn default_key(&self) -> Option<&StoredKey> {
        self.get(self.default.as_deref()?)
    }

    /// Adds a key. The one that had this id before is given back.
    pub fn add(&mut self, id: impl Into<String>, key: StoredKey) -> Option<StoredKey> {
        self.keys.insert(id.into(), key)
    }

    /// Removes a key, and the mark of the default with it where it was that.
    pub fn remove(&mut self, id: &str) -> Option<StoredKey> {
        if self.default.as_deref() == Some(id) {
            self.default = None;
        }
        self.keys.remove(id)
    }

    /// Makes a key the default.
    ///
    /// # Errors
    /// Where there is no key of this id.
    pub fn set_default(&mut self, id: &str) -> Result<(), CredentialStoreError> {
        if !self.keys.contains_key(id) {
            return Err(CredentialStoreError::unknown(id));
        }
        self.default = Some(id.to_owned());
        Ok(())
    }

    /// Takes the mark of the default away.
    pub fn clear_default(&mut self) {
        self.default = None;
    }

    /// Writes the file: for its owner's eyes only (0600), in a directory that is made so (0700) where there is none, and
    /// atomically. Blocks for the time of a small write to disk.
    ///
    /// # Errors
    /// Where it cannot be written; the old file is then as it was.
    pub fn save(&self) -> Result<(), CredentialStoreError> {
        let failed = |error| CredentialStoreError::write(&self.path, error);
        let text =
            layout::write(self.default.as_deref(), &self.keys).map_err(|error| failed(error.into()))?;
        replace::replace(&self.path, &text).map_err(failed)
    }
}
