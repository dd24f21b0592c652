//! A request that is not carried out: a status and a reason a person can read.

use std::time::Duration;

use crate::Reply;

/// Why a request was refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: u16,
    detail: String,
    retry_after: Option<Duration>,
    invalid_token: bool,
}

impl Refusal {
    pub(crate) fn new(status: u16, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), retry_after: None, invalid_token: false }
    }

    /// A 401 that asks for another token (PROTOCOL 3.4).
    pub(crate) fn invalid_token(detail: &str) -> Self {
        Self { invalid_token: true, ..Self::new(401, detail) }
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
        let mut reply = Self::detail(refusal.status, refusal.detail);
        if refusal.invalid_token {
            reply = reply.header("www-authenticate", r#"Bearer realm="tinker", error="invalid_token""#);
        }
        match refusal.retry_after {
            Some(wait) => reply.header("retry-after-ms", &wait.as_millis().to_string()),
            None => reply,
        }
    }
}
