//! The top-level client: one service, one session, and the clients made from it.

mod builder;

use std::io;
use std::sync::Arc;

pub use builder::ServiceClientBuilder;
use http::HeaderValue;
use tinkex_observer::QueueStates;
use tinkex_types::{FinishReason, ServerCapabilities};

use crate::holder::Holder;
use crate::inflight;
use crate::{
    CopyWeights, Error, FromStateBuilder, Inflight, LoadState, RestClient, SamplingClientBuilder,
    TrainingClientBuilder, endpoints,
};

/// The entry to a Tinker service. A cheap clone, `Send + Sync`; clones share one session.
///
/// The session is created when the client is built (or by the first operation that needs it, with
/// [`ServiceClientBuilder::connect_lazily`]) and kept alive by a heartbeat every 10 s. Dropping the last client of a
/// service, samplers and pending samples included, ends the heartbeat and all background tasks; only
/// [`close`](Self::close) tells the server that the session is over. How the session goes is reported to the service unless
/// that is turned off ([`ServiceClientBuilder::without_telemetry`]).
#[derive(Clone, Debug)]
pub struct ServiceClient {
    pub(crate) holder: Arc<Holder>,
}

impl ServiceClient {
    /// Starts a builder. It reads no environment variable; see [`ServiceClientBuilder::from_env`].
    pub fn builder() -> ServiceClientBuilder {
        ServiceClientBuilder::default()
    }

    /// Connects as the environment says: `TINKER_API_KEY`, `TINKER_CREDENTIAL_CMD` or the stored default key, and
    /// `TINKER_BASE_URL`, `TINKER_PROJECT_ID`, `TINKER_TAGS`, `TINKER_TELEMETRY`.
    ///
    /// # Errors
    /// Where a variable is unusable, or the service cannot be reached.
    #[cfg(feature = "reqwest")]
    pub async fn from_env() -> Result<Self, Error> {
        Self::builder().from_env().build().await
    }

    pub(crate) fn new(holder: Arc<Holder>) -> Self {
        Self { holder }
    }

    /// Starts a builder of a sampling client.
    pub fn sampling_client(&self) -> SamplingClientBuilder {
        SamplingClientBuilder::new(Arc::clone(&self.holder))
    }

    /// Starts a builder of a training client: a new low-rank adapter over `base_model` (PROTOCOL 11.1).
    pub fn lora_training_client(&self, base_model: impl Into<String>) -> TrainingClientBuilder {
        TrainingClientBuilder::new(Arc::clone(&self.holder), base_model.into())
    }

    /// Starts a builder of a training client that goes on from the weights of a checkpoint; the optimizer begins anew
    /// (PROTOCOL 14).
    pub fn training_client_from_state(&self, state: impl Into<LoadState>) -> FromStateBuilder {
        FromStateBuilder::new(Arc::clone(&self.holder), state.into(), false)
    }

    /// Starts a builder of a training client that goes on from a checkpoint, the optimizer's state included (PROTOCOL
    /// 14).
    pub fn training_client_from_state_with_optimizer(&self, state: impl Into<LoadState>) -> FromStateBuilder {
        FromStateBuilder::new(Arc::clone(&self.holder), state.into(), true)
    }

    /// Copies a checkpoint into a project, by default the one of this client, and gives the path of the copy (PROTOCOL
    /// 14). The copy shares its storage with the source.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), before anything is sent, where there is no project or the life is
    /// out of range; otherwise what the server says.
    pub async fn copy_weights(&self, copy: impl Into<CopyWeights>) -> Result<String, Error> {
        let copied = self.copy(copy.into()).await;
        copied.inspect_err(|error| {
            self.holder.telemetry().operation_failed("ServiceClient.copy_weights", error);
        })
    }

    async fn copy(&self, copy: CopyWeights) -> Result<String, Error> {
        self.holder.check_open()?;
        let project = self.holder.settings.session_request.project_id.as_deref();
        let (request, token) = copy.request(project)?;
        if let Some(Ok(token)) = token.as_ref().map(HeaderValue::to_str) {
            self.holder.telemetry().conceal(token);
        }
        Ok(endpoints::copy_weights(&self.holder.http, &request, token).await?.tinker_path)
    }

