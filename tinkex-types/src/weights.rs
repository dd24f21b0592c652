//! Saving, loading and copying weights (PROTOCOL 14).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{InvalidInput, OptimizerConfig, lenient};

/// Free labels of a checkpoint.
pub type CheckpointMetadata = BTreeMap<String, String>;

/// The shortest life of a checkpoint, in seconds (PROTOCOL 14).
pub const MIN_TTL_SECONDS: u64 = 3600;

/// The longest life of a checkpoint, in seconds: ten years of 365 days (PROTOCOL 14).
pub const MAX_TTL_SECONDS: u64 = 10 * 365 * 24 * 3600;

fn check_ttl(ttl_seconds: Option<u64>) -> Result<(), InvalidInput> {
    match ttl_seconds {
        Some(ttl) if !(MIN_TTL_SECONDS..=MAX_TTL_SECONDS).contains(&ttl) => {
            let problem = format!("must be from {MIN_TTL_SECONDS} to {MAX_TTL_SECONDS}, not {ttl}");
            Err(InvalidInput::new("ttl_seconds", problem))
        }
        _ => Ok(()),
    }
}

fn check_name(field: &'static str, name: &str) -> Result<(), InvalidInput> {
    if name.trim().is_empty() {
        return Err(InvalidInput::new(field, "must not be empty"));
    }
    Ok(())
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

/// The body of `POST /api/v1/save_weights` (PROTOCOL 14).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename = "save_weights")]
pub struct SaveWeightsRequest {
    /// The model.
    pub model_id: String,
    /// The request's number, from 1.
    pub seq_id: u64,
    /// The checkpoint's name.
    pub path: String,
    /// How long it lives, in seconds, 3,600 to ten years; none is for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// Replace a checkpoint of the same name, and all its metadata. Left out while false (OPEN_SERVERS, decision 1).
    #[serde(skip_serializing_if = "is_false")]
    pub overwrite: bool,
    /// Free labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_metadata: Option<CheckpointMetadata>,
}

impl SaveWeightsRequest {
    /// A checkpoint that lives for ever and replaces nothing.
    pub fn new(model_id: impl Into<String>, seq_id: u64, name: impl Into<String>) -> Self {
        Self {
            model_id: model_id.into(),
            seq_id,
            path: name.into(),
            ttl_seconds: None,
            overwrite: false,
            user_metadata: None,
        }
    }

    /// Checks what can be known before sending.
    ///
    /// # Errors
    /// Where the name is empty or the life out of range.
    pub fn validate(&self) -> Result<(), InvalidInput> {
        check_name("name", &self.path)?;
        check_ttl(self.ttl_seconds)
    }
}

/// The result of [`SaveWeightsRequest`] (PROTOCOL 14).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct SavedWeights {
    /// Where the checkpoint is.
    pub path: String,
}

/// How weights are published to samplers (PROTOCOL 14).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SamplerWeightsKind {
    /// Weights that stay as they are, the default.
    #[default]
    Snapshot,
    /// One target that all inflight clients of the model share and that later publishes update.
    Inflight,
}

impl SamplerWeightsKind {
    fn is_snapshot(&self) -> bool {
        *self == Self::Snapshot
    }
}

impl fmt::Display for SamplerWeightsKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Snapshot => "snapshot",
            Self::Inflight => "inflight",
        })
    }
}

/// The body of `POST /api/v1/save_weights_for_sampler` (PROTOCOL 14): a checkpoint with a name, or an unnamed one for a
/// new sampling session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename = "save_weights_for_sampler")]
pub struct SaveWeightsForSamplerRequest {
    /// The model.
    pub model_id: String,
    /// The request's number, from 1.
    pub seq_id: u64,
    /// The checkpoint's name; named saves only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The new sampling session's number within the session; unnamed saves only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling_session_seq_id: Option<u64>,
    /// How the weights are published. Left out while it is a snapshot (OPEN_SERVERS, decision 1).
    #[serde(rename = "kind", skip_serializing_if = "SamplerWeightsKind::is_snapshot")]
    pub weights_kind: SamplerWeightsKind,
    /// How long it lives, in seconds, 3,600 to ten years; none is for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// Free labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_metadata: Option<CheckpointMetadata>,
}

