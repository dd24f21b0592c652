//! What an answer means (PROTOCOL 16.3 and 16.4, REQUIREMENTS 3.2): a pure reading of one [`Outcome`].
//!
//! Reading is generous. Words match whatever their case, missing fields have defaults, odd types count as absent, and
//! both the current and the older shapes are known. What cannot be read at all becomes [`Answer::Undecodable`];
//! nothing panics.

use std::time::Duration;

use bytes::Bytes;
use serde::de::IgnoredAny;
use tinkex_types::{ErrorCategory, QueueState};

use crate::peek::{Peek, is_some, is_word, plain_text, shortened, text};
use crate::{BoxError, Outcome, PayloadEncoding, RawResponse};

/// The meaning of one answer (PROTOCOL 16.3 and 16.4).
#[derive(Debug)]
#[non_exhaustive]
pub enum Answer {
    /// The result.
    Payload {
        /// How it is encoded, by the answer's own media type.
        encoding: PayloadEncoding,
        /// The result, freed of any envelope. A slice of the body, not a copy.
        body: Bytes,
    },
    /// Not done yet: 408, `try_again` or `pending`.
    Pending {
        /// The queue state, where the answer has one worth reporting (PROTOCOL 17.2).
        queue: Option<QueueReport>,
        /// The wait the server asks for.
        hint: Option<Duration>,
        /// True for a 408 with a JSON body: the one answer that resets the count of 400s.
        forgives_rejections: bool,
    },
    /// No answer came in time: a long poll cut short.
    TimedOut {
        /// What the transport reported.
        error: BoxError,
    },
    /// The result is there, but large: reserve `bytes`, then ask for it.
    Metadata {
        /// The announced size; 0 where the server said none.
        bytes: u64,
    },
    /// The operation failed, says a 200.
    Failed {
        /// The server's words.
        message: String,
        /// Who is to blame.
        category: ErrorCategory,
    },
    /// 400: perhaps a whim of something between here and the server, so it is tried again a few times.
    Rejected {
        /// The explanation in the body, which makes this a failed promise, or none.
        failure: Option<(String, ErrorCategory)>,
        /// What to say where there is no explanation.
        message: String,
    },
    /// 402: the account does not pay for this at the moment.
    BillingPause {
        /// The status and the body, as the log line quotes them.
        message: String,
    },
    /// 410: the server no longer knows the promise.
    Expired {
        /// The server's words, where it had any.
        message: Option<String>,
    },
    /// 429: too many requests.
    Throttled {
        /// The queue state, where the body has one.
        queue: Option<QueueReport>,
        /// The wait the server asks for.
        hint: Option<Duration>,
        /// The status and what the body says.
        message: String,
    },
    /// 5xx, other than 501: the server has trouble.
    ServerError {
        /// The status.
        status: u16,
        /// The wait the server asks for.
        hint: Option<Duration>,
        /// The status and what the body says.
        message: String,
    },
    /// The server was not reached.
    Unreachable {
        /// What the transport reported.
        error: BoxError,
    },
    /// Any other status; asking again is of no use.
    Refused {
        /// The status.
        status: u16,
        /// The explanation of a 409 or 422, which makes this a failed promise, or none.
        failure: Option<(String, ErrorCategory)>,
        /// The status and what the body says.
        message: String,
    },
    /// A 2xx that cannot be read.
    Undecodable {
        /// What is wrong with it.
        message: String,
        /// What the decoder reported.
        error: Option<BoxError>,
    },
}

/// The queue state an answer carries (PROTOCOL 16.3 and 16.4).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueReport {
    /// The state.
    pub state: QueueState,
    /// The server's reason, not blank.
    pub reason: Option<String>,
}

impl Answer {
    /// Reads an outcome.
    pub fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Unreachable { timed_out: true, error } => Self::TimedOut { error },
            Outcome::Unreachable { timed_out: false, error } => Self::Unreachable { error },
            Outcome::Response(response) => match response.status {
                200..=299 => of_success(response),
                408 => of_408(&response),
                402 => Self::BillingPause { message: quoted(&response) },
                400 => Self::Rejected { failure: failure(&response), message: described(&response) },
                410 => Self::Expired { message: explanation(&response) },
                429 => of_429(&response),
                501 => Self::Refused { status: 501, failure: None, message: described(&response) },
                500..=599 => Self::ServerError {
                    status: response.status,
                    hint: hint(&response, Peek::object(&response.body).ok().as_ref()),
                    message: described(&response),
                },
                status => Self::Refused {
                    status,
                    failure: matches!(status, 409 | 422).then(|| failure(&response)).flatten(),
                    message: described(&response),
                },
            },
        }
    }

    /// A label from a closed set, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Payload { .. } => "payload",
            Self::Pending { .. } => "pending",
            Self::TimedOut { .. } => "timed_out",
            Self::Metadata { .. } => "metadata",
            Self::Failed { .. } => "failed",
            Self::Rejected { .. } => "rejected",
            Self::BillingPause { .. } => "billing_pause",
            Self::Expired { .. } => "expired",
            Self::Throttled { .. } => "throttled",
            Self::ServerError { .. } => "server_error",
            Self::Unreachable { .. } => "unreachable",
            Self::Refused { .. } => "refused",
            Self::Undecodable { .. } => "undecodable",
        }
    }
}

