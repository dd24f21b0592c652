//! A response, whole and decompressed.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::de::DeserializeOwned;

use crate::{HttpError, redact, shown_headers};

/// The final response of a call.
#[derive(Clone)]
#[non_exhaustive]
pub struct ApiResponse {
    /// Its status; a 2xx unless the request asked for any.
    pub status: StatusCode,
    /// Its headers; where `Content-Encoding` was undone, without it and without the length before.
    pub headers: HeaderMap,
    /// Its body, decompressed.
    pub body: Bytes,
    /// The server's hint when to come back, where an error status came with one (only with
    /// [`ApiRequest::any_status`](crate::ApiRequest::any_status)).
    pub retry_after: Option<Duration>,
    /// How many attempts the call took, at least 1.
    pub attempts: u32,
    /// How long the call took, waits included.
    pub elapsed: Duration,
    pub(crate) operation: &'static str,
    /// What was sent as the credential.
    pub(crate) credential: Option<HeaderValue>,
}

impl ApiResponse {
    /// Reads the body as JSON, whatever its media type says (PROTOCOL 5.2).
    ///
    /// # Errors
    /// A decode error that names the operation. Not worth a retry.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        serde_json::from_slice(&self.body).map_err(|e| HttpError::undecodable(self, &e))
    }

    /// A text of this response as it may be shown to people: without the credential of the request, and without whatever
    /// else looks like one, should the service echo it.
    #[must_use]
    pub fn shown(&self, text: String) -> String {
        redact::scrub(text, self.credential.as_ref())
    }

    /// This response with a body that may be shown to people. It is not to be decoded any more: a credential can be a word
    /// that stands in it by accident.
    #[must_use]
    pub fn scrubbed(mut self) -> Self {
        self.body = redact::shown_body(self.body, self.credential.as_ref());
        self
    }

    /// The media type, in lower case and without parameters.
    pub fn media_type(&self) -> Option<String> {
        let value = self.headers.get(http::header::CONTENT_TYPE)?.to_str().ok()?;
        Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
    }
}

/// Bodies and most headers stay out: they may hold tokens and prompts.
impl fmt::Debug for ApiResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiResponse")
            .field("operation", &self.operation)
            .field("status", &self.status.as_u16())
            .field("headers", &shown_headers(&self.headers))
            .field("body_bytes", &self.body.len())
            .field("attempts", &self.attempts)
            .field("elapsed", &self.elapsed)
            .finish()
    }
}
