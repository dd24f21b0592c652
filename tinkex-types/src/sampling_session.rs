//! Sampling sessions and their clones (PROTOCOL 15.1, 15.7).

use serde::{Deserialize, Serialize};

use crate::lenient;

/// Sequence ids of a sampling session come in blocks of this size, one block per clone: clone c counts from
/// c × 1,000,000,000, the creator from 0.
pub const SAMPLER_BLOCK: u64 = 1_000_000_000;

/// The body of `POST /api/v1/create_sampling_session` (PROTOCOL 15.1, 15.7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CreateSamplingSessionRequest {
    /// The session it belongs to.
    pub session_id: String,
    /// Its number within the session, from 0.
    pub sampling_session_seq_id: u64,
    /// Sample from this base model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_model: Option<String>,
    /// Sample from these weights, a `tinker://` path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_path: Option<String>,
    /// Always `create_sampling_session`.
    #[serde(rename = "type")]
    pub kind: &'static str,
}

/// The answer to [`CreateSamplingSessionRequest`] (PROTOCOL 15.1, 15.7).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct CreateSamplingSessionResponse {
    /// The sampling session.
    #[serde(deserialize_with = "lenient::text")]
    pub sampling_session_id: String,
}

/// The answer to `GET /api/v1/samplers/{sampling_session_id}` (PROTOCOL 15.1, 15.7).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GetSamplerResponse {
    /// The sampler.
    #[serde(deserialize_with = "lenient::text")]
    pub sampler_id: String,
    /// The model below the weights.
    pub base_model: String,
    /// The weights, where the sampler was made from a path.
    #[serde(default)]
    pub model_path: Option<String>,
}

/// The body of `POST /api/v1/join_sampling_session` (PROTOCOL 15.1, 15.7).
#[derive(Clone, Debug, Serialize)]
pub struct JoinSamplingSessionRequest<'a> {
    /// The sampling session.
    pub sampling_session_id: &'a str,
    /// Always `join_sampling_session`.
    #[serde(rename = "type")]
    pub kind: &'static str,
}

/// The answer to [`JoinSamplingSessionRequest`]: the clone's block number (PROTOCOL 15.1, 15.7).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct JoinSamplingSessionResponse {
    /// At least 1, unique within the sampling session.
    pub client_counter: u64,
}
