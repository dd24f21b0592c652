//! What is measured of one attempt.

use http::StatusCode;
use tinkex_metrics::{Raised, contract};
use tokio::time::Instant;

use crate::TransportErrorKind;

/// An attempt on the wire. Dropped before its end, it counts as nothing but in flight.
pub(crate) struct AttemptMetrics {
    operation: &'static str,
    begun: Instant,
    _in_flight: Raised,
}

impl AttemptMetrics {
    pub(crate) fn begin(operation: &'static str, sent_bytes: usize) -> Self {
        contract::HTTP_SENT_BYTES.add([operation], sent_bytes as u64);
        let in_flight = contract::HTTP_ATTEMPTS_IN_FLIGHT.raise([operation], 1.0);
        Self { operation, begun: Instant::now(), _in_flight: in_flight }
    }

    /// The answer is there, with a body of so many bytes.
    pub(crate) fn answered(self, status: StatusCode, received_bytes: usize) {
        contract::HTTP_RECEIVED_BYTES.add([self.operation], received_bytes as u64);
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
