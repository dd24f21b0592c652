//! How a training client goes on from a checkpoint (PROTOCOL 14; OPEN_SERVERS, decision 7).
//!
//! The production service creates the model by loading: one request, and the model's id follows from its number. Open
//! servers want the model first: what it was like is asked for, it is created, and the checkpoint is loaded into it as
//! its first numbered request. Which way the service goes is found out once: where its refusal says that the form is
//! unknown to it. A refusal that may be about a setting is got around for that one model.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::{Map, Value};
use tinkex_future::PollPolicy;
use tinkex_http::{ApiRequest, RetryPolicy};
use tinkex_types::{
    CreateModelRequest, LoadTarget, LoadWeightsRequest, LoadWeightsResult, LoraConfig, OptimizerConfig,
    Promise, QueueStateObserver, RequestType,
};

use super::client::TrainingClient;
use super::create::{Creation, Options};
use super::load::LoadState;
use super::wire_format::WireFormat;
use crate::holder::Holder;
use crate::operation_span::OperationSpan;
use crate::{Error, endpoints};

/// Builds a [`TrainingClient`] that goes on from a checkpoint (PROTOCOL 14). Setters never fail; everything is checked in
/// [`create`](Self::create).
#[must_use = "a builder does nothing before create()"]
pub struct FromStateBuilder {
    holder: Arc<Holder>,
    path: String,
    with_optimizer: bool,
    base_model: Option<String>,
    optimizer: Option<OptimizerConfig>,
    user_metadata: Option<Map<String, Value>>,
    weights_access_token: Option<String>,
    options: Options,
}

impl FromStateBuilder {
    pub(crate) fn new(holder: Arc<Holder>, state: LoadState, with_optimizer: bool) -> Self {
        let LoadState { path, access_token } = state;
        Self {
            holder,
            path,
            with_optimizer,
            base_model: None,
            optimizer: None,
            user_metadata: None,
            weights_access_token: access_token,
            options: Options::default(),
        }
    }

    /// Names the model below the weights. Default: the server knows.
    pub fn base_model(mut self, base_model: impl Into<String>) -> Self {
        self.base_model = Some(base_model.into());
        self
    }

    /// Sets the family of optimizers to start with; only where the optimizer's state is not restored. Default: the
    /// server's choice.
    pub fn optimizer(mut self, optimizer: OptimizerConfig) -> Self {
        self.optimizer = Some(optimizer);
        self
    }

    /// Adds an entry to the model's metadata.
    pub fn user_metadata(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.user_metadata.get_or_insert_default().insert(key.into(), value.into());
        self
    }

    /// Sets the permission to read weights of somebody else.
    pub fn weights_access_token(mut self, token: impl Into<String>) -> Self {
        self.weights_access_token = Some(token.into());
        self
    }

    /// Sets the form in which forward/backward passes are sent. Default: what the server accepts.
    pub fn wire_format(mut self, format: WireFormat) -> Self {
        self.options.wire_format = format;
        self
    }