    /// A client of the REST part of the API. It needs no session.
    pub fn rest_client(&self) -> RestClient {
        RestClient::new(self.holder.http.clone())
    }

    /// The models the server offers: [`RestClient::server_capabilities`].
    ///
    /// # Errors
    /// Where the request fails.
    pub async fn server_capabilities(&self) -> Result<ServerCapabilities, Error> {
        self.rest_client().server_capabilities().await
    }

    /// The session's id, once there is a session.
    pub fn session_id(&self) -> Option<Arc<str>> {
        self.holder.connected().map(|connection| Arc::clone(connection.session.id()))
    }

    /// Every request in flight, oldest first: to go through, to print as a table, or as JSON.
    pub fn inflight(&self) -> Inflight {
        self.holder.inflight.snapshot()
    }

    /// Writes [`inflight`](Self::inflight) as a table below a line about the service: the time since it was built, the
    /// session, whether submissions of samples back off, and how many more could be sent at once. It is what
    /// [`dump_inflight_on_signal`](ServiceClientBuilder::dump_inflight_on_signal) writes. Nothing in it is secret.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn dump_inflight(&self, to: &mut impl io::Write) -> io::Result<()> {
        to.write_all(inflight::dump(&self.holder).as_bytes())
    }

    /// The queue states of all clients of this service as they change, those whose models are just being created
    /// included, from now on: what observers of the service are told
    /// ([`queue_state_observer`](ServiceClientBuilder::queue_state_observer)). The stream ends when the service is gone: the
    /// last clone of it, its clients, and their requests.
    pub fn queue_states(&self) -> QueueStates {
        self.holder.settings.observers.queue_states_of_all()
    }

    /// Whether submissions of samples wait because the server asked for it (429). Shared by every client of this
    /// service and key in the process.
    pub fn in_backoff(&self) -> bool {
        self.holder.connected().is_some_and(|connection| connection.dispatch.backoff().in_backoff())
    }

    /// Free submission slots and free submission bytes. At rest both are at their full size; a number that stays
    /// below it names a leak.
    pub fn dispatch_available(&self) -> Option<(usize, i64)> {
        self.holder.connected().map(|connection| connection.dispatch.available())
    }

    /// Ends the session on the server (PROTOCOL 10.3): new requests are refused from now on, queued cancellations are
    /// sent, the heartbeat stops, and the server is told how the session ended. Requests in flight go on until their
    /// handles are dropped, but for samples announced by a session poller (see
    /// [`SamplingClient::close`](crate::SamplingClient::close)).
    ///
    /// Training operations that were called before are submitted first, those whose handles were dropped included, so a
    /// last `save_state` need not be awaited to reach the server. They have 30 s from the first call of `close`. What
    /// still waits then, for its turn or because the server refuses it for now, fails with
    /// [`Closed`](crate::ErrorKind::Closed), and nothing of this service is submitted any more.
    ///
    /// Last, what is still to be reported is sent, unless telemetry is off
    /// ([`without_telemetry`](ServiceClientBuilder::without_telemetry)); that takes 5 s at most, whatever the server does.
    ///
    /// Takes 45 s at most, and up to 30 s more where training operations are waited for. Does nothing where there never was a session, where the server has no such endpoint, or once
    /// it has succeeded; a call that failed or was dropped may be made again.
    ///
    /// # Errors
    /// Where the server could not be told. [`Timeout`](crate::ErrorKind::Timeout) where another call was still making the
    /// connection after 10 s; its session is not kept alive, and closing again finishes it.
    pub async fn close(&self, reason: FinishReason) -> Result<(), Error> {
        self.holder.close(reason, None).await
    }

    /// Like [`close`](Self::close), with a detail in words.
    ///
    /// # Errors
    /// Where the server could not be told.
    pub async fn close_with_detail(
        &self,
        reason: FinishReason,
        detail: impl Into<String>,
    ) -> Result<(), Error> {
        self.holder.close(reason, Some(detail.into())).await
    }
}