impl SaveWeightsForSamplerRequest {
    /// A checkpoint with a name, which lives for ever.
    pub fn named(model_id: impl Into<String>, seq_id: u64, name: impl Into<String>) -> Self {
        Self::new(model_id.into(), seq_id, Some(name.into()), None)
    }

    /// Weights for a new sampling session.
    pub fn unnamed(model_id: impl Into<String>, seq_id: u64, sampling_session_seq_id: u64) -> Self {
        Self::new(model_id.into(), seq_id, None, Some(sampling_session_seq_id))
    }

    fn new(
        model_id: String,
        seq_id: u64,
        path: Option<String>,
        sampling_session_seq_id: Option<u64>,
    ) -> Self {
        Self {
            model_id,
            seq_id,
            path,
            sampling_session_seq_id,
            weights_kind: SamplerWeightsKind::default(),
            ttl_seconds: None,
            user_metadata: None,
        }
    }

    /// Checks what can be known before sending.
    ///
    /// # Errors
    /// Where the name is empty or the life out of range.
    pub fn validate(&self) -> Result<(), InvalidInput> {
        self.path.as_deref().map_or(Ok(()), |name| check_name("name", name))?;
        check_ttl(self.ttl_seconds)
    }
}

/// The result of [`SaveWeightsForSamplerRequest`]: a path for a named save, a sampling session for an unnamed one
/// (PROTOCOL 14).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct SaveWeightsForSamplerResult {
    /// Where the checkpoint is.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub path: Option<String>,
    /// The sampling session that reads the weights.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub sampling_session_id: Option<String>,
}

/// The body of `POST /api/v1/save_weights_external` (PROTOCOL 14).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename = "save_weights_external")]
pub struct SaveWeightsExternalRequest {
    /// The model.
    pub model_id: String,
    /// The export's name.
    pub path: String,
    /// The request's number, from 1.
    pub seq_id: u64,
    /// How long it lives, in seconds, 3,600 to ten years; none is for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// Who can decrypt the files: up to 10 `age1…` or SSH public keys; none leaves them in the clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_encryption_recipients: Option<Vec<String>>,
}

impl SaveWeightsExternalRequest {
    /// An export in the clear, which lives for ever.
    pub fn new(model_id: impl Into<String>, seq_id: u64, name: impl Into<String>) -> Self {
        Self {
            model_id: model_id.into(),
            path: name.into(),
            seq_id,
            ttl_seconds: None,
            age_encryption_recipients: None,
        }
    }

    /// Checks what can be known before sending.
    ///
    /// # Errors
    /// Where the name is empty, the life out of range, or there are no or more than 10 recipients.
    pub fn validate(&self) -> Result<(), InvalidInput> {
        const FIELD: &str = "age_encryption_recipients";
        const MOST: usize = 10;
        check_name("name", &self.path)?;
        check_ttl(self.ttl_seconds)?;
        match &self.age_encryption_recipients {
            Some(recipients) if recipients.is_empty() || recipients.len() > MOST => {
                let problem = format!("must name 1 to {MOST} recipients, not {}", recipients.len());
                Err(InvalidInput::new(FIELD, problem))
            }
            Some(recipients) if recipients.iter().any(|r| r.trim().is_empty()) => {
                Err(InvalidInput::new(FIELD, "must not contain an empty key"))
            }
            _ => Ok(()),
        }
    }
}

/// The result of [`SaveWeightsExternalRequest`] (PROTOCOL 14).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ExternalWeights {
    /// Where the export is.
    pub path: String,
    /// Its size in bytes, where the server says.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub size_bytes: Option<u64>,
}

