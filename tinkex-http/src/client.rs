//! The pipeline: the one place where calls are made and repeated.
//!
//! encode → [retry loop: stop? → gate → credential → headers → attempt span → one deadline over connecting, headers,
//! redirects and body → transport → decompress → classify → budget and backoff] → decode. The order is a
//! contract: nothing above this loop repeats a call, and nothing below it does.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri};
use tinkex_types::InvalidInput;
use tokio::time::Instant;

use crate::attempt::{self, AttemptFailure};
use crate::billing::BillingPause;
use crate::classify::{RetryCause, Verdict, decide};
use crate::deprecation::Deprecations;
use crate::error::{Delivery, HttpError, HttpErrorKind};
use crate::{
    ApiRequest, ApiResponse, AttemptPermit, AuthError, AuthProvider, BaseUrl, GateKey, Jitter, RetryBudget,
    RetryPolicy, Ruling, SharedTransport, WallClock, headers, idempotency,
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
    pub(crate) deprecations: Deprecations,
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
        let uri = request_uri(&inner.base_url, request)?;
        let mut call = Call::new(request);
        loop {
            let (permit, credential) = match call.admission(inner, &mut stop).await {
                Ok(admitted) => admitted,
                Err(cut) => return call.cut_short(cut),
            };
            let (key, remaining) = (call.idempotency_key.as_ref(), call.remaining());
            let outcome = attempt::run(inner, request, &uri, credential, key, call.sent, remaining).await;
            call.sent = call.sent.saturating_add(1);
            let failure = match outcome {
                Ok(response) => return Ok(call.finish("ok", response)),
                Err(failure) => failure,
            };
            call.delivery = call.delivery.max(failure.delivery());
            let overruled = match (&request.gate, failure.refusal()) {
                (Some(gate), Some(refusal)) => gate.refused(&refusal) == Ruling::Final,
                _ => false,
            };
            let verdict = if overruled { Verdict::Fail } else { decide(&failure.evidence(request)) };
            let paused = match verdict {
                Verdict::Retry(RetryCause::Billing) if policy.is_enabled() => {
                    inner.billing.pause(policy.billing_pause, || failure.billing_text())
                }
                _ => None,
            };
            let throttled = failure.status() == Some(429) || paused.is_some();
            if throttled && let Some(gate) = &request.gate {
                gate.throttled(failure.retry_after());
            }
            // Only now: whoever waits for this permit must find the gate closed already.
            drop(permit);
            let cause = match verdict {
                Verdict::Retry(cause) if policy.is_enabled() => cause,
                _ => return call.fail(failure, None),
            };
            let mut token = None;
            let wait = match cause {
                RetryCause::Billing => match paused {
                    Some(wait) => wait,
                    None => {
                        let limit = format!("billing pause of {} s", seconds(policy.billing_pause));
                        return call.fail(failure, Some(limit));
                    }
                },
                RetryCause::Throttled if request.gate.is_some() => Duration::ZERO,
                _ => {
                    if let Some(limit) = call.count_failure(policy) {
                        return call.fail(failure, Some(limit));
                    }
                    let backoff = policy.backoff.delay(call.counted - 1, inner.jitter.next());
                    let reserved = token.insert(inner.budget.reserve());
                    failure.retry_after().unwrap_or(backoff).max(reserved.wait())
                }
            };
            // The gate does the waiting for throttled calls, and for billing pauses where there is one.
            let wait = if request.gate.is_some() && throttled { Duration::ZERO } else { wait };
            if call.remaining().is_some_and(|remaining| remaining <= wait) {
                let limit = call.deadline_text();
                return call.fail(failure, limit);
            }
            call.announce_retry(cause, &failure, wait);
            call.last = Some(failure);
            if !wait.is_zero()
                && let Err(cut) = call.wait(&mut stop, tokio::time::sleep(wait)).await
            {
                return call.cut_short(cut);
            }
            if let Some(token) = token {
                token.spend();
            }
        }
    }
}

/// The address of a request. A path that makes no URI is the caller's mistake and is found before anything is sent.
fn request_uri(base_url: &BaseUrl, request: &ApiRequest) -> Result<Uri, HttpError> {
    Uri::from_maybe_shared(Bytes::from(base_url.join(&request.path))).map_err(|e| {
        HttpError::new(HttpErrorKind::InvalidRequest, request.operation, format!("the path is unusable: {e}"))
            .with_source(e)
    })
}

/// A duration in seconds, without needless digits.
pub(crate) fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// Why a call ended between two attempts.
enum CutShort {
    /// The caller no longer wants the answer.
    Stopped,
    /// The deadline of the call passed.
    OutOfTime,
    /// There is no credential.
    NoCredential(AuthError),
}

/// The progress of one call.
struct Call<'a> {
    request: &'a ApiRequest,
    started: Instant,
    idempotency_key: Option<HeaderValue>,
    /// Attempts made.
    sent: u32,
    /// Failures that count against the policy.
    counted: u32,
    first_failure: Option<Instant>,
    /// What became of the last attempt.
    last: Option<AttemptFailure>,
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
            last: None,
            delivery: Delivery::NeverSent,
        }
    }

    fn remaining(&self) -> Option<Duration> {
        self.request.deadline.map(|deadline| deadline.saturating_sub(self.elapsed()))
    }

    fn elapsed(&self) -> Duration {
        Instant::now().saturating_duration_since(self.started)
    }

    fn deadline_text(&self) -> Option<String> {
        self.request.deadline.map(|deadline| format!("deadline of {} s", seconds(deadline)))
    }

    /// Everything an attempt needs first: the caller's interest, a place at the gate, and a credential, which is
    /// fetched last so that it is fresh.
    async fn admission(
        &self,
        inner: &Inner,
        stop: &mut Option<Stop<'_>>,
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
    async fn wait<T>(
        &self,
        stop: &mut Option<Stop<'_>>,
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
        policy
            .max_elapsed
            .filter(|limit| failing >= *limit)
            .map(|limit| format!("limit of {} s since the first failure", seconds(limit)))
    }

    fn announce_retry(&self, cause: RetryCause, failure: &AttemptFailure, wait: Duration) {
        let operation = self.request.operation;
        metrics::counter!("tinkex_http_retries_total", "operation" => operation, "cause" => cause.label())
            .increment(1);
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let (cause, attempt) = (cause.label(), self.sent);
        if self.counted <= 1 {
            tracing::debug!(operation, cause, wait_ms, attempt, "retrying: {failure}");
        } else {
            tracing::warn!(operation, cause, wait_ms, attempt, "still retrying: {failure}");
        }
    }

    fn finish(self, outcome: &'static str, response: attempt::RawResponse) -> ApiResponse {
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
        }
    }

    /// Ends the call with the failure of its last attempt, and with the limit that kept it from trying again.
    fn fail(self, failure: AttemptFailure, limit: Option<String>) -> Result<ApiResponse, HttpError> {
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
    fn cut_short(mut self, why: CutShort) -> Result<ApiResponse, HttpError> {
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

    fn end(self, outcome: &'static str, error: HttpError) -> HttpError {
        let elapsed = self.elapsed();
        record(self.request.operation, outcome, elapsed);
        error.after(self.sent, elapsed, self.delivery)
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
            deprecations: Deprecations::default(),
        })))
    }
}

impl fmt::Debug for HttpClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClientBuilder").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}
