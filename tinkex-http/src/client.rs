//! The pipeline: the one place where calls are made and repeated.
//!
//! encode → [retry loop: stop? → gate → credential and headers → attempt span → one deadline over connecting,
//! headers, redirects and body → transport → decompress → classify → budget and backoff] → decode. The order is a
//! contract: nothing above this loop repeats a call, and nothing below it does.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use tinkex_types::InvalidInput;
use tokio::time::Instant;

use crate::attempt::{self, AttemptFailure};
use crate::billing::BillingPause;
use crate::classify::{RetryCause, Verdict, decide};
use crate::error::{Delivery, HttpError, HttpErrorKind};
use crate::{
    ApiRequest, ApiResponse, AttemptPermit, AuthProvider, BaseUrl, GateKey, Jitter, RetryBudget, RetryPolicy,
    SharedTransport, WallClock, headers, idempotency,
};

/// Makes calls to one service with one credential. A cheap clone.
#[derive(Clone)]
pub struct HttpClient(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) transport: SharedTransport,
    pub(crate) base_url: BaseUrl,
    pub(crate) auth: Arc<dyn AuthProvider>,
    pub(crate) defaults: HeaderMap,
    pub(crate) clock: WallClock,
    pub(crate) max_response_bytes: usize,
    policy: RetryPolicy,
    budget: Arc<RetryBudget>,
    jitter: Jitter,
    billing: BillingPause,
}

/// Completes when the caller no longer wants the answer.
pub type Stop<'a> = Pin<&'a mut (dyn Future<Output = ()> + Send)>;

impl HttpClient {
    /// A client of `base_url` over `transport`, with defaults for everything else.
    pub fn builder(base_url: BaseUrl, transport: SharedTransport) -> HttpClientBuilder {
        HttpClientBuilder {
            base_url,
            transport,
            auth: Arc::new(crate::NoAuth),
            headers: HeaderMap::new(),
            policy: RetryPolicy::default(),
            budget: Arc::default(),
            jitter: Jitter::default(),
            clock: WallClock::default(),
            max_response_bytes: 1 << 30,
        }
    }

    /// The service.
    pub fn base_url(&self) -> &BaseUrl {
        &self.0.base_url
    }

    /// The key under which calls of this client share gates with others.
    pub fn gate_key(&self) -> GateKey {
        use secrecy::ExposeSecret;
        GateKey::new(&self.0.base_url, self.0.auth.identity().expose_secret().as_bytes())
    }

    /// Makes the call, repeating it as its policy says.
    ///
    /// Cancel-safe: dropping the future gives up the running attempt and its permits.
    ///
    /// # Errors
    /// See [`HttpErrorKind`].
    pub async fn send(&self, request: &ApiRequest) -> Result<ApiResponse, HttpError> {
        self.run(request, None).await
    }

    /// Like [`send`](Self::send), but makes no further attempt once `stop` completes. An attempt that is under way is
    /// finished, so that the caller knows what became of it: the error is [`HttpErrorKind::Abandoned`] and its
    /// [`delivery`](HttpError::delivery) says how far the call got.
    ///
    /// # Errors
    /// See [`HttpErrorKind`].
    pub async fn send_until(&self, request: &ApiRequest, stop: Stop<'_>) -> Result<ApiResponse, HttpError> {
        self.run(request, Some(stop)).await
    }

