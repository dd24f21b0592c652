//! Restoring a checkpoint into the model of a training client (PROTOCOL 14).

use std::fmt;

use tinkex_http::ApiRequest;
use tinkex_types::{LoadWeightsRequest, LoadWeightsResult, RequestType, TinkerPath};

use super::call::{self, Operation};
use super::client::TrainingClient;
use super::fetch::read_json;
use super::handle::TrainingHandle;
use super::submission::JsonRequest;

/// A checkpoint to be restored. Text is its path and nothing else.
#[derive(Clone, PartialEq, Eq)]
#[must_use = "it is restored by TrainingClient::load_state"]
pub struct LoadState {
    path: String,
    access_token: Option<String>,
}

impl LoadState {
    /// A checkpoint of one's own, such as `tinker://RUN/weights/NAME`.
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), access_token: None }
    }

    /// Sets the permission to read weights of somebody else. It is never printed.
    pub fn weights_access_token(mut self, token: impl Into<String>) -> Self {
        self.access_token = Some(token.into());
        self
    }
}

impl<P: Into<String>> From<P> for LoadState {
    fn from(path: P) -> Self {
        Self::new(path)
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
    /// Through the handle: [`InvalidInput`](crate::ErrorKind::InvalidInput) for a path that is not `tinker://`, without
    /// anything being sent; otherwise as [`optim_step`](Self::optim_step).
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
        let LoadState { path, access_token } = state;
        if let Err(invalid) = path.parse::<TinkerPath>() {
            return TrainingHandle::refused(invalid);
        }
        let operation = Operation { method, kind: RequestType::LoadWeights };
        call::start(&self.inner, operation, |call, ticket| async move {
            let promise = {
                let mut turn = ticket.turn().await?;
                let request = JsonRequest(|seq_id| {
                    let model_id = &*call.trainer.model_id;
                    let mut body = LoadWeightsRequest::into_model(model_id, seq_id, path.as_str());
                    body.optimizer = optimizer;
                    body.weights_access_token = access_token.clone();
                    Ok(ApiRequest::post_json("load_weights", "/api/v1/load_weights", &body)?)
                });
                call.submit(&mut turn, &request).await?
            };
            call.fetch(promise, read_json::<LoadWeightsResult>).await.map(drop)
        })
    }
}