fn of_success(response: RawResponse) -> Answer {
    if response.content_type.as_deref().is_some_and(is_protobuf) {
        return Answer::Payload { encoding: PayloadEncoding::Protobuf, body: response.body };
    }
    let peek = match Peek::object(&response.body) {
        Ok(peek) => peek,
        Err(_) if response.body.iter().all(u8::is_ascii_whitespace) => {
            let message = format!("the answer with status {} has no body", response.status);
            return Answer::Undecodable { message, error: None };
        }
        Err(error) => {
            let message = "the answer is not a JSON object".to_owned();
            return Answer::Undecodable { message, error: Some(error.into()) };
        }
    };
    if is_word(peek.kind, "try_again") || is_word(peek.status, "pending") {
        let queue = queue_of_try_again(&peek);
        return Answer::Pending { queue, hint: hint(&response, Some(&peek)), forgives_rejections: false };
    }
    if is_word(peek.status, "complete_metadata") {
        return Answer::Metadata { bytes: peek.payload_size() };
    }
    // The older envelope says in words what the newer shape says by the presence of `error`, so words come first.
    let completed = is_word(peek.status, "completed") && !is_some(peek.error);
    let failed = is_word(peek.status, "failed") || peek.error.is_some();
    if failed && !completed {
        let message = peek.failure_text();
        let message = message.unwrap_or_else(|| "the server reports a failure without a message".to_owned());
        return Answer::Failed { message, category: peek.failure_category().unwrap_or_default() };
    }
    let body = match peek.result {
        // A null result carries nothing; the envelope is at least an object.
        Some(result) if completed && is_some(Some(result)) => {
            response.body.slice_ref(result.get().as_bytes())
        }
        _ => response.body.clone(),
    };
    Answer::Payload { encoding: PayloadEncoding::Json, body }
}

fn of_408(response: &RawResponse) -> Answer {
    let peek = Peek::object(&response.body).ok();
    let forgives_rejections = peek.is_some() || serde_json::from_slice::<IgnoredAny>(&response.body).is_ok();
    let queue = peek.as_ref().and_then(queue_of_error_body);
    Answer::Pending { queue, hint: hint(response, peek.as_ref()), forgives_rejections }
}

fn of_429(response: &RawResponse) -> Answer {
    let peek = Peek::object(&response.body).ok();
    let queue = peek.as_ref().and_then(queue_of_error_body);
    Answer::Throttled { queue, hint: hint(response, peek.as_ref()), message: described(response) }
}

/// A 408 or 429 body reports when it names a state, known or not (C-5).
fn queue_of_error_body(peek: &Peek<'_>) -> Option<QueueReport> {
    let state = text(peek.queue_state).filter(|state| !state.trim().is_empty())?;
    Some(QueueReport { state: QueueState::parse(&state), reason: reason(peek) })
}

/// A 200 reports when it names a state, known or not, or gives a reason (PROTOCOL 17.2, C-5).
fn queue_of_try_again(peek: &Peek<'_>) -> Option<QueueReport> {
    let state = QueueState::parse(&text(peek.queue_state).unwrap_or_default());
    let reason = reason(peek);
    let nothing_said = state == QueueState::default() && reason.is_none();
    (!nothing_said).then_some(QueueReport { state, reason })
}

fn reason(peek: &Peek<'_>) -> Option<String> {
    text(peek.queue_state_reason).filter(|reason| !reason.trim().is_empty())
}

/// The wait a server asks for: the headers first, else the body.
fn hint(response: &RawResponse, peek: Option<&Peek<'_>>) -> Option<Duration> {
    response.retry_after.or_else(|| peek?.retry_after())
}

fn is_protobuf(content_type: &str) -> bool {
    let content_type = content_type.to_ascii_lowercase();
    content_type.contains("application/x-protobuf") || content_type.contains("application/protobuf")
}

/// A 4xx that explains itself is how open servers say that a promise failed.
fn failure(response: &RawResponse) -> Option<(String, ErrorCategory)> {
    let peek = Peek::object(&response.body).ok()?;
    let category = peek.failure_category().unwrap_or_else(|| ErrorCategory::of_status(response.status));
    Some((peek.explanation()?, category))
}

fn explanation(response: &RawResponse) -> Option<String> {
    match Peek::object(&response.body) {
        Ok(peek) => peek.explanation(),
        Err(_) => plain_text(&response.body),
    }
}

/// The status, and what the body says about it.
fn described(response: &RawResponse) -> String {
    let status = response.status;
    explanation(response).map_or_else(|| format!("HTTP {status}"), |text| format!("HTTP {status}: {text}"))
}

/// The message of a status error in the form that log lines quote (PROTOCOL 6).
fn quoted(response: &RawResponse) -> String {
    let status = response.status;
    let json = serde_json::from_slice::<IgnoredAny>(&response.body).is_ok();
    match plain_text(&response.body) {
        Some(text) if json => format!("Error code: {status} - {}", shortened(&text)),
        Some(text) => text,
        None => format!("Error code: {status}"),
    }
}
