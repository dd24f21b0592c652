//! What can be wrong with the file of stored keys.

use std::io;
use std::path::{Path, PathBuf};

/// Why the stored keys cannot be used. Names the file and the place in it, never what it holds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialStoreError {
    /// The file is there and cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not of the form of version 1.
    #[error(
        "{} is malformed, at line {line} column {column}; repair it, or remove it and store the keys anew",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Counted from 1; 0 where the file as a whole is at fault.
        line: usize,
        /// Counted from 1; 0 where the line as a whole is at fault.
        column: usize,
    },
    /// The file cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no key of this id.
    #[error("there is no stored key with the id {id:?}")]
    UnknownKey {
        /// The id.
        id: String,
    },
}

impl CredentialStoreError {
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    /// The error's own words may quote the file, and with it a key.
    pub(super) fn malformed(path: &Path, error: &serde_json::Error) -> Self {
        Self::Malformed { path: path.to_owned(), line: error.line(), column: error.column() }
    }

    pub(super) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }

    pub(super) fn unknown(id: &str) -> Self {
        Self::UnknownKey { id: id.to_owned() }
    }
}
