//! Saving weights (PROTOCOL 14): checkpoints to go on training from, checkpoints for samplers, and exports.

use std::time::Duration;

use tinkex_http::ApiRequest;
use tinkex_types::{
    CheckpointMetadata, DecodeError, ExternalWeights, RequestType, SaveWeightsExternalRequest,
    SaveWeightsForSamplerRequest, SaveWeightsForSamplerResult, SaveWeightsRequest, SavedWeights, TinkerPath,
};

use super::call::{self, Operation};
use super::client::TrainingClient;
use super::fetch::read_json;
use super::handle::TrainingHandle;

/// A checkpoint to be saved. Text is a name and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it is saved by TrainingClient::save_state"]
pub struct SaveState {
    name: String,
    ttl: Option<Duration>,
    overwrite: bool,
    metadata: Option<CheckpointMetadata>,
}

impl SaveState {
    /// A checkpoint under a name, which lives for ever and replaces nothing.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ttl: None, overwrite: false, metadata: None }
    }

    /// Sets how long it lives: an hour to ten years, in whole seconds. Default for ever.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Says whether it replaces a checkpoint of the same name, with all its metadata. Default no.
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// Adds a label.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.get_or_insert_default().insert(key.into(), value.into());
        self
    }

    fn request(self, model_id: &str) -> SaveWeightsRequest {
        let mut request = SaveWeightsRequest::new(model_id, 0, self.name);
        request.ttl_seconds = self.ttl.map(|ttl| ttl.as_secs());
        request.overwrite = self.overwrite;
        request.user_metadata = self.metadata;
        request
    }
}

/// A checkpoint for samplers to be saved. Text is a name and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it is saved by TrainingClient::save_weights_for_sampler"]
pub struct SaveSamplerWeights {
    name: String,
    ttl: Option<Duration>,
    metadata: Option<CheckpointMetadata>,
}

impl SaveSamplerWeights {
    /// A checkpoint under a name, which lives for ever.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ttl: None, metadata: None }
    }

    /// Sets how long it lives: an hour to ten years, in whole seconds. Default for ever.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Adds a label.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.get_or_insert_default().insert(key.into(), value.into());
        self
    }

    fn request(self, model_id: &str) -> SaveWeightsForSamplerRequest {
        let mut request = SaveWeightsForSamplerRequest::named(model_id, 0, self.name);
        request.ttl_seconds = self.ttl.map(|ttl| ttl.as_secs());
        request.user_metadata = self.metadata;
        request
    }
}

/// An export to be made, for use outside the service. Text is a name and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it is made by TrainingClient::save_weights_external"]
pub struct SaveExternalWeights {
    name: String,
    ttl: Option<Duration>,
    recipients: Option<Vec<String>>,
}

impl SaveExternalWeights {
    /// An export under a name, in the clear, which lives for ever.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ttl: None, recipients: None }
    }

    /// Sets how long it lives: an hour to ten years, in whole seconds. Default for ever.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Encrypts the files for a public key as well, `age1…` or an SSH key; 10 at most. The files then end in `.age`.
    pub fn age_recipient(mut self, key: impl Into<String>) -> Self {
        self.recipients.get_or_insert_default().push(key.into());
        self
    }

    fn request(self, model_id: &str) -> SaveWeightsExternalRequest {
        let mut request = SaveWeightsExternalRequest::new(model_id, 0, self.name);
        request.ttl_seconds = self.ttl.map(|ttl| ttl.as_secs());
        request.age_encryption_recipients = self.recipients;
        request
    }
}

macro_rules! from_a_name {
    ($($kind:ident)*) => {$(
        impl From<&str> for $kind {
            fn from(name: &str) -> Self {
                Self::new(name)
            }
        }

        impl From<String> for $kind {
            fn from(name: String) -> Self {
                Self::new(name)
            }
        }
    )*};
}

from_a_name! { SaveState SaveSamplerWeights SaveExternalWeights }

/// A saved checkpoint, to go on training from: [`TrainingClient::load_state`] and
/// [`ServiceClient::training_client_from_state`](crate::ServiceClient::training_client_from_state) take it as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// Where it is, in the server's words: `tinker://RUN/weights/NAME`, or of an open server's own form.
    pub path: String,
}

