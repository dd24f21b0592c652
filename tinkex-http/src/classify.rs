//! Whether a failed attempt is worth another: one function, one table (REQUIREMENTS 2.3).

use tinkex_types::ErrorCategory;

use crate::TransportErrorKind;

/// What is known of a finished attempt.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence {
    /// The status, where a response came.
    pub status: Option<u16>,
    /// The transport's failure, where none came.
    pub transport: Option<TransportErrorKind>,
    /// Whether something in front of the service turned the request down (PROTOCOL 7.3); then there is no status.
    pub edge: bool,
    /// The category that the body itself names; never an inferred one.
    pub category: Option<ErrorCategory>,
    /// The header `x-should-retry`, where it is exactly `true` or `false`.
    pub should_retry: Option<bool>,
    /// Whether a conflict (409) may pass: false for operations where it is final.
    pub retry_conflict: bool,
}

/// Why an attempt is repeated: a label for metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RetryCause {
    /// 429: the server asks for fewer requests.
    Throttled,
    /// 402: billing is paused.
    Billing,
    /// 408, or the attempt ran out of time.
    Timeout,
    /// 409.
    Conflict,
    /// A 5xx.
    Server,
    /// No connection was made.
    Connect,
    /// The connection broke.
    Interrupted,
    /// Something in front of the service turned the request down.
    Edge,
    /// The server's `x-should-retry: true`, or a body category, on any other status.
    Asked,
}

impl RetryCause {
    /// A label from a closed set.
    pub fn label(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Billing => "billing",
            Self::Timeout => "timeout",
            Self::Conflict => "conflict",
            Self::Server => "server",
            Self::Connect => "connect",
            Self::Interrupted => "interrupted",
            Self::Edge => "edge",
            Self::Asked => "asked",
        }
    }
}

/// What follows from the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A 2xx: done.
    Success,
    /// Worth another attempt.
    Retry(RetryCause),
    /// Final.
    Fail,
}

/// The decision table:
///
/// 1. 2xx is a success, whatever headers say (F-13).
/// 2. `x-should-retry` wins over everything else.
/// 3. A category in the body: `user` is final, `server` and `unknown` are retried.
/// 4. 408, 409, 429 and 5xx but 501 are retried, as are rejections by the edge and transport failures other than
///    undecodable bytes.
/// 5. 402 is waited out, as a billing pause.
/// 6. Everything else is final.
pub fn decide(evidence: &Evidence) -> Verdict {
    let Some(status) = evidence.status else {
        return match (evidence.should_retry, evidence.transport) {
            (Some(false), _) | (_, Some(TransportErrorKind::Decode)) => Verdict::Fail,
            (_, None) if evidence.edge => Verdict::Retry(RetryCause::Edge),
            (_, None) => Verdict::Fail,
            (_, Some(TransportErrorKind::Connect)) => Verdict::Retry(RetryCause::Connect),
            (_, Some(TransportErrorKind::Timeout)) => Verdict::Retry(RetryCause::Timeout),
            (_, Some(TransportErrorKind::Interrupted | TransportErrorKind::Other)) => {
                Verdict::Retry(RetryCause::Interrupted)
            }
        };
    };
    if (200..300).contains(&status) {
        return Verdict::Success;
    }
    let by_status = match status {
        402 => Some(RetryCause::Billing),
        408 => Some(RetryCause::Timeout),
        409 if evidence.retry_conflict => Some(RetryCause::Conflict),
        429 => Some(RetryCause::Throttled),
        501 => None,
        500..=599 => Some(RetryCause::Server),
        _ => None,
    };
    let asked = match (evidence.should_retry, evidence.category) {
        (Some(answer), _) => Some(answer),
        (None, Some(ErrorCategory::User)) => Some(false),
        // An explicit category makes a retry of statuses that would be final, but 501 and a final conflict stay so.
        (None, Some(_)) if !matches!(status, 409 | 501) => Some(true),
        _ => None,
    };
    match (asked, by_status) {
        (Some(false), _) | (None, None) => Verdict::Fail,
        (_, Some(cause)) => Verdict::Retry(cause),
        (Some(true), None) => Verdict::Retry(RetryCause::Asked),
    }
}
