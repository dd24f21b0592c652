//! The form of the file: version 1. Unknown members are ignored; what is missing or of the wrong kind makes it malformed.

use std::collections::BTreeMap;

use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use super::key::{KeyDetails, StoredKey};

#[derive(Deserialize, Serialize)]
struct Layout {
    #[serde(default)]
    version: Version,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default: Option<String>,
    #[serde(default)]
    keys: BTreeMap<String, Entry>,
}

/// The one version there is.
#[derive(Default, Deserialize, Serialize)]
#[serde(try_from = "u64", into = "u64")]
struct Version;

impl TryFrom<u64> for Version {
    type Error = &'static str;

    fn try_from(version: u64) -> Result<Self, Self::Error> {
        if version == 1 { Ok(Self) } else { Err("not version 1") }
    }
}

impl From<Version> for u64 {
    fn from(_: Version) -> Self {
        1
    }
}

impl Clone for Version {
    fn clone(&self) -> Self {
        Self
    }
}

#[derive(Deserialize, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Entry {
    Manual {
        key: String,
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<Details>,
    },
    Generated {
        key: String,
        name: String,
        details: Details,
    },
}

#[derive(Deserialize, Serialize)]
struct Details {
    org_details: Organization,
    user_details: User,
}

#[derive(Deserialize, Serialize)]
struct Organization {
    name: String,
}

#[derive(Deserialize, Serialize)]
struct User {
    email: String,
}

type Contents = (Option<String>, BTreeMap<String, StoredKey>);

pub(super) fn read(text: &[u8]) -> Result<Contents, serde_json::Error> {
    let layout: Layout = serde_json::from_slice(text)?;
    Ok((layout.default, layout.keys.into_iter().map(|(id, entry)| (id, entry.into())).collect()))
}

pub(super) fn write(
    default: Option<&str>,
    keys: &BTreeMap<String, StoredKey>,
) -> Result<Vec<u8>, serde_json::Error> {
    let keys = keys.iter().map(|(id, key)| (id.clone(), Entry::from(key))).collect();
    serde_json::to_vec_pretty(&Layout { version: Version, default: default.map(str::to_owned), keys })
}

impl From<Entry> for StoredKey {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::Manual { key, name, note, details } => {
                Self { key: key.into(), name, note, generated: false, details: details.map(KeyDetails::from) }
            }
            Entry::Generated { key, name, details } => Self::generated(key, name, details.into()),
        }
    }
}

impl From<&StoredKey> for Entry {
    fn from(stored: &StoredKey) -> Self {
        let (key, name) = (stored.key.expose_secret().to_owned(), stored.name.clone());
        let details = stored.details.as_ref().map(Details::from);
        match details {
            Some(details) if stored.generated => Self::Generated { key, name, details },
            details => Self::Manual { key, name, note: stored.note.clone(), details },
        }
    }
}

impl From<Details> for KeyDetails {
    fn from(details: Details) -> Self {
        Self { organization: details.org_details.name, email: details.user_details.email }
    }
}

impl From<&KeyDetails> for Details {
    fn from(details: &KeyDetails) -> Self {
        Self {
            org_details: Organization { name: details.organization.clone() },
            user_details: User { email: details.email.clone() },
        }
    }
}
