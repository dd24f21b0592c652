//! Sessions (PROTOCOL 10).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lenient;

/// The body of `POST /api/v1/create_session` (PROTOCOL 10).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CreateSessionRequest {
    /// Free labels.
    pub tags: Vec<String>,
    /// Free metadata; `{}` where there is none.
    pub user_metadata: BTreeMap<String, Value>,
    /// The protocol version the client speaks.
    pub sdk_version: String,
    /// The project the session belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(rename = "type")]
    kind: &'static str,
}

impl CreateSessionRequest {
    /// A request with no tags and no metadata.
    pub fn new(sdk_version: impl Into<String>) -> Self {
        Self {
            tags: Vec::new(),
            user_metadata: BTreeMap::new(),
            sdk_version: sdk_version.into(),
            project_id: None,
            display_name: None,
            kind: "create_session",
        }
    }
}

/// The answer: the session's id and what the service wants the user to know (PROTOCOL 10).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct CreateSessionResponse {
    /// The session.
    #[serde(deserialize_with = "lenient::text")]
    pub session_id: String,
    /// To be logged as information.
    #[serde(default)]
    pub info_message: Option<String>,
    /// To be logged as a warning.
    #[serde(default)]
    pub warning_message: Option<String>,
    /// To be logged as an error.
    #[serde(default)]
    pub error_message: Option<String>,
}

/// The body of `POST /api/v1/session_heartbeat` (PROTOCOL 10).
#[derive(Clone, Debug, Serialize)]
pub struct HeartbeatRequest<'a> {
    /// The session.
    pub session_id: &'a str,
    /// Always `session_heartbeat`.
    #[serde(rename = "type")]
    pub kind: &'static str,
}

impl<'a> HeartbeatRequest<'a> {
    /// A sign of life.
    pub fn new(session_id: &'a str) -> Self {
        Self { session_id, kind: "session_heartbeat" }
    }
}

/// How a session ended (PROTOCOL 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
#[non_exhaustive]
pub enum FinishReason {
    /// All went well.
    Success,
    /// The program failed.
    Errored,
    /// Somebody stopped it.
    Interrupted,
}

/// The body of `POST /api/v1/sessions/{id}/finish`. `detail` is sent as null where there is none, the one
/// explicit null of the protocol (PROTOCOL 10).
#[derive(Clone, Debug, Serialize)]
pub struct FinishSessionRequest {
    /// How it ended.
    pub reason: FinishReason,
    /// In words.
    pub detail: Option<String>,
}
