//! The training client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tinkex_future::{ByteBudget, Poller, PromiseRef};
use tinkex_http::{ApiRequest, BackoffGate, RetryPolicy};
use tinkex_observer::{ObserverSet, QueueStates};
use tinkex_types::{
    ChunkLimits, ClientKind, Datum, ForwardBackwardOutput, Loss, ModelInfo, OptimStepBody, OptimStepResult,
    OptimizerParams, Promise, QueueState, QueueStateChange, QueueStateObserver, RequestType,
    UnloadModelRequest, UnloadModelResult,
};
use tokio::sync::oneshot;

use super::batch::Batch;
use super::call::{self, Call, Operation};
use super::dispatch::{PollPlaces, TrainingDispatch};
use super::fetch::read_json;
use super::handle::TrainingHandle;
use super::turns::{Ticket, Turns};
use super::wire_format::WireFormat;
use crate::holder::Holder;
use crate::operation_span::OperationSpan;
use crate::retrieve::HttpRetrieve;
use crate::{Error, ErrorKind, ModelPath, SamplingClient, SamplingClientBuilder, endpoints};

/// Trains one model. A cheap clone, `Send + Sync`; clones share the model, its order of operations and its pause log.
///
/// Calls are eager: a method has taken its place and started its work when it returns, from whatever thread it is
/// called. Operations reach the server in the order of the calls, each when the one before was accepted; results are
/// waited for independently, 64 at a time, oldest first. So a training step needs no `await` in between:
///
/// ```no_run
/// # async fn example(
/// #     trainer: tinkex_client::TrainingClient,
/// #     batches: Vec<Vec<tinkex_client::Datum>>,
/// # ) -> Result<(), tinkex_client::Error> {
/// use tinkex_client::{AdamParams, LossFn};
///
/// for batch in batches {
///     let pass = trainer.forward_backward(batch, LossFn::CrossEntropy);
///     let update = trainer.optim_step(AdamParams::new(1e-4));
///     println!("loss {:?}", pass.await?.loss());
///     update.await?;
/// }
/// # Ok(()) }
/// ```
///
/// # Failures
///
/// An operation that fails does not stop those behind it, and leaves nothing that the server would wait for (PROTOCOL
/// 12.4). A server that refuses a submission for now (429) is asked again for as long as it says so; that holds up this
/// client and its clones, but no other model and no creation of one. Other failures of a submission are repeated until
/// they have lasted 30 minutes
/// ([`TrainingClientBuilder::retry_policy`](crate::TrainingClientBuilder::retry_policy)). The error of one that failed
/// for good says what it has done at the server ([`Error::effect`]), since gradients that were taken in count in the
/// next optimizer step.
#[derive(Clone)]
pub struct TrainingClient {
    pub(crate) inner: Arc<Trainer>,
}

/// What the clones of a training client share.
pub(crate) struct Trainer {
    pub(crate) holder: Arc<Holder>,
    pub(crate) dispatch: Arc<TrainingDispatch>,
    pub(crate) model_id: Arc<str>,
    pub(crate) info: ModelInfo,
    pub(super) base_model: String,
    pub(crate) turns: Arc<Turns>,
    pub(super) poller: Poller<HttpRetrieve>,
    pub(super) poll_places: PollPlaces,
    pub(super) observers: Arc<ObserverSet>,
    /// Closed by a 429 of a submission of this client. The limits that servers name for training are those of a model.
    pub(super) window: Arc<BackoffGate>,
    /// Bounds the estimated bytes of chunks that are encoded and being sent (PROTOCOL 12.5). A client's own, since they
    /// are held while its window is closed.
    pub(super) bytes: Arc<ByteBudget>,
    pub(super) submit_policy: RetryPolicy,
    pub(super) wire_format: WireFormat,
    pub(crate) chunk_limits: ChunkLimits,
    /// Whether protobuf bodies are compressed.
    pub(super) compress: bool,
}

impl TrainingClient {
    pub(super) fn new(trainer: Trainer) -> Self {
        let inner = Arc::new(trainer);
        inner.holder.register_trainer(&inner);
        Self { inner }
    }

    /// The model in training. Pause lines name it.
    pub fn model_id(&self) -> &str {
        &self.inner.model_id
    }

