//! One attempt: headers, one deadline, redirects, decompression.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use tracing::Instrument as _;
use url::Url;

use crate::attempt_metrics::AttemptMetrics;
use crate::attempt_span::AttemptSpan;
use crate::classify::Evidence;
use crate::client::Inner;
use crate::error::{Delivery, HttpError, HttpErrorKind, body_category, body_excerpt, body_message};
use crate::progress::Progress;
use crate::{
    ApiRequest, Refusal, Transport as _, TransportError, TransportErrorKind, content_encoding, headers,
    redact, retry_after, trace_context,
};

/// Redirects that one attempt follows.
const MAX_REDIRECTS: usize = 10;

/// What is said of a rejection by the edge.
const EDGE: &str = "something in front of the service turned the request down (HTTP 400 without a body)";

/// A response as it came, decompressed.
pub(crate) struct RawResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) hint: Option<Duration>,
    /// Whether a length other than zero was announced for the body.
    pub(crate) announced: bool,
    /// What the body says to people.
    pub(crate) message: String,
    /// What was sent as the credential.
    pub(crate) credential: Option<HeaderValue>,
}

/// Why an attempt did not succeed.
pub(crate) enum AttemptFailure {
    Transport(TransportError),
    /// Something in front of the service turned the request down (PROTOCOL 7.3).
    Edge,
    /// A response whose status is not a 2xx.
    Status(Box<RawResponse>),
}

/// Makes one attempt. `retries` is how many came before it, `remaining` what is left of the call's deadline.
pub(crate) async fn run(
    client: &Inner,
    request: &ApiRequest,
    uri: &Uri,
    mut credential: Option<HeaderValue>,
    idempotency_key: Option<&HeaderValue>,
    retries: u32,
    remaining: Option<Duration>,
) -> Result<RawResponse, AttemptFailure> {
    if let Some(credential) = &mut credential {
        // Whatever the provider made of it, no Debug of a request shows it.
        credential.set_sensitive(true);
    }
    let limit = remaining.map_or(request.timeout, |remaining| remaining.min(request.timeout));
    let on_the_wire = AttemptMetrics::begin(request.operation);
    let span = AttemptSpan::open(&client.base_url, request, retries);
    let injected = client.propagation.headers(&span);
    let headers = || {
        let credential = credential.clone();
        let mut headers =
            headers::for_attempt(&client.defaults, request, idempotency_key, retries, credential);
        trace_context::add(&injected, &mut headers);
        headers
    };
    let progress = Progress::default();
    let exchange = exchange(client, request, uri, &headers, &progress).instrument(span.inner());
    let outcome = tokio::time::timeout(limit, exchange).await.unwrap_or_else(|_| {
        Err(TransportError::new(TransportErrorKind::Timeout, progress.out_of_time(limit)))
    });
    let Answer { status, headers, body, announced } = match outcome {
        Ok(response) => response,
        Err(error) => {
            on_the_wire.failed(error.kind());
            span.failed(&error);
            return Err(AttemptFailure::Transport(error.scrubbed(credential.as_ref())));
        }
    };
    on_the_wire.answered(status);
    span.answered(status, request.class);
    client.deprecations.announce(&headers, credential.as_ref());
    if status.is_success() {
        let message = String::new();
        return Ok(RawResponse { status, headers, body, hint: None, announced, message, credential });
    }
    let hint = retry_after(&headers, &body, client.clock.now());
    // Before anything is made of the body: error bodies may echo the request.
    let body = redact::scrub_body(body, credential.as_ref());
    let message = redact::scrub(body_message(&body), credential.as_ref());
    let response = RawResponse { status, headers, body, hint, announced, message, credential };
    Err(AttemptFailure::Status(Box::new(response)))
}

/// What came back at last, decompressed.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    announced: bool,
}

/// One exchange, following redirects. Once a redirect has left the origin, everything that identifies the caller
/// stays behind for good.
async fn exchange(
    client: &Inner,
    request: &ApiRequest,
    uri: &Uri,
    headers: &(dyn Fn() -> HeaderMap + Sync),
    progress: &Progress,
) -> Result<Answer, TransportError> {
    let mut target = uri.clone();
    let mut method = request.method.clone();
    let mut body = request.body.clone();
    let mut left_origin = false;
    for _ in 0..=MAX_REDIRECTS {
        let mut outgoing = http::Request::new(body.clone());
        *outgoing.method_mut() = method.clone();
        *outgoing.uri_mut() = target.clone();
        outgoing.extensions_mut().insert(request.class);
        *outgoing.headers_mut() = headers();
        if left_origin {
            redact::keep_anonymous(outgoing.headers_mut());
        }
        if method == Method::GET {
            outgoing.headers_mut().remove(http::header::CONTENT_TYPE);
            outgoing.headers_mut().remove(http::header::CONTENT_ENCODING);
        }
        let response = client.transport.call(outgoing).await?;
        let (mut parts, incoming) = response.into_parts();
        if let Some(location) = redirect_target(&parts.headers, parts.status) {
            let (next, same_origin) = resolve(&target, location)?;
            left_origin |= !same_origin;
            if matches!(parts.status.as_u16(), 301..=303) {
                method = Method::GET;
                body = Bytes::new();
            }
            target = next;
            continue;
        }
        progress.head();
        let announced = parts.headers.get(http::header::CONTENT_LENGTH).is_some_and(|length| length != "0");
        let body = incoming.collect_noting(client.max_response_bytes, progress).await?;
        let body = content_encoding::undo(&mut parts.headers, body, client.max_response_bytes)?;
        return Ok(Answer { status: parts.status, headers: parts.headers, body, announced });
    }
    Err(TransportError::new(TransportErrorKind::Decode, format!("more than {MAX_REDIRECTS} redirects")))
}

