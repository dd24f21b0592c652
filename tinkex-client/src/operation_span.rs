//! The span of a logical request: a sample, an operation of training, the creation of a client. The spans of its attempts
//! are below it. `docs/traces.md` lists its fields.
//!
//! It is at INFO: a span prints nothing by itself, and what it shows is what a user has called. Attempts are at DEBUG.
//! Where no subscriber wants it, nothing is allocated for it.

use std::future::Future;

use tinkex_types::RequestType;
use tracing::field::{Empty, display};
use tracing::instrument::Instrumented;
use tracing::{Instrument as _, Span};

use crate::inflight::Row;
use crate::{Error, ErrorKind};

/// A logical request as traces show it.
#[derive(Clone, Debug)]
pub(crate) struct OperationSpan(Span, &'static str);

impl OperationSpan {
    /// Opens the span, below the one that is current: called where the user calls. `method` is the public method.
    pub(crate) fn open(method: &'static str, kind: Option<RequestType>, client_id: Option<&str>) -> Self {
        let span = tracing::info_span!(
            target: "tinkex_client::operation",
            "operation",
            otel.name = method,
            otel.kind = "internal",
            tinker.request_type = kind.map(RequestType::as_str),
            tinker.client_id = client_id,
            tinker.request_id = Empty,
            tinker.queue_state = Empty,
            tinker.polls = Empty,
            error.type = Empty,
            otel.status_code = Empty,
        );
        Self(span, method)
    }

    /// The public method that was called.
    pub(crate) fn method(&self) -> &'static str {
        self.1
    }

    /// Lets `work` run inside the span; where nobody wants it, inside the one that is current now, so that attempts are
    /// below what the caller has opened.
    pub(crate) fn around<F: Future>(&self, work: F) -> Instrumented<F> {
        work.instrument(self.0.clone().or_current())
    }

    /// [`around`](Self::around) for work that is the whole of the request: its failure is noted too.
    pub(crate) async fn cover<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let outcome = self.around(work).await;
        if let Err(error) = &outcome {
            self.failed(error);
        }
        outcome
    }

    /// Notes for which client this is, where that was not known at the beginning.
    pub(crate) fn client_id(&self, id: &str) {
        self.0.record("tinker.client_id", id);
    }

    /// Notes the promise, the last queue state, and how often the result was asked for.
    pub(crate) fn polled(&self, row: &Row) {
        if self.0.is_disabled() {
            return;
        }
        if let Some(request_id) = row.request_id() {
            self.0.record("tinker.request_id", &*request_id);
            self.0.record("tinker.polls", row.polls());
        }
        if let Some(state) = row.queue_state() {
            self.0.record("tinker.queue_state", display(state));
        }
    }

    /// Notes why the request failed.
    pub(crate) fn failed(&self, error: &Error) {
        self.0.record("error.type", error_type(error.kind()));
        self.0.record("otel.status_code", "ERROR");
    }

    /// Notes that nobody wants the result any more, which is no error.
    pub(crate) fn abandoned(&self) {
        self.0.record("error.type", "abandoned");
    }
}

/// The closed list of `error.type`.
fn error_type(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidInput => "invalid_input",
        ErrorKind::Auth => "auth",
        ErrorKind::Connection => "connection",
        ErrorKind::Timeout => "timeout",
        ErrorKind::Status => "status",
        ErrorKind::RequestFailed => "request_failed",
        ErrorKind::SequenceConflict => "sequence_conflict",
        ErrorKind::CustomLoss => "custom_loss",
        ErrorKind::Poisoned => "poisoned",
        ErrorKind::Expired => "expired",
        ErrorKind::Stuck => "stuck",
        ErrorKind::Decode => "decode",
        ErrorKind::Closed => "closed",
        ErrorKind::TaskEnded => "task_ended",
    }
}