    /// What the server said of the model when the client was created.
    pub fn info(&self) -> &ModelInfo {
        &self.inner.info
    }

    /// The model below the adapter: as the server says, else as it was asked for; empty where neither is known.
    pub fn base_model(&self) -> &str {
        &self.inner.base_model
    }

    /// Asks the server about the model (PROTOCOL 11.2). Not an operation in turn: it waits for nothing.
    ///
    /// # Errors
    /// Through the handle, where the request fails.
    pub fn get_info(&self) -> TrainingHandle<ModelInfo> {
        let trainer = Arc::clone(&self.inner);
        if let Err(closed) = trainer.holder.check_open() {
            return TrainingHandle::refused(closed);
        }
        let (sender, receiver) = oneshot::channel();
        let runtime = trainer.holder.runtime.clone();
        let method = "TrainingClient.get_info";
        let span = OperationSpan::open(method, None, Some(&trainer.model_id));
        // Ends by itself, within the limits of an ordinary call.
        runtime.spawn(span.clone().around(async move {
            let info = endpoints::get_info(&trainer.holder.http, &trainer.model_id, method).await;
            if let Err(error) = &info {
                span.failed(error);
                trainer.holder.telemetry().operation_failed(method, error);
            }
            // Nobody listens where the handle was dropped.
            let _ = sender.send(info);
        }));
        TrainingHandle::new(receiver, None)
    }

    /// Computes the loss of `data` and adds its gradient to those that the next [`optim_step`](Self::optim_step) uses
    /// (PROTOCOL 12.1). A large batch is cut into chunks, which are submitted within one turn, and whose outputs are
    /// combined (PROTOCOL 12.5, 12.6): outputs per datum in order, metrics reduced as their names say.
    ///
    /// # Errors
    /// Through the handle: [`InvalidInput`](crate::ErrorKind::InvalidInput) for data or a loss that no server accepts,
    /// without anything being sent; [`RequestFailed`](crate::ErrorKind::RequestFailed) where the server took it in and it
    /// failed there; otherwise the kind says how the submission or the polling ended. Where some chunks of a batch could
    /// not be submitted the message says which ones count, and [`Error::effect`] is
    /// [`Partial`](crate::Effect::Partial).
    pub fn forward_backward(
        &self,
        data: impl Into<Vec<Datum>>,
        loss: impl Into<Loss>,
    ) -> TrainingHandle<ForwardBackwardOutput> {
        let method = "TrainingClient.forward_backward";
        let operation = Operation { method, kind: RequestType::ForwardBackward };
        self.pass(data.into(), loss.into(), operation)
    }

    /// Computes the loss of `data`, and no gradient (PROTOCOL 12.1). Its place among the other operations says which
    /// weights it sees.
    ///
    /// # Errors
    /// As [`forward_backward`](Self::forward_backward).
    pub fn forward(
        &self,
        data: impl Into<Vec<Datum>>,
        loss: impl Into<Loss>,
    ) -> TrainingHandle<ForwardBackwardOutput> {
        let operation = Operation { method: "TrainingClient.forward", kind: RequestType::Forward };
        self.pass(data.into(), loss.into(), operation)
    }

    pub(crate) fn pass(
        &self,
        data: Vec<Datum>,
        loss: Loss,
        operation: Operation,
    ) -> TrainingHandle<ForwardBackwardOutput> {
        let forward_only = operation.kind == RequestType::Forward;
        let batch = match Batch::new(data, loss, forward_only, &self.inner.chunk_limits) {
            Ok(batch) => batch,
            Err(invalid) => return call::refuse(&self.inner, operation.method, invalid),
        };
        call::start(&self.inner, operation, |call, ticket| async move {
            let promises = {
                let mut turn = ticket.turn().await?;
                call.submit_batch(&mut turn, &batch).await?
            };
            drop(batch);
            call.fetch_batch(promises).await
        })
    }

