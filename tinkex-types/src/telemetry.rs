//! Service telemetry: what clients report about themselves (PROTOCOL 20).

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The body of `POST /api/v1/telemetry`: at most 100 events (PROTOCOL 20).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TelemetryBatch {
    /// The events, oldest first.
    pub events: Vec<TelemetryEvent>,
    /// The host's operating system.
    pub platform: String,
    /// The protocol version the client speaks.
    pub sdk_version: String,
    /// The session the events belong to.
    pub session_id: String,
    /// One per process.
    pub process_uuid: String,
}

/// One event. Times are RFC 3339 in UTC with microseconds (PROTOCOL 20).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "the members are those of the table in PROTOCOL 20")]
#[non_exhaustive]
pub enum TelemetryEvent {
    /// The session began.
    SessionStart { event_id: String, event_session_index: u64, severity: Severity, timestamp: String },
    /// The session ended, after `duration` (`H:MM:SS.ffffff`).
    SessionEnd {
        event_id: String,
        event_session_index: u64,
        severity: Severity,
        timestamp: String,
        duration: String,
    },
    /// An error left a public operation.
    UnhandledException {
        event_id: String,
        event_session_index: u64,
        severity: Severity,
        timestamp: String,
        error_type: String,
        error_message: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        traceback: Option<String>,
    },
    /// Anything else, by name.
    GenericEvent {
        event_id: String,
        event_session_index: u64,
        severity: Severity,
        timestamp: String,
        event_name: String,
        event_data: Value,
    },
}

/// How serious an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum Severity {
    /// For developers.
    Debug,
    /// For the record.
    Info,
    /// Worth a look.
    Warning,
    /// Something failed.
    Error,
    /// Everything failed.
    Critical,
}

/// The answer; `status` must be `accepted` (PROTOCOL 20).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TelemetryResponse {
    /// `accepted`.
    pub status: String,
}
