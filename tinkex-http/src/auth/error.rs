//! Why no credential could be had.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Why there is no credential. A cheap clone, so that one failure can be told to everybody who waited for it.
#[derive(Clone, Debug)]
pub struct AuthError {
    message: String,
    status: Option<u16>,
    transient: bool,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl AuthError {
    /// An error with a message for the user.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), status: None, transient: false, source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Says that a service refused to give a credential, and with which status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Says that the same may succeed later, as where a service that gives credentials is out of reach. Default: not.
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

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for AuthError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
