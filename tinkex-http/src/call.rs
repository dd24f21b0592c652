//! The progress of one call: what was sent, what failed, what is left of its limits, and how it ends.

use std::future::Future;
use std::time::Duration;

use http::{HeaderValue, Method};
use tinkex_metrics::contract;
use tokio::time::Instant;

use crate::attempt::{self, AttemptFailure};
use crate::classify::RetryCause;
use crate::client::Inner;
use crate::error::{Delivery, HttpError, HttpErrorKind};
use crate::retry_log::{self, RetryLog};
use crate::{ApiRequest, ApiResponse, AttemptPermit, AuthError, RetryPolicy, StopSignal, idempotency};

/// A duration in seconds, without needless digits.
pub(crate) fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// A retry is worth a warning once the call has taken this long, even if it is the first.
const LONG_CALL: Duration = Duration::from_secs(10);

/// The same where the server asks for patience (429 behind a gate), which has no other limit.
const LONG_THROTTLING: Duration = Duration::from_secs(60);

/// Why a call ended between two attempts.
pub(crate) enum CutShort {
    /// The caller no longer wants the answer.
    Stopped,
    /// The deadline of the call passed.
    OutOfTime,
    /// There is no credential.
    NoCredential(AuthError),
}

/// The progress of one call.
pub(crate) struct Call<'a> {
    pub(crate) request: &'a ApiRequest,
    started: Instant,
    pub(crate) idempotency_key: Option<HeaderValue>,
    /// Attempts made.
    pub(crate) sent: u32,
    /// Failures that count against the policy.
    pub(crate) counted: u32,
    first_failure: Option<Instant>,
    /// What became of the last attempt.
    pub(crate) last: Option<AttemptFailure>,
    pub(crate) delivery: Delivery,
}

impl<'a> Call<'a> {
    pub(crate) fn new(request: &'a ApiRequest) -> Self {
        let key = (request.method != Method::GET)
            .then(|| request.idempotency_key.clone().unwrap_or_else(idempotency::fresh_key));
        Self {
            request,
            started: Instant::now(),
            idempotency_key: key,
            sent: 0,
            counted: 0,
            first_failure: None,
            last: None,
            delivery: Delivery::NeverSent,
        }
    }

    pub(crate) fn remaining(&self) -> Option<Duration> {
        self.request.deadline.map(|deadline| deadline.saturating_sub(self.elapsed()))
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Instant::now().saturating_duration_since(self.started)
    }

    pub(crate) fn deadline_text(&self) -> Option<String> {
        self.request.deadline.map(|deadline| format!("deadline of {} s", seconds(deadline)))
    }

    /// Everything an attempt needs first: the caller's interest, a place at the gate, and a credential, which is
    /// fetched last so that it is fresh.
    pub(crate) async fn admission(
        &self,
        inner: &Inner,
        stop: &mut Option<StopSignal<'_>>,
    ) -> Result<(AttemptPermit, Option<HeaderValue>), CutShort> {
        let permit = match &self.request.gate {
            None => AttemptPermit::free(),
            Some(gate) => self.wait(stop, gate.admit()).await?,
        };
        let credential = self.wait(stop, inner.auth.credential()).await?.map_err(CutShort::NoCredential)?;
        match self.remaining() {
            Some(Duration::ZERO) => Err(CutShort::OutOfTime),
            _ => Ok((permit, credential)),
        }
    }