/// A saved checkpoint with a name, to sample from:
/// [`SamplingClientBuilder::model_path`](crate::SamplingClientBuilder::model_path) and
/// [`TrainingClient::create_sampling_client`] take it as it is. Snapshots without a name are sampling clients from the
/// start ([`TrainingClient::save_weights_and_get_sampling_client`]).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SamplerCheckpoint {
    /// Where it is, in the server's words: `tinker://RUN/sampler_weights/NAME`, or of an open server's own form.
    pub path: String,
}

impl Checkpoint {
    /// The path, taken apart; none where it is not of the `tinker://` form.
    pub fn tinker_path(&self) -> Option<TinkerPath> {
        self.path.parse().ok()
    }
}

impl SamplerCheckpoint {
    /// The path, taken apart; none where it is not of the `tinker://` form.
    pub fn tinker_path(&self) -> Option<TinkerPath> {
        self.path.parse().ok()
    }
}

impl TrainingClient {
    /// Saves the weights and the optimizer's state as a checkpoint to go on from (PROTOCOL 14).
    ///
    /// # Errors
    /// Through the handle: [`InvalidInput`](crate::ErrorKind::InvalidInput) for an empty name or a life out of range,
    /// without anything being sent; otherwise as [`optim_step`](Self::optim_step). A name that is taken is refused by the
    /// server.
    pub fn save_state(&self, save: impl Into<SaveState>) -> TrainingHandle<Checkpoint> {
        let request = save.into().request(self.model_id());
        let operation = Operation { method: "TrainingClient.save_state", kind: RequestType::SaveWeights };
        if let Err(invalid) = request.validate() {
            return call::refuse(&self.inner, operation.method, invalid);
        }
        let make = move |seq_id| {
            let body = SaveWeightsRequest { seq_id, ..request.clone() };
            saving(ApiRequest::post_json("save_weights", "/api/v1/save_weights", &body))
        };
        self.json_operation(operation, make, |payload| {
            let saved: SavedWeights = read_json(payload)?;
            Ok(Checkpoint { path: saved.path })
        })
    }

    /// Saves the weights as a checkpoint with a name, for sampling clients to be made from (PROTOCOL 14).
    ///
    /// # Errors
    /// As [`save_state`](Self::save_state).
    pub fn save_weights_for_sampler(
        &self,
        save: impl Into<SaveSamplerWeights>,
    ) -> TrainingHandle<SamplerCheckpoint> {
        let request = save.into().request(self.model_id());
        let method = "TrainingClient.save_weights_for_sampler";
        let operation = Operation { method, kind: RequestType::SaveWeightsForSampler };
        if let Err(invalid) = request.validate() {
            return call::refuse(&self.inner, operation.method, invalid);
        }
        let make =
            move |seq_id| save_for_sampler(&SaveWeightsForSamplerRequest { seq_id, ..request.clone() });
        self.json_operation(operation, make, |payload| {
            let saved: SaveWeightsForSamplerResult = read_json(payload)?;
            let path = saved.path.ok_or_else(|| DecodeError::new("the result", "it has no path"))?;
            Ok(SamplerCheckpoint { path })
        })
    }

    /// Exports the weights as files, for use outside the service (PROTOCOL 14).
    ///
    /// # Errors
    /// As [`save_state`](Self::save_state); [`InvalidInput`](crate::ErrorKind::InvalidInput) also for more than 10
    /// recipients.
    pub fn save_weights_external(
        &self,
        save: impl Into<SaveExternalWeights>,
    ) -> TrainingHandle<ExternalWeights> {
        let request = save.into().request(self.model_id());
        let method = "TrainingClient.save_weights_external";
        let operation = Operation { method, kind: RequestType::SaveWeightsExternal };
        if let Err(invalid) = request.validate() {
            return call::refuse(&self.inner, operation.method, invalid);
        }
        let make = move |seq_id| {
            let body = SaveWeightsExternalRequest { seq_id, ..request.clone() };
            saving(ApiRequest::post_json("save_weights_external", "/api/v1/save_weights_external", &body))
        };
        self.json_operation(operation, make, read_json)
    }
}

pub(super) fn save_for_sampler(body: &SaveWeightsForSamplerRequest) -> Result<ApiRequest, crate::Error> {
    saving(ApiRequest::post_json("save_weights_for_sampler", "/api/v1/save_weights_for_sampler", body))
}

/// A conflict of a save is about its name, which does not pass.
fn saving(request: Result<ApiRequest, tinkex_types::InvalidInput>) -> Result<ApiRequest, crate::Error> {
    Ok(request?.retry_conflict(false))
}
