//! Why no credential could be had.

/// Why there is no credential.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct AuthError {
    message: String,
    status: Option<u16>,
    transient: bool,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl AuthError {
    /// An error with a message for the user.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), status: None, transient: false, source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says that a service refused to give a credential, and with which status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Says that the same may succeed later, as where a service that gives credentials is out of reach.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.transient = true;
        self
    }

    /// The status with which a service refused to give a credential, where one did.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// Whether the same may succeed later.
    pub fn is_transient(&self) -> bool {
        self.transient
    }
}