fn redirect_target(headers: &HeaderMap, status: StatusCode) -> Option<&str> {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
        .then(|| headers.get(http::header::LOCATION)?.to_str().ok())
        .flatten()
}

/// Where a redirect leads, and whether that is the same origin.
fn resolve(from: &Uri, location: &str) -> Result<(Uri, bool), TransportError> {
    let refused = |why: &dyn fmt::Display| {
        // A query may be a signature: it stays out of messages.
        let shown = location.split(['?', '#']).next().unwrap_or_default();
        let message = format!("cannot follow the redirect to {shown:?}: {why}");
        TransportError::new(TransportErrorKind::Decode, message)
    };
    let here = Url::parse(&from.to_string()).map_err(|e| refused(&e))?;
    let next = here.join(location).map_err(|e| refused(&e))?;
    if !matches!(next.scheme(), "http" | "https") {
        return Err(refused(&"not HTTP"));
    }
    if here.scheme() == "https" && next.scheme() == "http" {
        return Err(refused(&"it leaves TLS"));
    }
    let same_origin = here.origin() == next.origin();
    Ok((next.as_str().parse().map_err(|e| refused(&e))?, same_origin))
}

impl AttemptFailure {
    pub(crate) fn is_timeout(&self) -> bool {
        matches!(self, Self::Transport(error) if error.kind() == TransportErrorKind::Timeout)
    }

    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Status(response) => Some(response.status.as_u16()),
            _ => None,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status(response) => response.hint,
            _ => None,
        }
    }

    pub(crate) fn refusal(&self) -> Option<Refusal<'_>> {
        match self {
            Self::Transport(_) | Self::Edge => None,
            Self::Status(response) => {
                Some(Refusal { status: response.status.as_u16(), body: &response.body })
            }
        }
    }

    pub(crate) fn evidence(&self, request: &ApiRequest) -> Evidence {
        let evidence = Evidence { retry_conflict: request.retry_conflict, ..Evidence::default() };
        match self {
            Self::Transport(error) => Evidence {
                transport: Some(error.kind()),
                should_retry: error.is_permanent().then_some(false),
                ..evidence
            },
            Self::Edge => Evidence { edge: true, ..evidence },
            Self::Status(response) => Evidence {
                status: Some(response.status.as_u16()),
                category: body_category(&response.body),
                should_retry: match response.headers.get(headers::SHOULD_RETRY).map(HeaderValue::as_bytes) {
                    Some(b"true") => Some(true),
                    Some(b"false") => Some(false),
                    _ => None,
                },
                ..evidence
            },
        }
    }

    pub(crate) fn delivery(&self) -> Delivery {
        match self {
            Self::Transport(error) if error.kind() == TransportErrorKind::Connect => Delivery::NeverSent,
            Self::Edge => Delivery::Rejected,
            // 501 is the one server error that says what it did: nothing.
            Self::Status(response)
                if (response.status.is_client_error() && response.status != 408)
                    || response.status == StatusCode::NOT_IMPLEMENTED =>
            {
                Delivery::Rejected
            }
            Self::Transport(_) | Self::Status(_) => Delivery::Uncertain,
        }
    }

    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Transport(_) => "transport",
            Self::Edge => "edge",
            Self::Status(_) => "status",
        }
    }

    /// The text that the billing line quotes (PROTOCOL 6), cut where it is long.
    pub(crate) fn billing_text(&self) -> String {
        match self {
            Self::Status(response) if response.body.is_empty() => {
                format!("Error code: {}", response.status.as_u16())
            }
            Self::Status(response) => {
                format!("Error code: {} - {}", response.status.as_u16(), body_excerpt(&response.body))
            }
            Self::Transport(_) | Self::Edge => self.to_string(),
        }
    }

    pub(crate) fn into_error(self, operation: &'static str) -> HttpError {
        match self {
            Self::Transport(error) => HttpError::transport(operation, error),
            Self::Edge => HttpError::new(HttpErrorKind::Interrupted, operation, EDGE),
            Self::Status(response) => {
                let RawResponse { status, body, hint, message, .. } = *response;
                HttpError::status_error(operation, status, message, body, hint)
            }
        }
    }
}

impl fmt::Display for AttemptFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(error) => error.fmt(f),
            Self::Edge => f.write_str(EDGE),
            Self::Status(response) if response.message.is_empty() => {
                write!(f, "HTTP {}", response.status.as_u16())
            }
            Self::Status(response) => write!(f, "HTTP {}: {}", response.status.as_u16(), response.message),
        }
    }
}
