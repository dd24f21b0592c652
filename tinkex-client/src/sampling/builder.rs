//! How a sampling client is made (PROTOCOL 15.1, 15.7).

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tinkex_future::{PollPolicy, SessionPoller};
use tinkex_http::RetryPolicy;
use tinkex_types::{
    ClientKind, CreateSamplingSessionRequest, InvalidInput, QueueStateObserver, SAMPLER_BLOCK, SamplerHandle,
};
use tokio::sync::Semaphore;

use super::client::{Sampler, SamplingClient};
use super::model_path::ModelPath;
use super::progress::{PROGRESS_TIMEOUT, Progress, give_up_stuck};
use super::sequence::SequenceIds;
use crate::holder::{Connection, Holder};
use crate::operation_span::OperationSpan;
use crate::owned_task::OwnedTask;
use crate::retrieve::{self, HttpRetrieveMany};
use crate::{Error, endpoints};

/// How often a sample is submitted anew after 410, by default.
const RESUBMISSIONS: u32 = 10;
/// How long submissions are repeated over failures that may pass, since the first of them, by default.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// What every sampling client can be told at its making.
#[derive(Debug, Default)]
pub(crate) struct SamplerOptions {
    pub(crate) max_in_flight: Option<usize>,
    pub(crate) retry_policy: Option<RetryPolicy>,
    pub(crate) poll_policy: Option<PollPolicy>,
    pub(crate) observers: Vec<Arc<dyn QueueStateObserver>>,
    pub(crate) record_stability_info: bool,
    pub(crate) stuck_detection: StuckDetection,
}

/// When samples that make no progress are given up, as far as the user has a say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StuckDetection {
    After(Duration),
    Off,
}

impl Default for StuckDetection {
    fn default() -> Self {
        Self::After(PROGRESS_TIMEOUT)
    }
}

impl SamplerOptions {
    /// Refuses what no client can be made with.
    pub(crate) fn check(&self) -> Result<(), InvalidInput> {
        if self.max_in_flight == Some(0) {
            return Err(InvalidInput::new("max_in_flight", "must be at least 1"));
        }
        if self.stuck_detection == StuckDetection::After(Duration::ZERO) {
            return Err(InvalidInput::new("progress_timeout", "must be longer than nothing"));
        }
        Ok(())
    }
}

/// Builds a [`SamplingClient`], from a base model or from a `tinker://` path (PROTOCOL 15.1, 15.7).
#[derive(Debug)]
pub struct SamplingClientBuilder {
    holder: Arc<Holder>,
    base_model: Option<String>,
    model_path: Option<ModelPath>,
    options: SamplerOptions,
    /// The public method on whose behalf the client is created (PROTOCOL 5.1).
    method: &'static str,
}

impl SamplingClientBuilder {
    pub(crate) fn new(holder: Arc<Holder>) -> Self {
        Self::with_options(holder, SamplerOptions::default())
    }

    pub(crate) fn with_options(holder: Arc<Holder>, options: SamplerOptions) -> Self {
        Self {
            holder,
            base_model: None,
            model_path: None,
            options,
            method: "ServiceClient.create_sampling_client",
        }
    }

    pub(crate) fn on_behalf_of(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    /// Samples from a base model, such as `Qwen/Qwen3-8B`.
    #[must_use]
    pub fn base_model(mut self, base_model: impl Into<String>) -> Self {
        self.base_model = Some(base_model.into());
        self
    }

    /// Samples from saved weights: a [`SamplerCheckpoint`](crate::SamplerCheckpoint), or a path such as
    /// `tinker://RUN/sampler_weights/NAME`.
    #[must_use]
    pub fn model_path(mut self, path: impl Into<ModelPath>) -> Self {
        self.model_path = Some(path.into());
        self
    }

    /// Sets how many samples of this client may be in flight, from submission to result; the server's own limit
    /// (2,000 by default) still holds. More wait their turn.
    #[must_use]
    pub fn max_in_flight(mut self, samples: usize) -> Self {
        self.options.max_in_flight = Some(samples);
        self
    }

    /// Sets how submissions are repeated. Default: the service client's.
    #[must_use]
    pub fn retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.options.retry_policy = Some(policy);
        self
    }