    /// Waits for `ready`, the deadline or the caller's loss of interest, whichever is first.
    pub(crate) async fn wait<T>(
        &self,
        stop: &mut Option<StopSignal<'_>>,
        ready: impl Future<Output = T>,
    ) -> Result<T, CutShort> {
        let stopped = async {
            match stop {
                Some(stop) => stop.as_mut().await,
                None => std::future::pending().await,
            }
        };
        let out_of_time = async {
            match self.remaining() {
                Some(remaining) => tokio::time::sleep(remaining).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stopped => Err(CutShort::Stopped),
            value = ready => Ok(value),
            () = out_of_time => Err(CutShort::OutOfTime),
        }
    }

    /// Counts a failure against the policy; the limit it hits, where it hits one.
    pub(crate) fn count_failure(&mut self, policy: &RetryPolicy) -> Option<String> {
        self.counted = self.counted.saturating_add(1);
        let now = Instant::now();
        let first = *self.first_failure.get_or_insert(now);
        if let Some(most) = policy.max_retries
            && self.counted > most
        {
            return Some(format!("limit of {most} retries"));
        }
        let failing = now.saturating_duration_since(first);
        policy
            .max_elapsed
            .filter(|limit| failing >= *limit)
            .map(|limit| format!("limit of {} s since the first failure", seconds(limit)))
    }

    /// Counts a retry and tells of it: the first of a call for developers, unless the call has taken long already; later
    /// ones as warnings, thinned out. Billing pauses have a line of their own.
    pub(crate) fn announce_retry(
        &self,
        log: &RetryLog,
        cause: RetryCause,
        failure: &AttemptFailure,
        wait: Duration,
    ) {
        let operation = self.request.operation;
        contract::HTTP_RETRIES.increment([operation, cause.label()]);
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let elapsed = self.elapsed();
        let (long, interval) = match cause {
            RetryCause::Billing => (Duration::MAX, retry_log::INTERVAL),
            RetryCause::Throttled if self.request.gate.is_some() => {
                (LONG_THROTTLING, retry_log::THROTTLED_INTERVAL)
            }
            _ => (LONG_CALL, retry_log::INTERVAL),
        };
        let (cause, attempt) = (cause.label(), self.sent);
        if self.request.quiet || (self.counted <= 1 && elapsed < long) {
            tracing::debug!(operation, cause, wait_ms, attempt, "{operation}: retrying: {failure}");
        } else if let Some(untold) = log.due(operation, interval) {
            let plural = if attempt == 1 { "" } else { "s" };
            // Where the gate does the waiting nobody knows yet how long that is.
            let time = match wait.is_zero() {
                true => format!(" in {:.0} s", elapsed.as_secs_f64()),
                false => format!(", next in {:.1} s", wait.as_secs_f64()),
            };
            let others = if untold == 0 {
                String::new()
            } else {
                format!(" ({untold} more retries since the last line)")
            };
            tracing::warn!(
                operation,
                cause,
                wait_ms,
                attempt,
                "{operation}: still retrying after {attempt} attempt{plural}{time}: {failure}{others}"
            );
        }
    }

    pub(crate) fn finish(self, outcome: &'static str, response: attempt::RawResponse) -> ApiResponse {
        let elapsed = self.elapsed();
        record(self.request.operation, outcome, elapsed);
        ApiResponse {
            status: response.status,
            headers: response.headers,
            body: response.body,
            retry_after: response.hint,
            attempts: self.sent,
            elapsed,
            operation: self.request.operation,
            credential: response.credential,
        }
    }

    /// Ends the call with the failure of its last attempt, and with the limit that kept it from trying again.
    pub(crate) fn fail(
        self,
        failure: AttemptFailure,
        limit: Option<String>,
    ) -> Result<ApiResponse, HttpError> {
        match failure {
            AttemptFailure::Status(response) if self.request.any_status => {
                Ok(self.finish("status", *response))
            }
            failure => {
                // An attempt that was cut off by the deadline must not look like one that had its full time.
                let limit = limit.or_else(|| {
                    let cut_off = failure.is_timeout() && self.remaining() == Some(Duration::ZERO);
                    cut_off.then(|| self.deadline_text()).flatten()
                });
                let label = failure.label();
                let error = failure.into_error(self.request.operation).gave_up(limit);
                Err(self.end(label, error))
            }
        }
    }

    /// Ends the call where no further attempt was made. What the last attempt met, if there was one, says more than
    /// "out of time", so it is the error then.
    pub(crate) fn cut_short(mut self, why: CutShort) -> Result<ApiResponse, HttpError> {
        let operation = self.request.operation;
        let last = self.last.take();
        let (label, error) = match (why, last) {
            (CutShort::OutOfTime, Some(failure)) => {
                let limit = self.deadline_text();
                return self.fail(failure, limit);
            }
            (CutShort::OutOfTime, None) => {
                let text = "the deadline of the call passed before its first attempt";
                let error = HttpError::new(HttpErrorKind::Timeout, operation, text);
                ("deadline", error.gave_up(self.deadline_text()))
            }
            (CutShort::Stopped, last) => {
                let error = HttpError::new(HttpErrorKind::Abandoned, operation, "the caller gave up");
                let error = match last {
                    Some(failure) => error.with_source(failure.into_error(operation)),
                    None => error,
                };
                ("abandoned", error)
            }
            (CutShort::NoCredential(error), _) => {
                let text = error.to_string();
                ("auth", HttpError::new(HttpErrorKind::Auth, operation, text).with_source(error))
            }
        };
        Err(self.end(label, error))
    }

    pub(crate) fn end(self, outcome: &'static str, error: HttpError) -> HttpError {
        let elapsed = self.elapsed();
        record(self.request.operation, outcome, elapsed);
        error.after(self.sent, elapsed, self.delivery)
    }
}

fn record(operation: &'static str, outcome: &'static str, elapsed: Duration) {
    contract::HTTP_CALL_DURATION.record([operation, outcome], elapsed);
}
