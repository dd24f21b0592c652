//! The pipeline: the one place where calls are made and repeated.
//!
//! encode → [retry loop: stop? → gate → credential → headers → attempt span → one deadline over connecting, headers,
//! redirects and body → transport → decompress → edge rejections → classify → budget and backoff] → decode. The order is a
//! contract: nothing above this loop repeats a call, and nothing below it does.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use crate::addresses::Addresses;
use crate::billing::BillingPause;
use crate::call::{Call, seconds};
use crate::classify::{RetryCause, Verdict, decide};
use crate::deprecation::Deprecations;
use crate::edge::EdgeCredit;
use crate::error::{Delivery, HttpError};
use crate::first_contact::FirstContact;
use crate::replay;
use crate::retry_log::RetryLog;
use crate::trace_context::Propagation;
use crate::{
    ApiRequest, ApiResponse, AuthProvider, BaseUrl, GateKey, HttpClientBuilder, Jitter, RetryBudget,
    RetryPolicy, Ruling, SharedTransport, WallClock,
};

/// Makes calls to one service with one credential. A cheap clone.
#[derive(Clone)]
pub struct HttpClient(Arc<Inner>);

/// What the clones of a client share.
pub(crate) struct Inner {
    pub(crate) transport: SharedTransport,
    pub(crate) base_url: BaseUrl,
    pub(crate) addresses: Addresses,
    pub(crate) auth: Arc<dyn AuthProvider>,
    pub(crate) defaults: HeaderMap,
    pub(crate) clock: WallClock,
    pub(crate) max_response_bytes: usize,
    pub(crate) policy: RetryPolicy,
    pub(crate) budget: Arc<RetryBudget>,
    pub(crate) jitter: Arc<Jitter>,
    pub(crate) billing: BillingPause,
    pub(crate) deprecations: Deprecations,
    pub(crate) retry_log: RetryLog,
    pub(crate) edge: EdgeCredit,
    pub(crate) first_contact: FirstContact,
    pub(crate) propagation: Propagation,
}

/// Completes when the caller no longer wants the answer.
pub type StopSignal<'a> = Pin<&'a mut (dyn Future<Output = ()> + Send)>;

impl HttpClient {
    /// A client of `base_url` over `transport`, with defaults for everything else.
    pub fn builder(base_url: BaseUrl, transport: SharedTransport) -> HttpClientBuilder {
        HttpClientBuilder::new(base_url, transport)
    }

    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// Another client of the same service with another credential: the transport, the headers, the policy, the clock, the
    /// jitter, the retry budget and the trace context are the same.
    #[must_use]
    pub fn with_auth(&self, auth: Arc<dyn AuthProvider>) -> Self {
        Self::new(Inner { auth, ..self.derived() })
    }

    /// Another client of the same service and credential, for calls that must not change how others fare: it shares neither
    /// the retry budget nor the jitter, the billing pause or the thinning of log lines.
    #[must_use]
    pub fn apart(&self) -> Self {
        let first_contact = self.0.first_contact.as_known();
        Self::new(Inner { budget: Arc::default(), jitter: Arc::default(), first_contact, ..self.derived() })
    }

    fn derived(&self) -> Inner {
        let inner = &*self.0;
        Inner {
            transport: inner.transport.clone(),
            base_url: inner.base_url.clone(),
            auth: Arc::clone(&inner.auth),
            defaults: inner.defaults.clone(),
            clock: inner.clock.clone(),
            max_response_bytes: inner.max_response_bytes,
            policy: inner.policy.clone(),
            budget: Arc::clone(&inner.budget),
            jitter: Arc::clone(&inner.jitter),
            billing: BillingPause::default(),
            deprecations: Deprecations::default(),
            retry_log: RetryLog::default(),
            edge: EdgeCredit::default(),
            first_contact: FirstContact::default(),
            propagation: inner.propagation.clone(),
            addresses: Addresses::default(),
        }
    }

    /// The service.
    pub fn base_url(&self) -> &BaseUrl {
        &self.0.base_url
    }

    /// The key under which calls of this client share gates with others.
    pub fn gate_key(&self) -> GateKey {
        GateKey::of(&self.0.base_url, &*self.0.auth)
    }

