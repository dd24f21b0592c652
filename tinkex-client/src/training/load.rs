//! Restoring a checkpoint into the model of a training client (PROTOCOL 14).

use std::fmt;
use std::sync::Arc;

use tinkex_http::ApiRequest;
use tinkex_types::{LoadWeightsRequest, LoadWeightsResult, RequestType, TinkerPath};

use super::call::{self, Operation};
use super::client::TrainingClient;
use super::fetch::read_json;
use super::handle::TrainingHandle;
use super::save::Checkpoint;

/// A checkpoint to be restored: a [`Checkpoint`], or a path. A
/// [`SamplerCheckpoint`](crate::SamplerCheckpoint) is none, since it lacks what training needs:
///
/// ```compile_fail,E0277
/// # fn example(trainer: tinkex_client::TrainingClient, sampler: tinkex_client::SamplerCheckpoint) {
/// let handle = trainer.load_state(sampler);
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
#[must_use = "it is restored by TrainingClient::load_state"]
pub struct LoadState {
    pub(super) path: String,
    pub(super) access_token: Option<String>,
}

impl LoadState {
    /// The checkpoint at a path, such as `tinker://RUN/weights/NAME`. Servers may have paths of another form.
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), access_token: None }
    }

    /// Sets the permission to read weights of somebody else. It is never printed.
    pub fn weights_access_token(mut self, token: impl Into<String>) -> Self {
        self.access_token = Some(token.into());
        self
    }
}

impl From<&str> for LoadState {
    fn from(path: &str) -> Self {
        Self::new(path)
    }
}

impl From<String> for LoadState {
    fn from(path: String) -> Self {
        Self::new(path)
    }
}

impl From<&String> for LoadState {
    fn from(path: &String) -> Self {
        Self::new(path)
    }
}

impl From<&TinkerPath> for LoadState {
    fn from(path: &TinkerPath) -> Self {
        Self::new(path.as_str())
    }
}

impl From<TinkerPath> for LoadState {
    fn from(path: TinkerPath) -> Self {
        Self::from(&path)
    }
}

impl From<&Checkpoint> for LoadState {
    fn from(checkpoint: &Checkpoint) -> Self {
        Self::new(checkpoint.path.as_str())
    }
}

impl From<Checkpoint> for LoadState {
    fn from(checkpoint: Checkpoint) -> Self {
        Self::new(checkpoint.path)
    }
}

impl fmt::Debug for LoadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadState").field("path", &self.path).finish_non_exhaustive()
    }
}

impl TrainingClient {
    /// Replaces the weights by those of a checkpoint; the optimizer begins anew (PROTOCOL 14). To go on in a new model,
    /// see [`ServiceClient::training_client_from_state`](crate::ServiceClient::training_client_from_state).
    ///
    /// # Errors
    /// Through the handle: [`InvalidInput`](crate::ErrorKind::InvalidInput) for an empty path, without anything being
    /// sent; otherwise as [`optim_step`](Self::optim_step).
    pub fn load_state(&self, state: impl Into<LoadState>) -> TrainingHandle<()> {
        self.load(state.into(), false, "TrainingClient.load_state")
    }

    /// Replaces the weights and the optimizer's state by those of a checkpoint (PROTOCOL 14).
    ///
    /// # Errors
    /// As [`load_state`](Self::load_state).
    pub fn load_state_with_optimizer(&self, state: impl Into<LoadState>) -> TrainingHandle<()> {
        self.load(state.into(), true, "TrainingClient.load_state_with_optimizer")
    }

    fn load(&self, state: LoadState, optimizer: bool, method: &'static str) -> TrainingHandle<()> {
        if let Some(token) = &state.access_token {
            self.inner.holder.telemetry().conceal(token);
        }
        let model_id = Arc::clone(&self.inner.model_id);
        let body = move |seq_id| {
            let mut body = LoadWeightsRequest::into_model(&*model_id, seq_id, state.path.as_str());
            body.optimizer = optimizer;
            body.weights_access_token.clone_from(&state.access_token);
            body
        };
        if let Err(invalid) = body(0).validate() {
            return call::refuse(&self.inner, method, invalid);
        }
        let operation = Operation { method, kind: RequestType::LoadWeights };
        let make =
            move |seq_id| Ok(ApiRequest::post_json("load_weights", "/api/v1/load_weights", &body(seq_id))?);
        self.json_operation(operation, make, |payload| read_json::<LoadWeightsResult>(payload).map(drop))
    }
}
