//! The sampling client.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tinkex_future::{Poller, PromiseRef, SessionPoller};
use tinkex_http::RetryPolicy;
use tinkex_observer::{ObserverSet, QueueStates};
use tinkex_types::{
    HandleHolder, ModelInput, QueueStateChange, QueueStateObserver, RequestType, SampleRequest,
    SampleResponse, SamplerHandle, SamplingParams,
};
use tokio::sync::{Semaphore, oneshot};

use super::handle::SampleHandle;
use super::lifecycle::{self, Start};
use super::progress::Progress;
use super::sequence::SequenceIds;
use crate::Error;
use crate::dispatch::SampleDispatch;
use crate::holder::Holder;
use crate::operation_span::OperationSpan;
use crate::owned_task::OwnedTask;
use crate::retrieve::{HttpRetrieve, HttpRetrieveMany};

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
    /// A limit for [`Supervised`](Supervision::Supervised) samples only.
    pub(super) supervised_in_flight: Option<Arc<Semaphore>>,
    /// Whether samples bypass their supervision (`sample_no_retries`).
    pub(super) bypass: bool,
    pub(super) progress: Arc<Progress>,
    /// How long nothing may finish; none where samples may wait for ever.
    pub(super) progress_timeout: Option<Duration>,
    pub(super) _stuck_detection: Option<OwnedTask>,
    pub(super) submit_policy: RetryPolicy,
    /// Whether every sample asks for stability records; a property of the handle it was opened from.
    pub(super) record_stability_info: bool,
    pub(super) closed: AtomicBool,
    /// How often a sample is submitted anew after the server lost it (410).
    pub(super) resubmissions: u32,
}

/// Whether a sample is submitted anew when the server loses it, counts against the server's limit, and is given up when
/// nothing finishes. The server can ask that samples are not (`sample_no_retries`); log-probabilities always are
/// (PROTOCOL 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Supervision {
    Supervised,
    Bypassed,
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

impl Sampler {
    fn check_open(&self) -> Result<(), Error> {
        self.holder.check_open()?;
        if self.closed.load(Ordering::Acquire) { Err(Error::closed("sampling")) } else { Ok(()) }
    }

    fn of_samples(&self) -> Supervision {
        if self.bypass { Supervision::Bypassed } else { Supervision::Supervised }
    }

    /// Refuses new samples, and ends the announcements with one last acknowledgement.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        if let Some(announcements) = &self.announcements {
            announcements.close().await;
        }
        self.holder.end_joined_telemetry().await;
    }
}

impl SamplingClient {
    pub(super) fn new(sampler: Sampler) -> Self {
        let inner = Arc::new(sampler);
        inner.holder.register(&inner);
        Self { inner }
    }

    /// Samples (PROTOCOL 15.2 to 15.6). The work has started when this returns; it may be called from any thread.
    ///
    /// The sample waits its turn, is submitted (429, 408, 409, 5xx and transport failures are repeated under the same
    /// sequence id and idempotency key), and polled until it is done. If the server loses it (410) it is submitted
    /// anew. If no sample of this client finishes for two hours, it is given up
    /// ([`progress_timeout`](crate::SamplingClientBuilder::progress_timeout)).
    ///
    /// # Errors
    /// Through the handle: [`InvalidInput`](crate::ErrorKind::InvalidInput) for arguments no server can accept, without
    /// anything being sent; [`RequestFailed`](crate::ErrorKind::RequestFailed) where the server took it in and it failed
    /// there; otherwise the kind says how the submission or the polling ended.
    pub fn sample(&self, request: SampleRequest) -> SampleHandle {
        self.sample_with(request, SampleOptions::default())
    }

    /// [`sample`](Self::sample), with options for this call.
    pub fn sample_with(&self, request: SampleRequest, options: SampleOptions) -> SampleHandle {
        self.start("SamplingClient.sample", request, self.inner.of_samples(), options, |response| response)
    }