    /// Updates the weights with the gradients accumulated since the last step (PROTOCOL 12.7). The parameters must be of
    /// the optimizer family that the model was created with.
    ///
    /// # Errors
    /// Through the handle, as [`forward_backward`](Self::forward_backward).
    pub fn optim_step(&self, params: impl Into<OptimizerParams>) -> TrainingHandle<OptimStepResult> {
        let params = params.into();
        let operation = Operation { method: "TrainingClient.optim_step", kind: RequestType::OptimStep };
        if let Err(invalid) = params.validate() {
            return call::refuse(&self.inner, operation.method, invalid);
        }
        let model_id = Arc::clone(&self.inner.model_id);
        let make = move |seq_id| {
            let body = OptimStepBody { model_id: &model_id, seq_id, params: &params };
            Ok(ApiRequest::post_json("optim_step", "/api/v1/optim_step", &body)?)
        };
        self.json_operation(operation, make, read_json)
    }

    /// Frees the model on the server (PROTOCOL 11.3). It is sent when everything called before was accepted; await
    /// their results first where they matter. Operations called later fail with
    /// [`Closed`](crate::ErrorKind::Closed), on all clones; unless it fails, which makes the client as good as before.
    ///
    /// # Errors
    /// Through the handle, as [`optim_step`](Self::optim_step).
    pub fn unload(&self) -> TrainingHandle<()> {
        let operation = Operation { method: "TrainingClient.unload_model", kind: RequestType::UnloadModel };
        call::start_at(&self.inner, Turns::last_ticket, operation, |call, ticket| async move {
            let Some(promise) =
                call.submit_unload(ticket).await.inspect_err(|_| call.trainer.turns.reopen())?
            else {
                return Ok(());
            };
            let unloaded = call.fetch(promise, read_json::<UnloadModelResult>).await;
            if unloaded.as_ref().is_err_and(|error| error.kind() == ErrorKind::RequestFailed) {
                call.trainer.turns.reopen();
            }
            unloaded.map(drop)
        })
    }

    /// Creates a sampling client of saved weights, a [`SamplerCheckpoint`](crate::SamplerCheckpoint) or a path, in the
    /// session of this client. As [`ServiceClient::sampling_client`](crate::ServiceClient::sampling_client), which has
    /// options.
    ///
    /// # Errors
    /// As [`SamplingClientBuilder::create`](crate::SamplingClientBuilder::create).
    pub async fn create_sampling_client(&self, path: impl Into<ModelPath>) -> Result<SamplingClient, Error> {
        SamplingClientBuilder::new(Arc::clone(&self.inner.holder))
            .on_behalf_of("TrainingClient.create_sampling_client")
            .model_path(path)
            .create()
            .await
    }

    /// The queue states of the operations of this client and its clones as they change, from now on: what its observers
    /// are told. The stream ends when the last clone is gone, and the last of its operations. The pauses of the creation
    /// of a model are those of the service: [`ServiceClient::queue_states`](crate::ServiceClient::queue_states).
    pub fn queue_states(&self) -> QueueStates {
        self.inner.observers.queue_states()
    }

    /// Waits until user observers have been told everything so far, `limit` at most; blocks the thread. For tests.
    pub fn flush_observers(&self, limit: Duration) -> bool {
        self.inner.observers.flush(limit)
    }
}

impl Call {
    /// Unloading has no sequence id. Some servers answer at once, without a promise.
    async fn submit_unload(&self, ticket: Ticket) -> Result<Option<PromiseRef>, Error> {
        let _turn = ticket.turn().await?;
        let body = UnloadModelRequest::new(&self.trainer.model_id);
        let request = ApiRequest::post_json("unload_model", "/api/v1/unload_model", &body)?;
        let response = self.send(request).await?;
        Ok(response.json::<Promise>().ok().map(|accepted| self.promise(&accepted)))
    }
}

/// A training client is an observer itself (S2-02): what it is told goes where its own polls report.
impl QueueStateObserver for TrainingClient {
    fn on_observation(&self, observation: &QueueStateChange) {
        self.inner.observers.on_observation(observation);
    }

    fn on_change(&self, change: &QueueStateChange) {
        self.on_observation(change);
    }

    fn on_queue_state_change(&self, state: QueueState) {
        let id = Arc::clone(&self.inner.model_id);
        self.on_observation(&QueueStateChange::new(state, ClientKind::Training, id));
    }
}

impl fmt::Debug for TrainingClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrainingClient")
            .field("model_id", &self.inner.model_id)
            .field("base_model", &self.base_model())
            .finish_non_exhaustive()
    }
}