    /// Sets how results are waited for. Default: the service client's.
    #[must_use]
    pub fn poll_policy(mut self, policy: PollPolicy) -> Self {
        self.options.poll_policy = Some(policy);
        self
    }

    /// Adds an observer of this client's queue states, besides the service client's and the built-in pause log.
    #[must_use]
    pub fn queue_state_observer(mut self, observer: impl QueueStateObserver + 'static) -> Self {
        self.options.observers.push(Arc::new(observer));
        self
    }

    /// Asks for stability records with every sample; they come with the sequences of the results. Default no.
    #[must_use]
    pub fn record_stability_info(mut self, record: bool) -> Self {
        self.options.record_stability_info = record;
        self
    }

    /// Sets how long no sample of this client may finish before those in progress are given up with
    /// [`Stuck`](crate::ErrorKind::Stuck) and, where the server enables it, cancelled there. The time begins when the first
    /// sample of an idle client has its place, and anew whenever any sample succeeds. Default two hours. A server can turn
    /// the detection off (flag `sample_enable_stuck_detection`; PROTOCOL 7.5), but not on.
    #[must_use]
    pub fn progress_timeout(mut self, timeout: Duration) -> Self {
        self.options.stuck_detection = StuckDetection::After(timeout);
        self
    }

    /// Lets samples wait as long as the server keeps them pending, whatever else finishes.
    #[must_use]
    pub fn without_stuck_detection(mut self) -> Self {
        self.options.stuck_detection = StuckDetection::Off;
        self
    }

    /// Creates the sampling session. Connects first, where the service client has not.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), before anything is sent, where there is no model, text that is
    /// not a `tinker://` path, a limit or a time-out of 0; otherwise what the server says, such as for an unknown base model.
    pub async fn create(self) -> Result<SamplingClient, Error> {
        let (holder, method) = (Arc::clone(&self.holder), self.method);
        let span = OperationSpan::open(method, None, None);
        let created = span.cover(Box::pin(self.create_session())).await;
        created
            .inspect(|client| span.client_id(client.sampling_session_id()))
            .inspect_err(|error| holder.telemetry().operation_failed(method, error))
    }

    async fn create_session(self) -> Result<SamplingClient, Error> {
        let base_model = self.base_model.as_deref().map(str::trim);
        if base_model.is_none() && self.model_path.is_none() {
            return Err(InvalidInput::new("model", "is missing: set base_model(..) or model_path(..)").into());
        }
        if base_model == Some("") {
            return Err(InvalidInput::new("base_model", "must not be empty").into());
        }
        self.options.check()?;
        if let Some(path) = &self.model_path {
            path.check()?;
        }
        let holder = Arc::clone(&self.holder);
        let connection = Box::pin(holder.connection()).await?;
        let request = CreateSamplingSessionRequest {
            session_id: connection.session.id().to_string(),
            sampling_session_seq_id: connection.session.draw_sampling_session_seq_id(),
            base_model: base_model.map(str::to_owned),
            model_path: self.model_path.clone().map(ModelPath::into_text),
            kind: "create_sampling_session",
        };
        let created = endpoints::create_sampling_session(&holder.http, &request, self.method).await?;
        let base_model = match request.base_model {
            Some(base_model) => base_model,
            None => {
                endpoints::get_sampler(&holder.http, &created.sampling_session_id, self.method)
                    .await?
                    .base_model
            }
        };
        Ok(self.assemble(connection, created.sampling_session_id.into(), base_model, 0))
    }

