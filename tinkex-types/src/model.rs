//! Models in training: creating, asking about and unloading them (PROTOCOL 11).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::{InvalidInput, lenient};

/// The low-rank adapter to train (PROTOCOL 11.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoraConfig {
    /// The rank, at least 1. Default 32.
    pub rank: u32,
    /// Makes the initial weights repeatable. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Train the unembedding layer. Default true.
    #[serde(default = "yes")]
    pub train_unembed: bool,
    /// Train the MLP layers. Default true.
    #[serde(default = "yes")]
    pub train_mlp: bool,
    /// Train the attention layers. Default true.
    #[serde(default = "yes")]
    pub train_attn: bool,
}

fn yes() -> bool {
    true
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { rank: 32, seed: None, train_unembed: true, train_mlp: true, train_attn: true }
    }
}

impl LoraConfig {
    /// Checks what can be known before sending.
    ///
    /// # Errors
    /// Where the rank is 0 or nothing would be trained.
    pub fn validate(&self) -> Result<(), InvalidInput> {
        if self.rank == 0 {
            return Err(InvalidInput::new("rank", "must be at least 1"));
        }
        if !(self.train_unembed || self.train_mlp || self.train_attn) {
            let problem = "needs at least one of train_unembed, train_mlp and train_attn";
            return Err(InvalidInput::new("lora_config", problem));
        }
        Ok(())
    }
}

/// The family of optimizers a model is created for (PROTOCOL 11.1).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum OptimizerConfig {
    /// Adam with decoupled weight decay, the default.
    #[default]
    Adam,
    /// Dimuon, version 1.
    Dimuon,
    /// Another family: an object with a text `type` and any other members, kept as it is in both directions.
    Other(Map<String, Value>),
}

impl OptimizerConfig {
    fn is_adam(&self) -> bool {
        *self == Self::Adam
    }

    /// Checks what can be known before sending.
    ///
    /// # Errors
    /// Where another family names no type.
    pub fn validate(&self) -> Result<(), InvalidInput> {
        match self {
            Self::Other(members) if !matches!(members.get("type"), Some(Value::String(_))) => {
                Err(InvalidInput::new("optimizer_config", "must have a text member `type`"))
            }
            _ => Ok(()),
        }
    }
}

impl Serialize for OptimizerConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Adam => json!({"type": "adamw"}).serialize(serializer),
            Self::Dimuon => json!({"type": "dimuon", "version": 1}).serialize(serializer),
            Self::Other(members) => members.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for OptimizerConfig {
    /// Reads any object; one with members the known families do not have is kept whole.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let members = Map::deserialize(deserializer)?;
        Ok(match members.get("type").and_then(Value::as_str) {
            Some("adamw") if members.len() == 1 => Self::Adam,
            Some("dimuon") if members.len() == 1 => Self::Dimuon,
            Some("dimuon") if members.len() == 2 && members.get("version") == Some(&json!(1)) => Self::Dimuon,
            _ => Self::Other(members),
        })
    }
}

/// The body of `POST /api/v1/create_model` (PROTOCOL 11.1).
///
/// `optimizer_config` is left out while it is Adam, the default of all servers, because older ones refuse the field
/// (OPEN_SERVERS, decision 1).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename = "create_model")]
pub struct CreateModelRequest {
    /// The session it belongs to.
    pub session_id: String,
    /// Its number within the session, from 0.
    pub model_seq_id: u64,
    /// The model to adapt.
    pub base_model: String,
    /// Free metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_metadata: Option<Map<String, Value>>,
    /// The adapter.
    pub lora_config: LoraConfig,
    /// The family of optimizers.
    #[serde(skip_serializing_if = "OptimizerConfig::is_adam")]
    pub optimizer_config: OptimizerConfig,
}

impl CreateModelRequest {
    /// A model with the default adapter and optimizer, and no metadata.
    pub fn new(session_id: impl Into<String>, model_seq_id: u64, base_model: impl Into<String>) -> Self {
        Self {
            session_id: session_id.into(),
            model_seq_id,
            base_model: base_model.into(),
            user_metadata: None,
            lora_config: LoraConfig::default(),
            optimizer_config: OptimizerConfig::default(),
        }
    }
}

/// The result of [`CreateModelRequest`] (PROTOCOL 11.1).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct CreateModelResult {
    /// The model.
    #[serde(deserialize_with = "lenient::text")]
    pub model_id: String,
}

/// The body of `POST /api/v1/get_info` (PROTOCOL 11.2).
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename = "get_info")]
pub struct GetInfoRequest<'a> {
    /// The model.
    pub model_id: &'a str,
}

impl<'a> GetInfoRequest<'a> {
    /// Asks about a model.
    pub fn new(model_id: &'a str) -> Self {
        Self { model_id }
    }
}

/// What the server knows about a model in training (PROTOCOL 11.2).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct ModelInfo {
    /// The model.
    #[serde(deserialize_with = "lenient::text")]
    pub model_id: String,
    /// The base model.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub model_data: ModelData,
    /// The family of optimizers; Adam where the server does not say.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub optimizer_config: OptimizerConfig,
    /// Whether an adapter is trained. Some servers do not say.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub is_lora: Option<bool>,
    /// The adapter's rank. Some servers do not say.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub lora_rank: Option<u32>,
    /// The base model's name, once more. Some servers do not say.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub model_name: Option<String>,
}

/// The base model of a [`ModelInfo`] (PROTOCOL 11.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ModelData {
    /// The architecture.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub arch: Option<String>,
    /// The name.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub model_name: Option<String>,
    /// The tokenizer, without the revision that may follow a `:` on the wire.
    #[serde(default, deserialize_with = "tokenizer_id")]
    pub tokenizer_id: Option<String>,
}

fn tokenizer_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let id: Option<String> = lenient::or_default(deserializer)?;
    Ok(id.map(|id| id.split(':').next().unwrap_or_default().to_owned()))
}

/// The body of `POST /api/v1/unload_model` (PROTOCOL 11.3).
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename = "unload_model")]
pub struct UnloadModelRequest<'a> {
    /// The model.
    pub model_id: &'a str,
}

impl<'a> UnloadModelRequest<'a> {
    /// Frees a model.
    pub fn new(model_id: &'a str) -> Self {
        Self { model_id }
    }
}

/// The result of [`UnloadModelRequest`] (PROTOCOL 11.3).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct UnloadModelResult {
    /// The model.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub model_id: Option<String>,
}

/// The body of `POST /api/v1/weights_info` (REST C8).
#[derive(Clone, Debug, Serialize)]
pub struct WeightsInfoRequest<'a> {
    /// The checkpoint, a `tinker://` path.
    pub tinker_path: &'a str,
}

/// What the server knows about a checkpoint (REST C8).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct WeightsInfo {
    /// The model below the weights.
    pub base_model: String,
    /// The family of optimizers; Adam where the server does not say.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub optimizer_config: OptimizerConfig,
    /// Whether the weights are an adapter. Some servers do not say.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub is_lora: Option<bool>,
    /// The adapter's rank.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub lora_rank: Option<u32>,
    /// Whether the unembedding layer is trained.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub train_unembed: Option<bool>,
    /// Whether the MLP layers are trained.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub train_mlp: Option<bool>,
    /// Whether the attention layers are trained.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub train_attn: Option<bool>,
}

impl fmt::Display for OptimizerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Adam => "adamw",
            Self::Dimuon => "dimuon",
            Self::Other(members) => members.get("type").and_then(Value::as_str).unwrap_or("unknown"),
        })
    }
}
