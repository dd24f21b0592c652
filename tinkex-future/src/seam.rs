//! The seam to the outside: "ask once for this request id".
//!
//! The poller knows no HTTP. Whoever can ask a server once about a promise implements [`Retrieve`]; all waiting,
//! repeating and judging of answers is the poller's. An implementation must not retry, must not read the status,
//! and must be cancel-safe: its future may be dropped at any await.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tinkex_types::{ErrorCategory, QueueState, RequestType};
use tokio::time::Instant;

/// An error of any kind, as a transport reports it.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// Asks a server once what became of a promise (PROTOCOL 16.1).
///
/// Over HTTP this is one `POST /api/v1/retrieve_future` with a timeout of 45 s and no retries inside. The answer is
/// handed over as it is: a status is never an error at this level.
pub trait Retrieve: Send + Sync {
    /// Asks once. Dropping the future must abandon the attempt.
    fn retrieve(&self, ask: &Ask<'_>) -> impl Future<Output = Outcome> + Send;
}

impl<T: Retrieve> Retrieve for Arc<T> {
    fn retrieve(&self, ask: &Ask<'_>) -> impl Future<Output = Outcome> + Send {
        T::retrieve(self, ask)
    }
}

impl<T: Retrieve> Retrieve for &T {
    fn retrieve(&self, ask: &Ask<'_>) -> impl Future<Output = Outcome> + Send {
        T::retrieve(self, ask)
    }
}

/// Makes a [`Retrieve`] from a closure. The future must own what it needs from the [`Ask`].
pub fn retrieve_fn<F, Fut>(ask_once: F) -> RetrieveFn<F>
where
    F: Fn(&Ask<'_>) -> Fut + Send + Sync,
    Fut: Future<Output = Outcome> + Send,
{
    RetrieveFn(ask_once)
}

/// A closure as a [`Retrieve`]; made by [`retrieve_fn`].
#[derive(Clone, Copy)]
pub struct RetrieveFn<F>(F);

impl<F> fmt::Debug for RetrieveFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RetrieveFn")
    }
}

impl<F, Fut> Retrieve for RetrieveFn<F>
where
    F: Fn(&Ask<'_>) -> Fut + Send + Sync,
    Fut: Future<Output = Outcome> + Send,
{
    fn retrieve(&self, ask: &Ask<'_>) -> impl Future<Output = Outcome> + Send {
        (self.0)(ask)
    }
}

/// One question about one promise: what the request has to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ask<'a> {
    /// The promise. Body field `request_id`.
    pub request_id: &'a str,
    /// What the promise is for. Header `X-Tinker-Request-Type`.
    pub request_type: RequestType,
    /// 0 for the first poll, then counting up. Header `X-Tinker-Request-Iteration`.
    pub iteration: u32,
    /// True until the server announced a large result; with false it sends the result itself. Body field
    /// `allow_metadata_only`.
    pub allow_metadata_only: bool,
    /// How long it took to get the promise; on iteration 0 only. Header
    /// `X-Tinker-Create-Promise-Roundtrip-Time`, in seconds.
    pub create_roundtrip: Option<Duration>,
    /// Since when this promise is polled, where that is known. Not sent; for reports of failures.
    pub since: Option<Instant>,
    /// How many 400s came since one was last forgiven. Not sent.
    pub rejections: u32,
    /// How many throttlings and lost connections came in a row before this ask. Not sent.
    pub setbacks: u32,
}

impl<'a> Ask<'a> {
    /// The first question about a promise.
    pub fn new(request_id: &'a str, request_type: RequestType) -> Self {
        Self {
            request_id,
            request_type,
            iteration: 0,
            allow_metadata_only: true,
            create_roundtrip: None,
            since: None,
            rejections: 0,
            setbacks: 0,
        }
    }
}

/// What came of asking once.
#[derive(Debug)]
pub enum Outcome {
    /// The server answered, whatever the status, and the body arrived whole.
    Response(RawResponse),
    /// No complete answer arrived.
    Unreachable {
        /// True where the request was sent and the answer did not come in time. A long poll that runs into the
        /// client's own timeout is an ordinary "still pending". A *connect* timeout is not: say false for it.
        timed_out: bool,
        /// What the transport reported.
        error: BoxError,
    },
}

/// Answers of something that is no Tinker server: a job queue, a file that will be there some day. A [`Retrieve`] over one
/// says with these what it found.
impl Outcome {
    /// Nothing yet. The next ask comes soon: after 50 ms, then later and later, every second in the end.
    pub fn pending() -> Self {
        RawResponse::json(200, r#"{"type":"try_again"}"#).into()
    }

    /// Nothing yet, for a reason that observers are told.
    pub fn paused(state: &QueueState, reason: &str) -> Self {
        let body = serde_json::json!({
            "type": "try_again", "queue_state": state.as_str(), "queue_state_reason": reason,
        });
        RawResponse::json(200, body.to_string()).into()
    }

    /// The result, which becomes the body of the [`Payload`](crate::Payload) as it is: a JSON value, and not null. The poll
    /// fails with [`Decode`](crate::PollErrorKind::Decode) where it is no JSON.
    pub fn finished(result: impl AsRef<[u8]>) -> Self {
        // In its envelope, so that no key of the result is taken for one that the poller knows.
        let body = [br#"{"status":"completed","result":"#, result.as_ref(), b"}"].concat();
        RawResponse::json(200, body).into()
    }

    /// It failed, and asking again is no use.
    pub fn failed(message: &str, category: ErrorCategory) -> Self {
        let body = serde_json::json!({ "error": message, "category": category.as_str() });
        RawResponse::json(200, body.to_string()).into()
    }

    /// Nobody answered. The next ask comes after growing pauses, until the policy's limit of outages.
    pub fn unreachable(error: impl Into<BoxError>) -> Self {
        Self::Unreachable { timed_out: false, error: error.into() }
    }
}

/// A server's answer, undecoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawResponse {
    /// The HTTP status.
    pub status: u16,
    /// The media type, as sent. It alone tells protobuf from JSON.
    pub content_type: Option<String>,
    /// The body, with any content encoding already undone.
    pub body: Bytes,
    /// The wait the headers ask for (`retry-after-ms`, `retry-after`), where they do.
    pub retry_after: Option<Duration>,
}

impl RawResponse {
    /// An answer with a JSON body.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type: Some("application/json".to_owned()),
            body: body.into(),
            retry_after: None,
        }
    }

    /// An answer with a protobuf body.
    pub fn protobuf(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type: Some("application/x-protobuf".to_owned()),
            body: body.into(),
            retry_after: None,
        }
    }

    /// Sets the wait that the headers ask for.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl From<RawResponse> for Outcome {
    fn from(response: RawResponse) -> Self {
        Self::Response(response)
    }
}