    /// Sets how submissions are repeated; as
    /// [`TrainingClientBuilder::retry_policy`](crate::TrainingClientBuilder::retry_policy).
    pub fn retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.options.retry_policy = Some(policy);
        self
    }

    /// Sets how results are waited for. Default: the service client's.
    pub fn poll_policy(mut self, policy: PollPolicy) -> Self {
        self.options.poll_policy = Some(policy);
        self
    }

    /// Adds an observer of the queue states of this client and of its creation, besides the service client's and the
    /// built-in pause log.
    pub fn queue_state_observer(mut self, observer: impl QueueStateObserver + 'static) -> Self {
        self.options.observers.push(Arc::new(observer));
        self
    }

    /// Creates a model, restores the checkpoint into it and asks about it. Connects first, where the service client has
    /// not. Dropping the future stops the waiting; a model that the server has begun to create lives on. One that had to
    /// be created first, and whose checkpoint then could not be loaded, is unloaded.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), before anything is sent, where the path is empty, or an
    /// optimizer is given although its state is restored; otherwise what the server says, such as for an unknown
    /// checkpoint.
    pub async fn create(self) -> Result<TrainingClient, Error> {
        let (holder, method) = (Arc::clone(&self.holder), self.method());
        let span = OperationSpan::open(method, Some(RequestType::LoadWeights), None);
        let created = span.cover(Box::pin(self.create_and_load(method, &span))).await;
        created.inspect_err(|error| holder.telemetry().operation_failed(method, error))
    }

    /// The public method (PROTOCOL 5.1).
    fn method(&self) -> &'static str {
        match self.with_optimizer {
            true => "ServiceClient.create_training_client_from_state_with_optimizer",
            false => "ServiceClient.create_training_client_from_state",
        }
    }

    async fn create_and_load(
        self,
        method: &'static str,
        span: &OperationSpan,
    ) -> Result<TrainingClient, Error> {
        self.load_request(String::new(), 0).validate()?;
        let holder = Arc::clone(&self.holder);
        let connection = Box::pin(holder.connection()).await?;
        let session = &connection.session;
        let (session_id, model_seq_id) = (session.id().to_string(), session.draw_model_seq_id());
        if let Some(token) = &self.weights_access_token {
            holder.telemetry().conceal(token);
        }
        let mut state = self;
        let options = std::mem::take(&mut state.options);
        let creation = Creation::new(&holder, connection, method, options, span);
        let habit = &connection.training.creation;
        let mut refusal = None;
        if !habit.needs_model_first() {
            let model_id = format!("{session_id}:train:{model_seq_id}");
            let body = state.load_request(session_id.clone(), model_seq_id);
            match Box::pin(load(&creation, &model_id, &body)).await {
                Ok(()) => {
                    habit.creates_by_loading();
                    return Box::pin(creation.client(model_id, 1, state.base_model)).await;
                }
                Err(LoadError::Refused(error)) if habit.may_need_model_first(&error) => refusal = Some(error),
                Err(LoadError::Refused(error) | LoadError::Failed(error)) => return Err(error),
            }
        }
        let created = Box::pin(state.create_then_load(&creation, session_id, model_seq_id)).await;
        match (created, refusal) {
            (Ok((model_id, base_model)), refusal) => {
                if refusal.as_ref().is_some_and(wants_model_first) {
                    habit.wants_model_first();
                }
                Box::pin(creation.client(model_id, 2, Some(base_model))).await
            }
            (Err(second), Some(first)) if wants_model_first(&first) => Err(second),
            (Err(second), Some(first)) => {
                Err(first.noted(&format!("creating the model first did not help: {second}")))
            }
            (Err(error), None) => Err(error),
        }
    }

    fn load_request(&self, session_id: String, model_seq_id: u64) -> LoadWeightsRequest {
        let mut request = LoadWeightsRequest::create(session_id, model_seq_id, self.path.as_str());
        if let LoadTarget::New { base_model, user_metadata, optimizer_config, .. } = &mut request.target {
            base_model.clone_from(&self.base_model);
            user_metadata.clone_from(&self.user_metadata);
            optimizer_config.clone_from(&self.optimizer);
        }
        self.complete(request)
    }

    fn complete(&self, mut request: LoadWeightsRequest) -> LoadWeightsRequest {
        request.optimizer = self.with_optimizer;
        request.weights_access_token.clone_from(&self.weights_access_token);
        request
    }

    /// The way of open servers; gives the id of the model, and its base model.
    async fn create_then_load(
        &self,
        creation: &Creation<'_>,
        session_id: String,
        model_seq_id: u64,
    ) -> Result<(String, String), Error> {
        let info = endpoints::weights_info(&creation.holder.http, &self.path, creation.method).await?;
        let base_model = self.base_model.as_ref().unwrap_or(&info.base_model);
        let mut request = CreateModelRequest::new(session_id, model_seq_id, base_model);
        let default = LoraConfig::default();
        request.lora_config = LoraConfig {
            rank: info.lora_rank.unwrap_or(default.rank),
            seed: None,
            train_unembed: info.train_unembed.unwrap_or(default.train_unembed),
            train_mlp: info.train_mlp.unwrap_or(default.train_mlp),
            train_attn: info.train_attn.unwrap_or(default.train_attn),
        };
        request.optimizer_config = self.optimizer.clone().unwrap_or(info.optimizer_config);
        request.user_metadata.clone_from(&self.user_metadata);
        let model_id = creation.create_model(&request).await?;
        let body = self.complete(LoadWeightsRequest::into_model(model_id.as_str(), 1, self.path.as_str()));
        match load(creation, &model_id, &body).await {
            Ok(()) => Ok((model_id, request.base_model)),
            Err(LoadError::Refused(error) | LoadError::Failed(error)) => {
                // Nobody will ever hear of the model, and models are limited in number.
                let unloaded =
                    endpoints::unload_model(&creation.holder.http, &model_id, creation.method).await;
                if let Err(unloading) = unloaded {
                    tracing::debug!("a model without its checkpoint stays at the server: {unloading}");
                }
                Err(error)
            }
        }
    }
}

enum LoadError {
    /// The request was not accepted.
    Refused(Error),
    /// It was, and then it failed.
    Failed(Error),
}

/// Loads weights as a step of the creation of `model_id`, and waits until they are there.
async fn load(creation: &Creation<'_>, model_id: &str, body: &LoadWeightsRequest) -> Result<(), LoadError> {
    let step = creation.step(RequestType::LoadWeights, model_id);
    let request = ApiRequest::post_json("load_weights", "/api/v1/load_weights", body)
        .map_err(|error| LoadError::Failed(error.into()))?;
    let response = step.send(request).await.map_err(|error| LoadError::Refused(error.into()))?;
    let accepted = response.json::<Promise>().map_err(|error| LoadError::Failed(error.into()))?;
    // The id in the result is ignored (PROTOCOL 14).
    step.fetch::<LoadWeightsResult>(&accepted).await.map(drop).map_err(LoadError::Failed)
}

/// Whether a refusal of the creation by loading is about that form, and not about what the user asked for.
fn wants_model_first(refusal: &Error) -> bool {
    match refusal.status() {
        Some(404 | 405 | 501) => true,
        // A body without a model is not taken in: the server names what is missing.
        Some(400 | 422) => refusal.to_string().contains("model_id"),
        _ => false,
    }
}

/// How a service makes models from checkpoints, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct CreationHabit(AtomicU8);

const BY_LOADING: u8 = 1;
const MODEL_FIRST: u8 = 2;

impl CreationHabit {
    fn needs_model_first(&self) -> bool {
        self.0.load(Ordering::Relaxed) == MODEL_FIRST
    }

    /// Whether a refusal may mean that the service does not know how to create by loading.
    fn may_need_model_first(&self, error: &Error) -> bool {
        self.0.load(Ordering::Relaxed) != BY_LOADING
            && matches!(error.status(), Some(400 | 404 | 405 | 422 | 501))
    }

    fn creates_by_loading(&self) {
        self.0.store(BY_LOADING, Ordering::Relaxed);
    }

    fn wants_model_first(&self) {
        self.0.store(MODEL_FIRST, Ordering::Relaxed);
    }
}

/// Leaves out metadata and the token, which are or may be secret.
impl fmt::Debug for FromStateBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromStateBuilder")
            .field("path", &self.path)
            .field("with_optimizer", &self.with_optimizer)
            .finish_non_exhaustive()
    }
}
