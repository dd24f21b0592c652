//! One logical request: what to send, and under which rules.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use serde::Serialize;
use tinkex_types::InvalidInput;

use crate::{AttemptGate, CallClass, RetryPolicy, content_encoding};

/// A request to the service. The body is encoded once; every attempt sends the same bytes under the same idempotency
/// key (F-14).
#[derive(Clone)]
pub struct ApiRequest {
    pub(crate) method: Method,
    pub(crate) path: Cow<'static, str>,
    pub(crate) operation: &'static str,
    /// In the order they were added; of two with the same name the later one counts.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
    pub(crate) content_type: Option<HeaderValue>,
    pub(crate) accept: HeaderValue,
    pub(crate) class: CallClass,
    pub(crate) timeout: Duration,
    pub(crate) deadline: Option<Duration>,
    pub(crate) policy: Option<RetryPolicy>,
    pub(crate) gate: Option<Arc<dyn AttemptGate>>,
    pub(crate) idempotency_key: Option<HeaderValue>,
    pub(crate) any_status: bool,
    pub(crate) retry_conflict: bool,
    pub(crate) quiet: bool,
}

impl ApiRequest {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");

    fn new(method: Method, operation: &'static str, path: Cow<'static, str>) -> Self {
        Self {
            method,
            path,
            operation,
            // What a poll adds.
            headers: Vec::with_capacity(6),
            body: Bytes::new(),
            content_type: None,
            accept: Self::JSON,
            class: CallClass::Normal,
            timeout: Duration::from_secs(60),
            deadline: None,
            policy: None,
            gate: None,
            idempotency_key: None,
            any_status: false,
            retry_conflict: true,
            quiet: false,
        }
    }

    /// A GET. `operation` is its name in errors, logs and metrics: bounded, without ids.
    pub fn get(operation: &'static str, path: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Method::GET, operation, path.into())
    }

    /// A POST with a JSON body.
    ///
    /// # Errors
    /// Where the body cannot be written as JSON, such as a map with keys that are no text.
    pub fn post_json(
        operation: &'static str,
        path: impl Into<Cow<'static, str>>,
        body: &impl Serialize,
    ) -> Result<Self, InvalidInput> {
        let mut text = Vec::with_capacity(128);
        serde_json::to_writer(&mut text, body)
            .map_err(|e| InvalidInput::new("request body", format!("cannot be written as JSON: {e}")))?;
        Ok(Self::post_bytes(operation, path, text, Self::JSON))
    }

    /// A POST with bytes of another type.
    pub fn post_bytes(
        operation: &'static str,
        path: impl Into<Cow<'static, str>>,
        body: impl Into<Bytes>,
        content_type: HeaderValue,
    ) -> Self {
        let request = Self::new(Method::POST, operation, path.into());
        Self { body: body.into(), content_type: Some(content_type), ..request }
    }

    /// Adds a header; it wins over the client's own.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Sets `Accept`. Default `application/json`.
    #[must_use]
    pub fn accept(mut self, accept: HeaderValue) -> Self {
        self.accept = accept;
        self
    }

    /// Sets the call class. Default [`CallClass::Normal`].
    #[must_use]
    pub fn class(mut self, class: CallClass) -> Self {
        self.class = class;
        self
    }

    /// Sets the time one attempt may take, over connecting, headers and body. Default 60 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the time the whole call may take, over all attempts, the waits between them and at the gate, and the
    /// credential. A wait that would reach it is not begun. Where an attempt was made before, the error is what that
    /// attempt met, with the deadline as its [`limit`](crate::HttpError::limit). Default none.
    #[must_use]
    pub fn deadline(mut self, deadline: impl Into<Option<Duration>>) -> Self {
        self.deadline = deadline.into();
        self
    }

    /// Sets the retry policy. Default: the client's.
    #[must_use]
    pub fn policy(mut self, policy: RetryPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Puts the request behind a gate: it waits there before each attempt, and a 429 closes it.
    #[must_use]
    pub fn gate(mut self, gate: Arc<dyn AttemptGate>) -> Self {
        self.gate = Some(gate);
        self
    }

    /// Sets the idempotency key. Default: a random one, the same for all attempts.
    #[must_use]
    pub fn idempotency_key(mut self, key: HeaderValue) -> Self {
        self.idempotency_key = Some(key);
        self
    }

    /// Returns the final response whatever its status, instead of an error for those that are not 2xx.
    #[must_use]
    pub fn any_status(mut self) -> Self {
        self.any_status = true;
        self
    }

    /// Compresses the body with zstd, at the default level, and says so. Done here, once for all attempts. Without
    /// the feature `zstd` the request stays as it is.
    #[must_use]
    pub fn compressed(self) -> Self {
        match content_encoding::compress(&self.body) {
            Some((body, encoding)) => Self { body, ..self }.header(http::header::CONTENT_ENCODING, encoding),
            None => self,
        }
    }

    /// Says whether a 409 may pass when tried again. Default true.
    #[must_use]
    pub fn retry_conflict(mut self, retry: bool) -> Self {
        self.retry_conflict = retry;
        self
    }

    /// Says that nobody waits for this call: its retries are told at debug level only, and a billing pause (402) ends it
    /// instead of being waited out and announced.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }
}

impl fmt::Debug for ApiRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiRequest({} {}, {} bytes)", self.method, self.path, self.body.len())
    }
}