    /// Makes the call, repeating it as its policy says.
    ///
    /// Cancel-safe: dropping the future gives up the running attempt and its permits.
    ///
    /// # Errors
    /// See [`HttpErrorKind`](crate::HttpErrorKind).
    pub async fn send(&self, request: &ApiRequest) -> Result<ApiResponse, HttpError> {
        self.run(request, None).await.map_err(|error| self.0.first_contact.advise(error))
    }

    /// Like [`send`](Self::send), but makes no further attempt once `stop` completes. An attempt that is under way is
    /// finished, so that the caller knows what became of it: the error is
    /// [`Abandoned`](crate::HttpErrorKind::Abandoned) and its [`delivery`](HttpError::delivery) says how far the call got.
    ///
    /// # Errors
    /// See [`HttpErrorKind`](crate::HttpErrorKind).
    pub async fn send_until(
        &self,
        request: &ApiRequest,
        stop: StopSignal<'_>,
    ) -> Result<ApiResponse, HttpError> {
        self.run(request, Some(stop)).await.map_err(|error| self.0.first_contact.advise(error))
    }

    async fn run(
        &self,
        request: &ApiRequest,
        mut stop: Option<StopSignal<'_>>,
    ) -> Result<ApiResponse, HttpError> {
        let inner = &*self.0;
        let policy = request.policy.as_ref().unwrap_or(&inner.policy);
        let uri = inner.addresses.of(&inner.base_url, request)?;
        let mut call = Call::new(request);
        loop {
            let (permit, credential) = match call.admission(inner, &mut stop).await {
                Ok(admitted) => admitted,
                Err(cut) => return call.cut_short(cut),
            };
            let outcome = match replay::attempt(inner, &mut call, &uri, credential, &mut stop).await {
                Ok(outcome) => outcome,
                Err(cut) => return call.cut_short(cut),
            };
            call.sent = call.sent.saturating_add(1);
            let failure = match inner.edge.judge(request.class, &inner.transport, outcome) {
                Ok(response) => {
                    inner.first_contact.made();
                    return Ok(call.finish("ok", response));
                }
                Err(failure) => failure,
            };
            call.delivery = call.delivery.max(failure.delivery());
            if failure.delivery() != Delivery::NeverSent {
                inner.first_contact.made();
            }
            let overruled = match (&request.gate, failure.refusal()) {
                (Some(gate), Some(refusal)) => gate.refused(&refusal) == Ruling::Final,
                _ => false,
            };
            let verdict = if overruled { Verdict::Fail } else { decide(&failure.evidence(request)) };
            let paused = match verdict {
                Verdict::Retry(RetryCause::Billing) if policy.is_enabled() && !request.quiet => {
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
                Verdict::Retry(RetryCause::Billing) if request.quiet => return call.fail(failure, None),
                Verdict::Retry(cause) if policy.is_enabled() => cause,
                _ => return call.fail(failure, None),
            };
            let mut token = None;
            let wait = match cause {
                // The gate does the waiting.
                _ if throttled && request.gate.is_some() => Duration::ZERO,
                RetryCause::Billing => match paused {
                    Some(wait) => wait,
                    None => {
                        let limit = format!("billing pause of {} s", seconds(policy.billing_pause));
                        return call.fail(failure, Some(limit));
                    }
                },
                _ => {
                    if let Some(limit) = call.count_failure(policy) {
                        return call.fail(failure, Some(limit));
                    }
                    let backoff = policy.backoff.delay(call.counted - 1, inner.jitter.next());
                    let reserved = token.insert(inner.budget.reserve());
                    failure.retry_after().unwrap_or(backoff).max(reserved.wait())
                }
            };
            if call.remaining().is_some_and(|remaining| remaining <= wait) {
                let limit = call.deadline_text();
                return call.fail(failure, limit);
            }
            if cause == RetryCause::Connect {
                inner.first_contact.missing(inner.base_url.host(), request.operation, &failure);
            }
            call.announce_retry(&inner.retry_log, cause, &failure, wait);
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

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("base_url", &self.0.base_url)
            .field("auth", &self.0.auth)
            .finish_non_exhaustive()
    }
}