/// Which model `load_weights` fills (PROTOCOL 14).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum LoadTarget {
    /// One that exists; the load is one of its numbered requests.
    Existing {
        /// The model.
        model_id: String,
        /// The request's number, from 1.
        seq_id: u64,
    },
    /// A new one of the session, which the load creates.
    New {
        /// The session.
        session_id: String,
        /// The model's number within the session.
        model_seq_id: u64,
        /// The model below the weights, where the caller knows.
        #[serde(skip_serializing_if = "Option::is_none")]
        base_model: Option<String>,
        /// Free metadata.
        #[serde(skip_serializing_if = "Option::is_none")]
        user_metadata: Option<Map<String, Value>>,
        /// The family of optimizers to start with; only where the optimizer state is not restored.
        #[serde(skip_serializing_if = "Option::is_none")]
        optimizer_config: Option<OptimizerConfig>,
    },
}

/// The body of `POST /api/v1/load_weights` (PROTOCOL 14).
#[derive(Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename = "load_weights")]
pub struct LoadWeightsRequest {
    /// Which model is filled.
    #[serde(flatten)]
    pub target: LoadTarget,
    /// The checkpoint, a `tinker://` path.
    pub path: String,
    /// Restore the optimizer state too.
    pub optimizer: bool,
    /// Permission to read weights of somebody else. It is never printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights_access_token: Option<String>,
}

/// Leaves the token out.
impl fmt::Debug for LoadWeightsRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadWeightsRequest")
            .field("target", &self.target)
            .field("path", &self.path)
            .field("optimizer", &self.optimizer)
            .finish_non_exhaustive()
    }
}

impl LoadWeightsRequest {
    /// Fills a model that exists.
    pub fn into_model(model_id: impl Into<String>, seq_id: u64, path: impl Into<String>) -> Self {
        Self::new(LoadTarget::Existing { model_id: model_id.into(), seq_id }, path.into())
    }

    /// Creates a model from a checkpoint.
    pub fn create(session_id: impl Into<String>, model_seq_id: u64, path: impl Into<String>) -> Self {
        let target = LoadTarget::New {
            session_id: session_id.into(),
            model_seq_id,
            base_model: None,
            user_metadata: None,
            optimizer_config: None,
        };
        Self::new(target, path.into())
    }

    fn new(target: LoadTarget, path: String) -> Self {
        Self { target, path, optimizer: false, weights_access_token: None }
    }

    /// Checks what can be known before sending.
    ///
    /// # Errors
    /// Where the path is empty, or a family of optimizers is given although the state is restored.
    pub fn validate(&self) -> Result<(), InvalidInput> {
        check_name("path", &self.path)?;
        match &self.target {
            LoadTarget::New { optimizer_config: Some(_), .. } if self.optimizer => {
                let problem = "must not be given where the optimizer state is restored";
                Err(InvalidInput::new("optimizer_config", problem))
            }
            LoadTarget::New { optimizer_config: Some(config), .. } => config.validate(),
            _ => Ok(()),
        }
    }
}

/// The result of [`LoadWeightsRequest`] (PROTOCOL 14).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct LoadWeightsResult {
    /// The checkpoint.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub path: Option<String>,
    /// The model.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub model_id: Option<String>,
}

/// The body of `POST /api/v1/copy_weights` (PROTOCOL 14). The access token, where one is needed, travels in a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopyWeightsRequest {
    /// The checkpoint, a `tinker://` path.
    pub source_path: String,
    /// The project that gets the copy; none leaves it to the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_project_id: Option<String>,
    /// How long the copy lives, in seconds, 3,600 to ten years; none is for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

impl CopyWeightsRequest {
    /// A copy that lives for ever.
    pub fn new(source_path: impl Into<String>) -> Self {
        Self { source_path: source_path.into(), destination_project_id: None, ttl_seconds: None }
    }

    /// Checks what can be known before sending.
    ///
    /// # Errors
    /// Where the path is empty or the life out of range.
    pub fn validate(&self) -> Result<(), InvalidInput> {
        check_name("source_path", &self.source_path)?;
        check_ttl(self.ttl_seconds)
    }
}

/// The answer to [`CopyWeightsRequest`] (PROTOCOL 14).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct CopyWeightsResult {
    /// Where the copy is.
    pub tinker_path: String,
}
