//! The sampling client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tinkex_future::{Poller, PromiseRef, SessionPoller};
use tinkex_http::RetryPolicy;
use tinkex_observer::ObserverSet;
use tinkex_types::{
    HandleHolder, ModelInput, QueueStateChange, QueueStateObserver, RequestType, SampleRequest,
    SampleResponse, SamplerHandle, SamplingParams,
};
use tokio::sync::{Semaphore, oneshot};

use super::handle::SampleHandle;
use super::lifecycle::{self, Start};
use super::retrieve::{HttpRetrieve, HttpRetrieveMany};
use super::sequence::SequenceIds;
use crate::Error;
use crate::dispatch::SampleDispatch;
use crate::holder::Holder;

/// Samples from one model, or from one set of weights. A cheap clone, `Send + Sync`; clones share the sampling
/// session, its sequence ids, its limits and its pause log.
///
/// Calls are eager: [`sample`](Self::sample) has started its work when it returns, so any number of samples can be
/// started and then awaited together. Fanning out is safe: submissions are limited, and a 429 makes all samplers of
/// the same service and key wait together.
#[derive(Clone)]
pub struct SamplingClient {
    pub(super) inner: Arc<Sampler>,
}

/// What the clones of a sampling client share.
pub(crate) struct Sampler {
    pub(super) holder: Arc<Holder>,
    pub(super) session_id: Arc<str>,
    pub(super) sampling_session_id: Arc<str>,
    pub(super) base_model: String,
    pub(super) sequence: SequenceIds,
    pub(super) dispatch: Arc<SampleDispatch>,
    pub(super) poller: Poller<HttpRetrieve>,
    pub(super) announcements: Option<SessionPoller<HttpRetrieveMany>>,
    pub(super) observers: Arc<ObserverSet>,
    pub(super) in_flight: Option<Arc<Semaphore>>,
    pub(super) submit_policy: RetryPolicy,
    /// Whether every sample asks for stability records; a property of the handle it was opened from.
    pub(super) record_stability_info: bool,
    /// How often a sample is submitted anew after the server lost it (410).
    pub(super) resubmissions: u32,
}

/// What a single call may change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SampleOptions {
    /// The time from the call to the result. When it passes the sample is abandoned, as if its handle were dropped,
    /// and the handle gives a [`Timeout`](crate::ErrorKind::Timeout). Default none.
    pub deadline: Option<Duration>,
}

impl SampleOptions {
    /// Sets the deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

impl SamplingClient {
    pub(super) fn new(sampler: Sampler) -> Self {
        Self { inner: Arc::new(sampler) }
    }

    /// Samples (PROTOCOL 15.2 to 15.6). The work has started when this returns; it may be called from any thread.
    ///
    /// The sample waits its turn, is submitted (429, 408, 409, 5xx and transport failures are repeated under the same
    /// sequence id and idempotency key), and polled until it is done. If the server loses it (410) it is submitted
    /// anew. The handle resolves to an error for arguments no server can accept, without anything being sent.
    pub fn sample(&self, request: SampleRequest) -> SampleHandle {
        self.sample_with(request, SampleOptions::default())
    }

    /// [`sample`](Self::sample), with options for this call.
    pub fn sample_with(&self, request: SampleRequest, options: SampleOptions) -> SampleHandle {
        self.start(request, options, |response| response)
    }

    /// The log-probability (natural log) of each token of `prompt`; the first has none.
    pub fn compute_logprobs(&self, prompt: impl Into<ModelInput>) -> SampleHandle<Vec<Option<f32>>> {
        self.logprobs(logprobs_request(prompt))
    }

    /// [`compute_logprobs`](Self::compute_logprobs), for the last `n` tokens only; the entries before are none.
    pub fn compute_logprobs_last_n(
        &self,
        prompt: impl Into<ModelInput>,
        n: u32,
    ) -> SampleHandle<Vec<Option<f32>>> {
        self.logprobs(logprobs_request(prompt).prompt_logprobs_last_n(n))
    }

    fn logprobs(&self, request: SampleRequest) -> SampleHandle<Vec<Option<f32>>> {
        self.start(request, SampleOptions::default(), |response| response.prompt_logprobs.unwrap_or_default())
    }