    /// The log-probability (natural log) of each token of `prompt`; the first has none. A sample of one token with
    /// `prompt_logprobs` (PROTOCOL 15.2).
    ///
    /// # Errors
    /// As [`sample`](Self::sample); also [`Decode`](crate::ErrorKind::Decode) where the server sent none.
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
        let (method, options) = ("SamplingClient.compute_logprobs", SampleOptions::default());
        self.start(method, request, Supervision::Supervised, options, |response| {
            response.prompt_logprobs.unwrap_or_default()
        })
    }

    /// Waits for a sample that was submitted before, perhaps by another process, by the id of its promise
    /// ([`SampleHandle::request_id`]). Nothing is submitted anew. The prompt is not known here, so prompt
    /// log-probabilities come as the server sent them, and the sequences have no ids.
    ///
    /// # Errors
    /// As [`sample`](Self::sample); [`Expired`](crate::ErrorKind::Expired) or a `Status` of 404 where the server no longer
    /// knows the promise.
    pub fn resume(&self, request_id: impl Into<Arc<str>>) -> SampleHandle {
        let promise = PromiseRef::new(request_id, RequestType::Sample);
        let (method, supervision) = ("SamplingClient.resume", self.inner.of_samples());
        self.spawn(method, Start::Resume(promise), supervision, SampleOptions::default(), |response| response)
    }

    fn start<T>(
        &self,
        method: &'static str,
        mut request: SampleRequest,
        supervision: Supervision,
        options: SampleOptions,
        convert: fn(SampleResponse) -> T,
    ) -> SampleHandle<T> {
        request.record_stability_info |= self.inner.record_stability_info;
        match request.validate() {
            Ok(()) => self.spawn(method, Start::Submit(Box::new(request)), supervision, options, convert),
            Err(invalid) => {
                let refused = Error::from(invalid);
                self.inner.holder.telemetry().operation_failed(method, &refused);
                SampleHandle::refused(refused, convert)
            }
        }
    }

    fn spawn<T>(
        &self,
        method: &'static str,
        start: Start,
        supervision: Supervision,
        options: SampleOptions,
        convert: fn(SampleResponse) -> T,
    ) -> SampleHandle<T> {
        let sampler = Arc::clone(&self.inner);
        if let Err(closed) = sampler.check_open() {
            return SampleHandle::refused(closed, convert);
        }
        let entry =
            sampler.holder.inflight.enter(RequestType::Sample, Arc::clone(&sampler.sampling_session_id));
        let (sender, receiver) = oneshot::channel();
        let handle = SampleHandle::new(receiver, Arc::clone(entry.row()), convert);
        let runtime = sampler.holder.runtime.clone();
        let span = OperationSpan::open(method, Some(RequestType::Sample), Some(&sampler.sampling_session_id));
        let work = lifecycle::run(sampler, start, supervision, options, entry, sender, span.clone());
        // The task's owner is the handle: dropping it closes the channel, and the task ends. Boxed: the runtime copies
        // what it is given four times over.
        runtime.spawn(span.around(Box::pin(work)));
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

    /// This sampler, to be opened in another process with
    /// [`ServiceClientBuilder::open_sampler`](crate::ServiceClientBuilder::open_sampler); its `Display` is the text to
    /// pass on (PROTOCOL 15.7). It carries no API key, but it does carry the headers set with
    /// [`ServiceClientBuilder::header`](crate::ServiceClientBuilder::header).
    pub fn handle(&self) -> SamplerHandle {
        let holder = &self.inner.holder;
        let (config, flags) = holder
            .connected()
            .map(|connection| (connection.config.clone(), (*connection.flags.get()).clone()))
            .unwrap_or_default();
        SamplerHandle {
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
        }
    }

    /// Refuses new samples on this client and its clones ([`Closed`](crate::ErrorKind::Closed)). Samples in flight go
    /// on, but for those whose results a session poller announces (server flag `sample_use_retrieve_futures`): its
    /// last acknowledgement is sent, 5 s at most, and they fail. A sampler that was opened from a handle then sends what it
    /// has still to report, 5 s at most, and reports nothing any more. [`ServiceClient::close`](crate::ServiceClient::close)
    /// does this for all of its samplers.
    pub async fn close(&self) {
        self.inner.close().await;
    }

    /// The queue states of the samples of this client and its clones as they change, from now on: what its observers are
    /// told. The stream ends when the last clone is gone, and the last of its samples.
    pub fn queue_states(&self) -> QueueStates {
        self.inner.observers.queue_states()
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
