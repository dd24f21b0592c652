//! One stored key.

use secrecy::SecretString;

/// A key with what is known of it. Its text is in no Debug.
#[derive(Clone, Debug)]
pub struct StoredKey {
    pub(super) key: SecretString,
    pub(super) name: String,
    pub(super) note: Option<String>,
    pub(super) generated: bool,
    pub(super) details: Option<KeyDetails>,
}

/// Whose key it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDetails {
    /// The name of the organization.
    pub organization: String,
    /// The e-mail address of the user.
    pub email: String,
}

impl StoredKey {
    /// A key that a person made and pasted.
    pub fn manual(key: impl Into<SecretString>, name: impl Into<String>) -> Self {
        Self { key: key.into(), name: name.into(), note: None, generated: false, details: None }
    }

    /// A key that a program made for the user.
    pub fn generated(key: impl Into<SecretString>, name: impl Into<String>, details: KeyDetails) -> Self {
        Self { key: key.into(), name: name.into(), note: None, generated: true, details: Some(details) }
    }

    /// Adds a note, to a manual key; a generated one has none.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into()).filter(|_| !self.generated);
        self
    }

    /// Says whose key it is.
    #[must_use]
    pub fn details(mut self, details: KeyDetails) -> Self {
        self.details = Some(details);
        self
    }

    /// The key itself.
    pub fn key(&self) -> &SecretString {
        &self.key
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The note of a manual key.
    pub fn note_text(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Whether a program made it.
    pub fn is_generated(&self) -> bool {
        self.generated
    }

    /// Whose key it is, where that is known; always of a generated one.
    pub fn owner(&self) -> Option<&KeyDetails> {
        self.details.as_ref()
    }
}