    /// Waits for a sample that was submitted before, perhaps by another process, by the id of its promise
    /// ([`SampleHandle::request_id`]). A promise the server no longer knows is an error; nothing is submitted anew.
    pub fn resume(&self, request_id: impl Into<Arc<str>>) -> SampleHandle {
        let promise = PromiseRef::new(request_id, RequestType::Sample);
        self.spawn(Start::Resume(promise), SampleOptions::default(), |response| response)
    }

    fn start<T>(
        &self,
        mut request: SampleRequest,
        options: SampleOptions,
        convert: fn(SampleResponse) -> T,
    ) -> SampleHandle<T> {
        request.record_stability_info |= self.inner.record_stability_info;
        match request.validate() {
            Ok(()) => self.spawn(Start::Submit(Box::new(request)), options, convert),
            Err(error) => SampleHandle::refused(error.into(), convert),
        }
    }

    fn spawn<T>(
        &self,
        start: Start,
        options: SampleOptions,
        convert: fn(SampleResponse) -> T,
    ) -> SampleHandle<T> {
        let sampler = Arc::clone(&self.inner);
        if let Err(closed) = sampler.holder.check_open() {
            return SampleHandle::refused(closed, convert);
        }
        let entry =
            sampler.holder.inflight.enter(RequestType::Sample, Arc::clone(&sampler.sampling_session_id));
        let (sender, receiver) = oneshot::channel();
        let handle = SampleHandle::new(receiver, Arc::clone(entry.row()), convert);
        let runtime = sampler.holder.runtime.clone();
        // The task's owner is the handle: dropping it closes the channel, and the task ends.
        runtime.spawn(lifecycle::run(sampler, start, options, entry, sender));
        handle
    }

    /// The model below the weights.
    pub fn base_model(&self) -> &str {
        &self.inner.base_model
    }

    /// The sampling session. Pause lines name it.
    pub fn sampling_session_id(&self) -> &str {
        &self.inner.sampling_session_id
    }

    /// This sampler as text for another process, without the credential. Open it with
    /// [`ServiceClientBuilder::open_sampler`](crate::ServiceClientBuilder::open_sampler).
    ///
    /// # Errors
    /// None at present; the signature leaves room.
    pub fn handle(&self) -> Result<SamplerHandle, Error> {
        let holder = &self.inner.holder;
        let (config, flags) = holder
            .connected()
            .map(|connection| (connection.config.clone(), (*connection.flags.get()).clone()))
            .unwrap_or_default();
        Ok(SamplerHandle {
            session_id: self.inner.session_id.to_string(),
            sampling_session_id: self.inner.sampling_session_id.to_string(),
            holder: HandleHolder {
                base_url: holder.http.base_url().as_str().to_owned(),
                default_headers_overrides: holder.settings.header_overrides.clone(),
                client_config: config,
                client_dynamic_config: flags,
                api_key: None,
            },
            base_model: self.inner.base_model.clone(),
            record_stability_info: self.inner.record_stability_info,
        })
    }

    /// Stops the announcements of a session poller, after one last acknowledgement. Only of use where the server
    /// enables `sample_use_retrieve_futures`; without it this does nothing. Samples still in flight fail.
    pub async fn close(&self) {
        if let Some(announcements) = &self.inner.announcements {
            announcements.close().await;
        }
    }

    /// Waits until user observers have been told everything so far, `limit` at most; blocks the thread. For tests.
    pub fn flush_observers(&self, limit: Duration) -> bool {
        self.inner.observers.flush(limit)
    }
}

/// A sampling client is an observer itself (S2-02): what it is told goes where its own polls report.
impl QueueStateObserver for SamplingClient {
    fn on_observation(&self, observation: &QueueStateChange) {
        self.inner.observers.on_observation(observation);
    }

    fn on_change(&self, change: &QueueStateChange) {
        self.on_observation(change);
    }

    fn on_queue_state_change(&self, state: tinkex_types::QueueState) {
        let id = Arc::clone(&self.inner.sampling_session_id);
        self.on_observation(&QueueStateChange::new(state, tinkex_types::ClientKind::Sampling, id));
    }
}

fn logprobs_request(prompt: impl Into<ModelInput>) -> SampleRequest {
    SampleRequest::new(prompt, SamplingParams::new().max_tokens(1)).prompt_logprobs(true)
}

impl fmt::Debug for SamplingClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SamplingClient")
            .field("sampling_session_id", &self.inner.sampling_session_id)
            .field("base_model", &self.inner.base_model)
            .finish_non_exhaustive()
    }
}
