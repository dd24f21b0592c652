//! How an HTTP client is made.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use tinkex_types::InvalidInput;

use crate::addresses::Addresses;
use crate::billing::BillingPause;
use crate::client::Inner;
use crate::deprecation::Deprecations;
use crate::edge::EdgeCredit;
use crate::first_contact::FirstContact;
use crate::retry_log::RetryLog;
use crate::trace_context::Propagation;
use crate::{
    AuthProvider, BaseUrl, GateKey, HttpClient, Jitter, NoAuth, RetryBudget, RetryPolicy, SharedTransport,
    TraceContext, WallClock, headers,
};

/// Builds an [`HttpClient`].
pub struct HttpClientBuilder {
    base_url: BaseUrl,
    transport: SharedTransport,
    auth: Arc<dyn AuthProvider>,
    headers: HeaderMap,
    policy: RetryPolicy,
    budget: Option<Arc<RetryBudget>>,
    jitter: Arc<Jitter>,
    clock: WallClock,
    max_response_bytes: usize,
    propagation: Propagation,
}

impl HttpClientBuilder {
    pub(crate) fn new(base_url: BaseUrl, transport: SharedTransport) -> Self {
        Self {
            base_url,
            transport,
            auth: Arc::new(NoAuth),
            headers: HeaderMap::new(),
            policy: RetryPolicy::default(),
            budget: None,
            jitter: Arc::default(),
            clock: WallClock::default(),
            max_response_bytes: 1 << 30,
            propagation: Propagation::default(),
        }
    }

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

    /// Sets the retry budget. Default: the one that all clients of this service and key share in this process
    /// ([`RetryBudget::for_key`]).
    #[must_use]
    pub fn budget(mut self, budget: Arc<RetryBudget>) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Sets the generator of jitter.
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = Arc::new(jitter);
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

    /// Sets who tells the service to which trace an attempt belongs. Default: nobody, and nothing of traces is sent.
    #[must_use]
    pub fn trace_context(mut self, context: Arc<dyn TraceContext>) -> Self {
        self.propagation = Propagation::by(context);
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
        let budget =
            self.budget.unwrap_or_else(|| RetryBudget::for_key(&GateKey::of(&self.base_url, &*self.auth)));
        let mut defaults = headers::defaults();
        defaults.extend(self.headers);
        Ok(HttpClient::new(Inner {
            transport: self.transport,
            base_url: self.base_url,
            addresses: Addresses::default(),
            auth: self.auth,
            defaults,
            policy: self.policy,
            budget,
            jitter: self.jitter,
            clock: self.clock,
            max_response_bytes: self.max_response_bytes,
            billing: BillingPause::default(),
            deprecations: Deprecations::default(),
            retry_log: RetryLog::default(),
            edge: EdgeCredit::default(),
            first_contact: FirstContact::default(),
            propagation: self.propagation,
        }))
    }
}

impl fmt::Debug for HttpClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClientBuilder").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}
