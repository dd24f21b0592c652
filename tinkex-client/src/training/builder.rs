//! How a training client of a new model is made (PROTOCOL 11.1).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tinkex_future::PollPolicy;
use tinkex_http::RetryPolicy;
use tinkex_types::{
    CreateModelRequest, InvalidInput, LoraConfig, OptimizerConfig, QueueStateObserver, RequestType,
};

use super::client::TrainingClient;
use super::create::{Creation, Options};
use super::wire_format::WireFormat;
use crate::Error;
use crate::holder::Holder;
use crate::operation_span::OperationSpan;

/// The public method (PROTOCOL 5.1).
const METHOD: &str = "ServiceClient.create_lora_training_client";

/// How long submissions are repeated over failures that may pass, since the first of them, by default.
pub(super) const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Builds a [`TrainingClient`] of a new low-rank adapter (PROTOCOL 11.1). Setters never fail; everything is checked in
/// [`create`](Self::create).
#[must_use = "a builder does nothing before create()"]
pub struct TrainingClientBuilder {
    holder: Arc<Holder>,
    base_model: String,
    lora: LoraConfig,
    optimizer: OptimizerConfig,
    user_metadata: Option<Map<String, Value>>,
    options: Options,
}

impl TrainingClientBuilder {
    pub(crate) fn new(holder: Arc<Holder>, base_model: String) -> Self {
        Self {
            holder,
            base_model,
            lora: LoraConfig::default(),
            optimizer: OptimizerConfig::default(),
            user_metadata: None,
            options: Options::default(),
        }
    }

    /// Sets the adapter's rank, at least 1. Default 32.
    pub fn rank(mut self, rank: u32) -> Self {
        self.lora.rank = rank;
        self
    }

    /// Makes the adapter's initial weights repeatable. Default: the server draws them.
    pub fn seed(mut self, seed: u64) -> Self {
        self.lora.seed = Some(seed);
        self
    }

    /// Says whether the MLP layers are trained. Default true.
    pub fn train_mlp(mut self, train: bool) -> Self {
        self.lora.train_mlp = train;
        self
    }

    /// Says whether the attention layers are trained. Default true.
    pub fn train_attn(mut self, train: bool) -> Self {
        self.lora.train_attn = train;
        self
    }

    /// Says whether the unembedding layer is trained. Default true.
    pub fn train_unembed(mut self, train: bool) -> Self {
        self.lora.train_unembed = train;
        self
    }

    /// Sets the family of optimizers whose steps the model will take. Default Adam.
    pub fn optimizer(mut self, optimizer: OptimizerConfig) -> Self {
        self.optimizer = optimizer;
        self
    }

    /// Adds an entry to the model's metadata.
    pub fn user_metadata(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.user_metadata.get_or_insert_default().insert(key.into(), value.into());
        self
    }

    /// Sets the form in which forward/backward passes are sent. Default: what the server accepts.
    pub fn wire_format(mut self, format: WireFormat) -> Self {
        self.options.wire_format = format;
        self
    }

    /// Sets how submissions are repeated, the creation's included. Default: the service client's; else, for operations,
    /// until a failure has lasted 30 minutes, and for the creation 10 retries within 5 minutes.
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

    /// Creates the model, waits until it is there and asks about it. Connects first, where the service client has not.
    /// Dropping the future stops the waiting; a model that the server has begun to create lives on.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), before anything is sent, where there is no base model, a rank of
    /// 0, or nothing to train; otherwise what the server says, such as for an unknown base model.
    pub async fn create(self) -> Result<TrainingClient, Error> {
        let holder = Arc::clone(&self.holder);
        let span = OperationSpan::open(METHOD, Some(RequestType::CreateModel), None);
        let created = span.cover(Box::pin(self.create_model(&span))).await;
        created.inspect_err(|error| holder.telemetry().operation_failed(METHOD, error))
    }

    async fn create_model(self, span: &OperationSpan) -> Result<TrainingClient, Error> {
        let base_model = self.base_model.trim();
        if base_model.is_empty() {
            return Err(InvalidInput::new("base_model", "must not be empty").into());
        }
        self.lora.validate()?;
        self.optimizer.validate()?;
        let holder = Arc::clone(&self.holder);
        let connection = Box::pin(holder.connection()).await?;
        let session = &connection.session;
        let mut request =
            CreateModelRequest::new(session.id().to_string(), session.draw_model_seq_id(), base_model);
        request.lora_config = self.lora;
        request.optimizer_config = self.optimizer;
        request.user_metadata = self.user_metadata;
        let creation = Creation::new(&holder, connection, METHOD, self.options, span);
        let model_id = Box::pin(creation.create_model(&request)).await?;
        Box::pin(creation.client(model_id, 1, Some(request.base_model))).await
    }
}

/// Names the model only: metadata may hold secrets.
impl fmt::Debug for TrainingClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrainingClientBuilder")
            .field("base_model", &self.base_model)
            .field("lora", &self.lora)
            .finish_non_exhaustive()
    }
}
