//! Polls that did not say what became of a promise (PROTOCOL 16.3, 20).

use serde_json::{Map, Value, json};
use tinkex_future::Ask;
use tinkex_http::{ApiResponse, HttpError, HttpErrorKind, shown_headers};
use tinkex_types::Severity;
use tokio::time::Instant;

use super::operation_failure::{UNPROCESSABLE, is_of_user, quotes_request, type_of_call, type_of_status};
use super::report::{Report, cut, cut_body};
use crate::retrieve::is_refused;

/// What the poller does about it, in the words of the reference SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PollFailure {
    /// Asks again.
    Retry,
    /// Asks again after growing pauses.
    RetryWithBackoff,
    /// Asks again a few times.
    RetryIfBudget,
    /// Gives the promise up; the operation may be submitted anew.
    RetryableException,
    /// Gives the promise up.
    Fatal,
}

impl PollFailure {
    /// None for what is ordinary while a promise is pending, and for a billing pause, which is waited out.
    pub(super) fn of(answer: &Result<ApiResponse, HttpError>) -> Option<Self> {
        match answer {
            Ok(response) => match response.status.as_u16() {
                200..=299 | 402 | 408 => None,
                400 => Some(Self::RetryIfBudget),
                410 => Some(Self::RetryableException),
                429 => Some(Self::RetryWithBackoff),
                501 => Some(Self::Fatal),
                500..=599 => Some(Self::Retry),
                _ => Some(Self::Fatal),
            },
            Err(error) if error.kind() == HttpErrorKind::Timeout => None,
            Err(error) if is_refused(error) => Some(Self::Fatal),
            Err(_) => Some(Self::RetryWithBackoff),
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::RetryWithBackoff => "retry_with_backoff",
            Self::RetryIfBudget => "retry_if_budget",
            Self::RetryableException => "retryable_exception",
            Self::Fatal => "fatal",
        }
    }

    pub(super) fn report(self, ask: &Ask<'_>, answer: &Result<ApiResponse, HttpError>) -> Report {
        let elapsed = ask.since.map(|since| Instant::now().saturating_duration_since(since));
        let status = match answer {
            Ok(response) => response.status.as_u16(),
            Err(error) if is_refused(error) => 401,
            Err(_) => 0,
        };
        let mut data = Map::new();
        let mut say = |name: &str, value: Value| data.insert(name.to_owned(), value);
        say("request_id", json!(ask.request_id));
        say("request_type", json!(ask.request_type.as_str()));
        say("status_code", json!(status));
        say("kind", json!(self.kind()));
        say("should_retry", json!(self != Self::Fatal));
        say("is_user_error", json!(is_of_user(status)));
        say("iteration", json!(ask.iteration));
        say("elapsed_time", json!(elapsed.unwrap_or_default().as_secs_f64()));
        say("bad_request_retries", json!(ask.rejections));
        say("connection_error_retries", json!(ask.setbacks));
        match answer {
            Ok(response) => {
                let body = match quotes_request(Some(status)) {
                    true => UNPROCESSABLE.to_owned(),
                    false => cut_body(&response.body),
                };
                let detail = detail(&response.body).filter(|_| !quotes_request(Some(status)));
                say("detail", json!(detail));
                say("exception", json!(format!("Error code: {status} - {body}")));
                say("exception_type", json!(type_of_status(status)));
                let is_grave = matches!(self, Self::Fatal | Self::RetryIfBudget);
                if is_grave {
                    // Of the request no header: what they say of the promise is in the event, and the rest are secrets.
                    say("response_headers", headers(response));
                    say("response_body", json!(body));
                }
                let severity = if is_grave { Severity::Error } else { Severity::Warning };
                Report::generic("APIFuture.result_async.api_status_error", severity, Value::Object(data))
            }
            Err(error) => {
                let message = cut(&error.to_string());
                say("detail", json!(message));
                say("exception", json!(message));
                if status != 0 {
                    say("exception_type", json!(type_of_status(status)));
                    let name = "APIFuture.result_async.api_status_error";
                    return Report::generic(name, Severity::Error, Value::Object(data));
                }
                say("exception_type", json!(type_of_call(error)));
                let name = "APIFuture.result_async.connection_error";
                Report::generic(name, Severity::Warning, Value::Object(data))
            }
        }
    }
}

/// The `detail` of a JSON body.
fn detail(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    Some(cut(body.get("detail")?.as_str()?))
}

/// The headers that are on the list of those that may be shown, and no others.
fn headers(response: &ApiResponse) -> Value {
    let shown = shown_headers(&response.headers).into_iter();
    let shown = shown.filter(|(_, value)| value != tinkex_http::REDACTED);
    shown.map(|(name, value)| (name.as_str().to_owned(), json!(value))).collect::<Map<_, _>>().into()
}
