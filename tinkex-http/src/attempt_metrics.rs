//! What is measured of one attempt.

use http::StatusCode;
use tinkex_metrics::contract;
use tokio::time::Instant;

use crate::TransportErrorKind;

/// An attempt on the wire. Dropped before its end, it counts as nothing.
pub(crate) struct AttemptMetrics {
    operation: &'static str,
    begun: Instant,
}

impl AttemptMetrics {
    pub(crate) fn begin(operation: &'static str) -> Self {
        Self { operation, begun: Instant::now() }
    }

    /// The answer is there.
    pub(crate) fn answered(self, status: StatusCode) {
        self.end(of_status(status));
    }

    /// There is no answer.
    pub(crate) fn failed(self, kind: TransportErrorKind) {
        self.end(match kind {
            TransportErrorKind::Connect => "connect",
            TransportErrorKind::Timeout => "timeout",
            TransportErrorKind::Interrupted => "interrupted",
            TransportErrorKind::Decode => "decode",
            _ => "other",
        });
    }

    fn end(self, outcome: &'static str) {
        let took = Instant::now().saturating_duration_since(self.begun);
        contract::HTTP_ATTEMPT_DURATION.record([self.operation, outcome], took);
    }
}

/// The statuses that mean something of their own to the retry loop, and the classes of the others.
fn of_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "401",
        402 => "402",
        408 => "408",
        409 => "409",
        410 => "410",
        429 => "429",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "other",
    }
}
