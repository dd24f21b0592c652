//! A request that is not carried out: a status and a reason a person can read.

use std::time::Duration;

use crate::Reply;

/// Why a request was refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: u16,
    detail: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(status: u16, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), retry_after: None }
    }

    /// The reason.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    pub(crate) fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let reply = Self::detail(refusal.status, refusal.detail);
        match refusal.retry_after {
            Some(wait) => reply.header("retry-after-ms", &wait.as_millis().to_string()),
            None => reply,
        }
    }
}