    async fn run(&self, request: &ApiRequest, mut stop: Option<Stop<'_>>) -> Result<ApiResponse, HttpError> {
        let inner = &*self.0;
        let policy = request.policy.as_ref().unwrap_or(&inner.policy);
        let mut call = Call::new(request);
        loop {
            let permit = match &request.gate {
                None => AttemptPermit::free(),
                Some(gate) => call.wait(&mut stop, gate.admit()).await?,
            };
            call.check_deadline()?;
            let outcome =
                attempt::run(inner, request, call.idempotency_key.as_ref(), call.sent, call.remaining())
                    .await;
            drop(permit);
            call.sent += 1;
            let failure = match outcome {
                Ok(response) => return Ok(call.finish(response)),
                Err(failure) => failure,
            };
            call.delivery = call.delivery.max(failure.delivery());
            let verdict = if failure.is_auth() { Verdict::Fail } else { decide(&failure.evidence(request)) };
            let throttled = matches!(failure.status(), Some(429 | 402));
            if throttled && let Some(gate) = &request.gate {
                gate.throttled(failure.retry_after());
            }
            let Verdict::Retry(cause) = verdict else { return call.fail(failure, None) };
            if !policy.is_enabled() {
                return call.fail(failure, None);
            }
            let wait = match cause {
                RetryCause::Billing => {
                    match inner.billing.pause(policy.billing_pause, &failure.billing_text()) {
                        Some(wait) => wait,
                        None => {
                            let limit = format!("billing pause of {} s", policy.billing_pause.as_secs());
                            return call.fail(failure, Some(limit));
                        }
                    }
                }
                RetryCause::Throttled if request.gate.is_some() => Duration::ZERO,
                _ => {
                    if let Some(limit) = call.count_failure(policy) {
                        return call.fail(failure, Some(limit));
                    }
                    let backoff = policy.backoff.delay(call.counted - 1, inner.jitter.next());
                    failure.retry_after().unwrap_or(backoff).max(inner.budget.take())
                }
            };
            // The gate does the waiting for throttled calls, and for billing pauses where there is one.
            let wait = if request.gate.is_some() && throttled { Duration::ZERO } else { wait };
            if call.remaining().is_some_and(|remaining| remaining < wait) {
                let limit =
                    format!("deadline of {:.1} s", request.deadline.unwrap_or_default().as_secs_f64());
                return call.fail(failure, Some(limit));
            }
            call.announce_retry(cause, &failure, wait);
            if !wait.is_zero() {
                call.wait(&mut stop, tokio::time::sleep(wait)).await?;
            }
        }
    }
}

/// The progress of one call.
struct Call<'a> {
    request: &'a ApiRequest,
    started: Instant,
    idempotency_key: Option<HeaderValue>,
    sent: u32,
    counted: u32,
    first_failure: Option<Instant>,
    delivery: Delivery,
}

impl<'a> Call<'a> {
    fn new(request: &'a ApiRequest) -> Self {
        let key = (request.method != Method::GET)
            .then(|| request.idempotency_key.clone().unwrap_or_else(idempotency::fresh_key));
        Self {
            request,
            started: Instant::now(),
            idempotency_key: key,
            sent: 0,
            counted: 0,
            first_failure: None,
            delivery: Delivery::NeverSent,
        }
    }

    fn remaining(&self) -> Option<Duration> {
        self.request.deadline.map(|deadline| deadline.saturating_sub(self.elapsed()))
    }

    fn elapsed(&self) -> Duration {
        Instant::now().saturating_duration_since(self.started)
    }

    fn check_deadline(&self) -> Result<(), HttpError> {
        match self.remaining() {
            Some(Duration::ZERO) => Err(self.out_of_time()),
            _ => Ok(()),
        }
    }

    fn out_of_time(&self) -> HttpError {
        HttpError::new(HttpErrorKind::Timeout, self.request.operation, "the deadline of the call passed")
            .after(self.sent, self.elapsed(), self.delivery)
    }

