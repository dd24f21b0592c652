//! What an error says of itself when it leaves a public operation (PROTOCOL 6, 20).

use std::error::Error as StdError;
use std::iter::successors;

use serde_json::{Map, Value, json};
use tinkex_future::{PayloadEncoding, PollError, PollErrorKind};
use tinkex_http::{HttpError, HttpErrorKind};
use tinkex_types::{DecodeError, ErrorCategory, Severity};

use super::report::{Report, Urgency, cut, cut_body};
use crate::{Error, ErrorKind};

/// The failure below an error, as far as it has an event of its own.
pub(super) enum Origin<'a> {
    /// A call failed for good.
    Call(&'a HttpError, &'a Error),
    /// A promise was polled to its end, and that was no result.
    Poll(&'a PollError, PollEnd),
    /// A result came and could not be read.
    Result(&'a Error),
}

/// How a promise ended, where the polls themselves have not told it.
#[derive(Clone, Copy, Debug)]
pub(super) enum PollEnd {
    Failed,
    TimedOut,
    Unreadable,
}

impl<'a> Origin<'a> {
    pub(super) fn of(error: &'a Error) -> Option<Self> {
        if error.kind() == ErrorKind::CustomLoss {
            // What is below it is the user's own, whatever its type.
            return None;
        }
        if let Some(http) = error.origin::<HttpError>() {
            return Some(Self::Call(http, error));
        }
        if let Some(poll) = error.origin::<PollError>() {
            let end = match poll.kind() {
                // With a status, it was told when it came.
                PollErrorKind::Failed if poll.status().is_none() => PollEnd::Failed,
                PollErrorKind::Timeout => PollEnd::TimedOut,
                PollErrorKind::Decode => PollEnd::Unreadable,
                _ => return None,
            };
            return Some(Self::Poll(poll, end));
        }
        let unreadable = error.request_id().is_some() && error.origin::<DecodeError>().is_some();
        unreadable.then_some(Self::Result(error))
    }

    /// `now` is in seconds since 1970.
    pub(super) fn report(&self, now: f64) -> Report {
        match self {
            Self::Call(http, error) => {
                let mut data = attempt(error, now);
                data.insert("func".to_owned(), json!(http.operation()));
                data.insert("attempt_count".to_owned(), json!(http.attempts()));
                data.insert("is_retryable".to_owned(), json!(error.is_retryable()));
                let name = "InternalClientHolder.execute_with_retries.exception";
                Report::generic(name, severity_of(error, error.is_retryable()), Value::Object(data))
            }
            Self::Poll(poll, PollEnd::Failed) => {
                let category = poll.category();
                let is_user_error = category == ErrorCategory::User;
                let data = json!({
                    "request_id": poll.request_id(),
                    "request_type": poll.request_type().as_str(),
                    "error": cut(poll.message()),
                    "error_category": title_case(category),
                    "is_user_error": is_user_error,
                    "iteration": poll.polls().saturating_sub(1),
                    "elapsed_time": poll.elapsed().as_secs_f64(),
                });
                let severity = if is_user_error { Severity::Warning } else { Severity::Error };
                Report::generic("APIFuture.result_async.application_error", severity, data)
            }
            Self::Poll(poll, end) => {
                let data = json!({
                    "request_id": poll.request_id(),
                    "request_type": poll.request_type().as_str(),
                    "exception": cut(&poll.to_string()),
                    "iteration": poll.polls().saturating_sub(1),
                    "elapsed_time": poll.elapsed().as_secs_f64(),
                });
                let name = match end {
                    PollEnd::TimedOut => "APIFuture.result_async.timeout",
                    _ => "APIFuture.result_async.validation_error",
                };
                Report::generic(name, Severity::Error, data)
            }
            Self::Result(error) => {
                let data = json!({
                    "request_id": error.request_id(),
                    "exception": message_of(error),
                    "iteration": error.attempts().saturating_sub(1),
                    "elapsed_time": error.elapsed().as_secs_f64(),
                });
                let name = match error.encoding() {
                    Some(PayloadEncoding::Protobuf) => "APIFuture.result_async.proto_deserialization_error",
                    _ => "APIFuture.result_async.validation_error",
                };
                Report::generic(name, Severity::Error, data)
            }
        }
    }
}

/// Whether an operation ended because its client was closed or its model unloaded, by whoever called it: no failure.
pub(super) fn is_orderly_end(error: &Error) -> bool {
    let behind = error.origin::<Error>().filter(|_| error.kind() == ErrorKind::Poisoned);
    error.kind() == ErrorKind::Closed || behind.is_some_and(is_orderly_end)
}

/// A sample of `method` was submitted and failed. `now` is in seconds since 1970.
pub(super) fn sample_attempt(method: &'static str, error: &Error, should_retry: bool, now: f64) -> Report {
    let mut data = attempt(error, now);
    data.insert("func".to_owned(), json!(method));
    data.insert("should_retry".to_owned(), json!(should_retry));
    let severity = severity_of(error, should_retry || error.is_retryable());
    Report::generic("RetryHandler.execute.exception", severity, Value::Object(data))
}

/// The event that an error is, for whoever called `method`.
pub(super) fn leaving(method: &'static str, error: &Error) -> Report {
    if !is_user_error(error) {
        return Report::Unhandled {
            error_type: type_of(error).to_owned(),
            error_message: format!("{method}: {}", message_of(error)),
            causes: causes_of(error),
        };
    }
    let mut data = Map::new();
    data.insert("error_type".to_owned(), json!(type_of(error)));
    data.insert("message".to_owned(), json!(message_of(error)));
    if let Some(status) = error.status() {
        data.insert("status_code".to_owned(), json!(status));
    }
    let may_be_told = error.kind() != ErrorKind::CustomLoss && !quotes_request(error.status());
    if let Some(http) = error.origin::<HttpError>().filter(|http| may_be_told && !http.body().is_empty()) {
        data.insert("body".to_owned(), json!(cut_body(http.body())));
    }
    Report::Generic {
        name: "user_error",
        severity: Severity::Warning,
        data: Value::Object(data),
        urgency: Urgency::AtOnce,
    }
}

/// What both kinds of attempts say.
fn attempt(error: &Error, now: f64) -> Map<String, Value> {
    let elapsed = error.elapsed().as_secs_f64();
    let mut data = Map::new();
    let mut say = |name: &str, value: Value| data.insert(name.to_owned(), value);
    say("exception", json!(message_of(error)));
    say("exception_type", json!(type_of(error)));
    say("exception_stack", json!(causes_of(error)));
    say("status_code", json!(error.status()));
    say("is_user_error", json!(is_user_error(error)));
    say("start_time", json!(now - elapsed));
    say("current_time", json!(now));
    say("elapsed_time", json!(elapsed));
    data
}

fn severity_of(error: &Error, passes: bool) -> Severity {
    if passes || is_user_error(error) { Severity::Warning } else { Severity::Error }
}

/// Whether the protocol calls an error the user's (PROTOCOL 6). It goes by the status, also where this client expects a
/// repetition to help.
fn is_user_error(error: &Error) -> bool {
    error.is_user_error() || error.status().is_some_and(is_of_user)
}

/// Whether a status is about the request.
pub(super) fn is_of_user(status: u16) -> bool {
    matches!(status, 400..=499) && status != 408
}

/// Whether what a server says with a status may quote the request, prompts and data included: it could not process the
/// content, and shows what it was.
pub(super) fn quotes_request(status: Option<u16>) -> bool {
    status == Some(422)
}

/// What an error says. Of a custom loss nothing: its words are the user's own, and an error of what was called behind it
/// repeats them. Of a request that was refused for its content only that.
fn message_of(error: &Error) -> String {
    match error.kind() {
        ErrorKind::CustomLoss => "a custom loss failed".to_owned(),
        ErrorKind::Poisoned => "an operation called before it failed, so this one was not sent".to_owned(),
        _ if quotes_request(error.status()) => UNPROCESSABLE.to_owned(),
        _ => cut(&error.to_string()),
    }
}

/// What is told of an error instead of its words, which may quote the request.
pub(super) const UNPROCESSABLE: &str = "HTTP 422: the server could not process the content of the request";

/// What lies below an error, innermost last.
fn causes_of(error: &Error) -> Option<String> {
    if matches!(error.kind(), ErrorKind::CustomLoss | ErrorKind::Poisoned) || quotes_request(error.status()) {
        return None;
    }
    let causes = successors(error.source(), |cause| StdError::source(*cause));
    let causes = causes.map(ToString::to_string).collect::<Vec<_>>().join("\ncaused by: ");
    (!causes.is_empty()).then(|| cut(&causes))
}

/// The name of an error, where the reference SDK has one, in its words.
fn type_of(error: &Error) -> &'static str {
    match (error.kind(), error.status()) {
        (ErrorKind::RequestFailed, _) => "RequestFailedError",
        (ErrorKind::Timeout, None) => "APITimeoutError",
        (ErrorKind::Connection, None) => "APIConnectionError",
        (ErrorKind::Decode, _) => "APIResponseValidationError",
        (_, Some(status)) => type_of_status(status),
        (ErrorKind::InvalidInput, None) => "InvalidInput",
        (ErrorKind::Auth, None) => "Auth",
        (ErrorKind::Status, None) => "APIStatusError",
        (ErrorKind::SequenceConflict, None) => "SequenceConflict",
        (ErrorKind::CustomLoss, None) => "CustomLoss",
        (ErrorKind::Poisoned, None) => "Poisoned",
        (ErrorKind::Expired, None) => "Expired",
        (ErrorKind::Stuck, None) => "Stuck",
        (ErrorKind::Closed, None) => "Closed",
        (ErrorKind::TaskEnded, None) => "TaskEnded",
    }
}

/// The name of an error of a status (PROTOCOL 6).
pub(super) fn type_of_status(status: u16) -> &'static str {
    match status {
        400 => "BadRequestError",
        401 => "AuthenticationError",
        402 => "BillingError",
        403 => "PermissionDeniedError",
        404 => "NotFoundError",
        409 => "ConflictError",
        422 => "UnprocessableEntityError",
        429 => "RateLimitError",
        500.. => "InternalServerError",
        _ => "APIStatusError",
    }
}

/// The name of an error without a response.
pub(super) fn type_of_call(error: &HttpError) -> &'static str {
    match error.kind() {
        HttpErrorKind::Timeout => "APITimeoutError",
        HttpErrorKind::Decode => "APIResponseValidationError",
        HttpErrorKind::Auth => "AuthenticationError",
        _ => "APIConnectionError",
    }
}

fn title_case(category: ErrorCategory) -> &'static str {
    match category {
        ErrorCategory::Server => "Server",
        ErrorCategory::User => "User",
        _ => "Unknown",
    }
}
