//! The span of one attempt, as OpenTelemetry's semantic conventions for HTTP clients have it. `docs/traces.md` lists its
//! fields.
//!
//! It is a span of `tracing`: where no subscriber wants it, nothing is formatted and nothing allocated.

use http::StatusCode;
use tracing::Span;
use tracing::field::Empty;

use crate::{ApiRequest, BaseUrl, CallClass, TransportError, TransportErrorKind};

/// An attempt as traces show it. An attempt that is dropped leaves a span with neither a status nor an error.
pub(crate) struct AttemptSpan(Span);

impl AttemptSpan {
    /// Opens the span, below the one that is current. `resends` is how many attempts came before.
    pub(crate) fn open(base_url: &BaseUrl, request: &ApiRequest, resends: u32) -> Self {
        Self(tracing::debug_span!(
            target: "tinkex_http::attempt",
            "http_request",
            otel.name = format_args!("{} {}", request.method, request.operation),
            otel.kind = "client",
            http.request.method = request.method.as_str(),
            url.template = request.operation,
            server.address = base_url.host(),
            server.port = base_url.port(),
            http.request.resend_count = (resends > 0).then_some(resends),
            http.response.status_code = Empty,
            error.type = Empty,
            otel.status_code = Empty,
        ))
    }

    pub(crate) fn inner(&self) -> Span {
        self.0.clone()
    }

    /// The span itself, or the one around it where nobody wants to see attempts.
    pub(crate) fn or_current(&self) -> Span {
        self.0.clone().or_current()
    }

    /// Notes the status of the answer. What is no success is an error, but for a 408 to a long poll: that is how a server
    /// says that there is no result yet.
    pub(crate) fn answered(&self, status: StatusCode, class: CallClass) {
        self.0.record("http.response.status_code", status.as_u16());
        let pending = status == StatusCode::REQUEST_TIMEOUT && class == CallClass::LongPoll;
        if !status.is_success() && !pending {
            self.fail(status.as_str());
        }
    }

    /// Notes that no answer came.
    pub(crate) fn failed(&self, error: &TransportError) {
        self.fail(match error.kind() {
            TransportErrorKind::Connect => "connect",
            TransportErrorKind::Timeout => "timeout",
            TransportErrorKind::Interrupted => "interrupted",
            TransportErrorKind::Decode => "decode",
            TransportErrorKind::Other => "other",
        });
    }

    fn fail(&self, kind: &str) {
        self.0.record("error.type", kind);
        self.0.record("otel.status_code", "ERROR");
    }
}