    /// Puts a sampler together; `clone_id` says from which block its sequence ids come.
    pub(crate) fn assemble(
        self,
        connection: &Connection,
        sampling_session_id: Arc<str>,
        base_model: String,
        clone_id: u64,
    ) -> SamplingClient {
        let Self { holder, options, .. } = self;
        let settings = &holder.settings;
        let config = &connection.config;
        let fresh = settings.observers.for_another_client();
        let observers =
            Arc::new(options.observers.into_iter().fold(fresh, |set, observer| set.with_observer(observer)));
        let announced = config.sample_use_retrieve_futures;
        let billing_pause = connection.billing_pause();
        let poller = retrieve::poller(
            &holder,
            connection,
            &observers,
            ClientKind::Sampling,
            &sampling_session_id,
            options.poll_policy,
            "SamplingClient.sample",
        );
        // PROTOCOL 4.1: the session poller lifts the server's limit on samples in flight.
        let server_limit = (!announced)
            .then(|| usize::try_from(config.sample_max_concurrent_requests).unwrap_or(usize::MAX).max(1));
        // Of two limits that hold for the same samples the smaller one is enough.
        let (limit, supervised_limit) = match (options.max_in_flight, server_limit) {
            (own, Some(servers)) if config.sample_no_retries => (own, Some(servers)),
            (own, servers) => ([own, servers].into_iter().flatten().min(), None),
        };
        let places = |limit: usize| Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
        let submit_policy = options
            .retry_policy
            .or_else(|| settings.sampling_policy.clone())
            .unwrap_or_else(|| RetryPolicy::patient(PATIENCE).billing_pause(billing_pause));
        let resubmissions = match submit_policy.is_enabled() {
            true => submit_policy.max_retries.unwrap_or(RESUBMISSIONS).min(RESUBMISSIONS),
            false => 0,
        };
        let announcements = announced.then(|| {
            let many = HttpRetrieveMany::new(holder.http.clone(), Arc::clone(&sampling_session_id), clone_id);
            let pause = options
                .poll_policy
                .or(settings.poll_policy)
                .map_or(billing_pause, |policy| policy.billing_pause);
            SessionPoller::new(many, holder.runtime.clone()).billing_pause(pause)
        });
        let progress = Progress::new(Arc::clone(&sampling_session_id), Arc::clone(&holder.inflight));
        let progress_timeout = match options.stuck_detection {
            StuckDetection::After(timeout) if config.sample_enable_stuck_detection => Some(timeout),
            _ => None,
        };
        let stuck_detection = progress_timeout
            .map(|timeout| OwnedTask::spawn(&holder.runtime, give_up_stuck(Arc::clone(&progress), timeout)));
        SamplingClient::new(Sampler {
            session_id: Arc::clone(connection.session.id()),
            sampling_session_id,
            base_model,
            sequence: SequenceIds::starting_at(clone_id.saturating_mul(SAMPLER_BLOCK)),
            dispatch: Arc::clone(&connection.dispatch),
            poller,
            announcements,
            observers,
            in_flight: limit.map(places),
            supervised_in_flight: supervised_limit.map(places),
            bypass: config.sample_no_retries,
            progress,
            progress_timeout,
            _stuck_detection: stuck_detection,
            submit_policy,
            record_stability_info: options.record_stability_info,
            closed: AtomicBool::new(false),
            resubmissions,
            holder,
        })
    }
}

/// Opens a sampler of a session that another process created, with a block of sequence ids of its own: given by the
/// server where it offers to, else drawn at random (PROTOCOL 15.7).
pub(crate) async fn open(holder: Arc<Holder>, handle: &SamplerHandle) -> Result<SamplingClient, Error> {
    let connection = holder.connection().await?;
    let clone_id = if connection.config.sample_join_sampling_session {
        endpoints::join_sampling_session(&holder.http, &handle.sampling_session_id).await?.client_counter
    } else {
        fastrand::u64(1..=SAMPLER_BLOCK)
    };
    let mut builder = SamplingClientBuilder::new(Arc::clone(&holder));
    builder.options.record_stability_info = handle.record_stability_info;
    let id = handle.sampling_session_id.as_str().into();
    Ok(builder.assemble(connection, id, handle.base_model.clone(), clone_id))
}
