//! The error of a call: what happened, to which request, after how many attempts, and what limit ended it.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use tinkex_types::ErrorCategory;

use crate::{ApiResponse, TransportError, TransportErrorKind, redact};

/// The coarse kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HttpErrorKind {
    /// No connection to the server could be made.
    Connect,
    /// An attempt ran out of time, or the call did before its first attempt. (A call that does later ends with what
    /// its last attempt met, and names the deadline as its limit.)
    Timeout,
    /// The connection broke before the response was complete.
    Interrupted,
    /// The server answered with a status that is an error.
    Status,
    /// The response could not be understood.
    Decode,
    /// No credential could be had.
    Auth,
    /// The request itself cannot be sent.
    InvalidRequest,
    /// The caller no longer wants the answer.
    Abandoned,
}

/// How far a failed call got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Delivery {
    /// No attempt reached the server.
    NeverSent,
    /// The server refused every attempt that reached it: nothing was accepted.
    Rejected,
    /// At least one attempt may have been processed.
    Uncertain,
}

/// A failed call.
pub struct HttpError(Box<Inner>);

struct Inner {
    kind: HttpErrorKind,
    operation: &'static str,
    message: String,
    status: Option<StatusCode>,
    category: Option<ErrorCategory>,
    retry_after: Option<Duration>,
    body: Bytes,
    attempts: u32,
    elapsed: Duration,
    limit: Option<String>,
    delivery: Delivery,
    permanent: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Bodies are kept up to this length, for whoever wants to look.
const KEPT_BODY: usize = 64 * 1024;
/// Messages are kept up to this length.
const KEPT_MESSAGE: usize = 500;

impl HttpError {
    pub(crate) fn new(kind: HttpErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            operation,
            message: message.into(),
            status: None,
            category: None,
            retry_after: None,
            body: Bytes::new(),
            attempts: 0,
            elapsed: Duration::ZERO,
            limit: None,
            delivery: Delivery::NeverSent,
            permanent: false,
            source: None,
        }))
    }

    pub(crate) fn transport(operation: &'static str, error: TransportError) -> Self {
        let kind = match error.kind() {
            TransportErrorKind::Connect => HttpErrorKind::Connect,
            TransportErrorKind::Timeout => HttpErrorKind::Timeout,
            TransportErrorKind::Decode => HttpErrorKind::Decode,
            TransportErrorKind::Interrupted | TransportErrorKind::Other => HttpErrorKind::Interrupted,
        };
        let mut out = Self::new(kind, operation, error.to_string());
        out.0.permanent = error.is_permanent();
        out.with_source(error)
    }

    pub(crate) fn status_error(
        operation: &'static str,
        status: StatusCode,
        message: String,
        body: Bytes,
        retry_after: Option<Duration>,
    ) -> Self {
        let mut error = Self::new(HttpErrorKind::Status, operation, message);
        error.0.status = Some(status);
        error.0.category = body_category(&body);
        error.0.retry_after = retry_after;
        // A slice of a large body would keep all of it alive.
        error.0.body = if body.len() > KEPT_BODY { Bytes::copy_from_slice(&body[..KEPT_BODY]) } else { body };
        error
    }

    pub(crate) fn undecodable(response: &ApiResponse, error: &serde_json::Error) -> Self {
        let message = match html_title(&response.body) {
            Some(title) => {
                format!("the response cannot be read: it is {title}, not JSON; is this the right base URL?")
            }
            None => format!("the response cannot be read: {error}"),
        };
        // The reader quotes what it did not expect.
        let message = redact::scrub(message, response.credential.as_ref());
        let mut out = Self::new(HttpErrorKind::Decode, response.operation, message);
        out.0.status = Some(response.status);
        out.0.attempts = response.attempts;
        out.0.elapsed = response.elapsed;
        out.0.delivery = Delivery::Uncertain;
        out
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn after(mut self, attempts: u32, elapsed: Duration, delivery: Delivery) -> Self {
        self.0.attempts = attempts;
        self.0.elapsed = elapsed;
        self.0.delivery = delivery;
        self
    }

    pub(crate) fn advising(mut self, advice: &str) -> Self {
        self.0.message.push_str("; ");
        self.0.message.push_str(advice);
        self
    }

    pub(crate) fn gave_up(mut self, limit: Option<String>) -> Self {
        self.0.limit = limit;
        self
    }

    /// What happened, coarsely.
    pub fn kind(&self) -> HttpErrorKind {
        self.0.kind
    }

    /// The operation that failed, such as `asample`.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The status, where the server answered.
    pub fn status(&self) -> Option<u16> {
        self.0.status.map(|status| status.as_u16())
    }

    /// Whose fault it is: what the body says, else what the status implies.
    pub fn category(&self) -> ErrorCategory {
        match (self.0.category, self.0.kind, self.0.status) {
            (Some(category), _, _) => category,
            (None, HttpErrorKind::Status, Some(status)) => ErrorCategory::of_status(status.as_u16()),
            (None, HttpErrorKind::Auth | HttpErrorKind::InvalidRequest, _) => ErrorCategory::User,
            _ => ErrorCategory::Unknown,
        }
    }

    /// The server's hint when to come back, where it gave one within (0, 60 s].
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// How many attempts were made; 0 where nothing was sent.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// How long the call took, waits included.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed
    }

    /// The limit that ended the call, where one did: of retries, of time, of a billing pause, or the deadline.
    pub fn limit(&self) -> Option<&str> {
        self.0.limit.as_deref()
    }

    /// Whether no connection was made for a reason that does not pass by itself, such as a certificate that is not
    /// trusted. Not worth a retry.
    pub fn is_permanent(&self) -> bool {
        self.0.permanent
    }

    /// How far the call got.
    pub fn delivery(&self) -> Delivery {
        self.0.delivery
    }

    /// The body of the response, decompressed, at most 64 KiB of it, and without the credential where it echoed it.
    pub fn body(&self) -> &Bytes {
        &self.0.body
    }

    /// What happened, in words, without the operation and the counts.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        write!(f, "{}: ", inner.operation)?;
        match inner.status {
            Some(status) if inner.message.is_empty() => write!(f, "HTTP {}", status.as_u16())?,
            Some(status) => write!(f, "HTTP {}: {}", status.as_u16(), inner.message)?,
            None => f.write_str(&inner.message)?,
        }
        if inner.attempts > 0 {
            let plural = if inner.attempts == 1 { "" } else { "s" };
            write!(f, " (after {} attempt{plural} in {:.1} s", inner.attempts, inner.elapsed.as_secs_f64())?;
            if let Some(limit) = &inner.limit {
                write!(f, "; gave up: {limit}")?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Debug for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpError")
            .field("kind", &self.0.kind)
            .field("message", &self.to_string())
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl StdError for HttpError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

/// The category that an error body names itself.
pub(crate) fn body_category(body: &[u8]) -> Option<ErrorCategory> {
    #[derive(Deserialize)]
    struct Categorised {
        category: Option<String>,
    }
    if body.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice::<Categorised>(body).ok()?.category.map(|text| ErrorCategory::parse(&text))
}

/// An HTML page by its title, `an HTML page titled "Bad gateway"`; none where the body is something else.
fn html_title(body: &[u8]) -> Option<String> {
    if body.trim_ascii_start().first() != Some(&b'<') {
        return None;
    }
    let beginning = String::from_utf8_lossy(body.get(..16 * 1024).unwrap_or(body));
    // Of the same length, so that places found in one are places in the other.
    let lower = beginning.to_ascii_lowercase();
    if !lower.contains("<html") {
        return None;
    }
    let begin = lower.find("<title>")? + "<title>".len();
    let end = begin + lower.get(begin..)?.find("</title>")?;
    let title = beginning.get(begin..end)?.split_whitespace().collect::<Vec<_>>().join(" ");
    (!title.is_empty()).then(|| format!("an HTML page titled {:?}", one_line(&title)))
}

/// What an error body says to people: its `detail`, `message` or `error` where it is JSON with one, the title where
/// it is an HTML page with one, else its text; one line of at most 500 characters.
pub(crate) fn body_message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Said {
        detail: Option<serde_json::Value>,
        message: Option<serde_json::Value>,
        error: Option<serde_json::Value>,
    }
    let said = serde_json::from_slice::<Said>(body).ok();
    match said.and_then(|said| said.detail.or(said.message).or(said.error)) {
        Some(serde_json::Value::String(text)) => one_line(&text),
        Some(value) => one_line(&value.to_string()),
        None => html_title(body).unwrap_or_else(|| body_excerpt(body)),
    }
}

/// The beginning of a body, as one line of at most 500 characters.
pub(crate) fn body_excerpt(body: &[u8]) -> String {
    // No character takes more than four bytes; a long body need not be looked at beyond that.
    let beginning = body.trim_ascii_start();
    let cut = beginning.get(..4 * (KEPT_MESSAGE + 1)).unwrap_or(beginning);
    one_line(&String::from_utf8_lossy(cut))
}

/// Line breaks and other control characters would let a server write log lines of its own.
fn one_line(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let text = text.trim();
    match text.char_indices().nth(KEPT_MESSAGE) {
        Some((end, _)) => text[..end].chars().map(clean).chain(['…']).collect(),
        None => text.chars().map(clean).collect(),
    }
}