    /// Waits for `ready`, the deadline or the caller's loss of interest, whichever is first.
    async fn wait<T>(
        &self,
        stop: &mut Option<Stop<'_>>,
        ready: impl Future<Output = T>,
    ) -> Result<T, HttpError> {
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
            () = stopped => Err(HttpError::new(HttpErrorKind::Abandoned, self.request.operation, "the caller gave up")
                .after(self.sent, self.elapsed(), self.delivery)),
            value = ready => Ok(value),
            () = out_of_time => Err(self.out_of_time()),
        }
    }

    /// Counts a failure against the policy; the limit it hits, where it hits one.
    fn count_failure(&mut self, policy: &RetryPolicy) -> Option<String> {
        self.counted = self.counted.saturating_add(1);
        let now = Instant::now();
        let first = *self.first_failure.get_or_insert(now);
        if let Some(most) = policy.max_retries
            && self.counted > most
        {
            return Some(format!("limit of {most} retries"));
        }
        let failing = now.saturating_duration_since(first);
        match policy.max_elapsed {
            Some(limit) if failing >= limit && self.counted > 1 => {
                Some(format!("limit of {} s since the first failure", limit.as_secs()))
            }
            _ => None,
        }
    }

    fn announce_retry(&self, cause: RetryCause, failure: &AttemptFailure, wait: Duration) {
        let operation = self.request.operation;
        metrics::counter!("tinkex_http_retries_total", "operation" => operation, "cause" => cause.label())
            .increment(1);
        let (cause, wait_ms) = (cause.label(), wait.as_millis() as u64);
        if self.counted <= 1 {
            tracing::debug!(operation, cause, wait_ms, attempt = self.sent, "retrying: {failure}");
        } else {
            tracing::warn!(operation, cause, wait_ms, attempt = self.sent, "still retrying: {failure}");
        }
    }

    fn finish(self, response: attempt::RawResponse) -> ApiResponse {
        let elapsed = self.elapsed();
        record(self.request.operation, "ok", elapsed);
        ApiResponse {
            status: response.status,
            headers: response.headers,
            body: response.body,
            retry_after: response.hint,
            attempts: self.sent,
            elapsed,
            operation: self.request.operation,
        }
    }

    fn fail(self, failure: AttemptFailure, limit: Option<String>) -> Result<ApiResponse, HttpError> {
        let elapsed = self.elapsed();
        match failure {
            AttemptFailure::Status(response) if self.request.any_status => {
                record(self.request.operation, "status", elapsed);
                Ok(self.finish(*response))
            }
            failure => {
                record(self.request.operation, failure.label(), elapsed);
                Err(failure
                    .into_error(self.request.operation)
                    .after(self.sent, elapsed, self.delivery)
                    .gave_up(limit))
            }
        }
    }
}

fn record(operation: &'static str, outcome: &'static str, elapsed: Duration) {
    metrics::histogram!("tinkex_http_request_duration_seconds", "operation" => operation, "outcome" => outcome)
        .record(elapsed.as_secs_f64());
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("base_url", &self.0.base_url)
            .field("auth", &self.0.auth)
            .finish_non_exhaustive()
    }
}

/// Builds an [`HttpClient`].
pub struct HttpClientBuilder {
    base_url: BaseUrl,
    transport: SharedTransport,
    auth: Arc<dyn AuthProvider>,
    headers: HeaderMap,
    policy: RetryPolicy,
    budget: Arc<RetryBudget>,
    jitter: Jitter,
    clock: WallClock,
    max_response_bytes: usize,
}

impl HttpClientBuilder {
    /// Sets who gives the credential. Default: none is sent.
    #[must_use]
    pub fn auth(mut self, auth: Arc<dyn AuthProvider>) -> Self {
        self.auth = auth;
        self
    }

    /// Adds headers to every request; they win over the built-in ones.
    #[must_use]
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }

    /// Sets the retry policy of requests that bring none.
    #[must_use]
    pub fn policy(mut self, policy: RetryPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Shares a retry budget with other clients.
    #[must_use]
    pub fn budget(mut self, budget: Arc<RetryBudget>) -> Self {
        self.budget = budget;
        self
    }

    /// Sets the generator of jitter.
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Sets the wall clock.
    #[must_use]
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the longest response body, in bytes after decompression. Default 1 GiB.
    #[must_use]
    pub fn max_response_bytes(mut self, bytes: usize) -> Self {
        self.max_response_bytes = bytes;
        self
    }

    /// Builds the client.
    ///
    /// # Errors
    /// Where the base URL and a path do not make a URI.
    pub fn build(self) -> Result<HttpClient, InvalidInput> {
        let probe = self.base_url.join("api/v1");
        probe
            .parse::<http::Uri>()
            .map_err(|e| InvalidInput::new("base URL", format!("is not usable: {e}")))?;
        let mut defaults = headers::defaults();
        defaults.extend(self.headers);
        Ok(HttpClient(Arc::new(Inner {
            transport: self.transport,
            base_url: self.base_url,
            auth: self.auth,
            defaults,
            policy: self.policy,
            budget: self.budget,
            jitter: self.jitter,
            clock: self.clock,
            max_response_bytes: self.max_response_bytes,
            billing: BillingPause::default(),
        })))
    }
}

impl fmt::Debug for HttpClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClientBuilder").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}
