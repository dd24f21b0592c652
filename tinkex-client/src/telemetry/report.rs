//! What is told, before it has a number and a time.

use std::time::Duration;

use serde_json::Value;
use tinkex_types::{Severity, TelemetryEvent};

use super::timestamp;

/// Texts that come from elsewhere are cut to this many characters while they wait. It is twice of what is sent of them, so
/// that what is sent has been looked at for secrets in its surroundings.
const LONGEST_TEXT: usize = 2000;

/// What an event takes besides its texts, in bytes, roughly: its number, its id, its time, and its place in the queue.
const FRAME_BYTES: usize = 256;

/// One event to be.
pub(super) enum Report {
    SessionStart,
    SessionEnd {
        after: Duration,
    },
    /// An error that is not the user's left a public operation.
    Unhandled {
        error_type: String,
        error_message: String,
        causes: Option<String>,
    },
    Generic {
        name: &'static str,
        severity: Severity,
        data: Value,
        urgency: Urgency,
    },
}

/// When an event is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// With the next flush.
    WithTheRest,
    /// Now, with everything queued before it.
    AtOnce,
}

/// What the queue gives to every event.
pub(super) struct Stamp {
    pub(super) event_id: String,
    pub(super) event_session_index: u64,
    pub(super) timestamp: String,
}

impl Report {
    /// An event that waits for the next flush.
    pub(super) fn generic(name: &'static str, severity: Severity, data: Value) -> Self {
        Self::Generic { name, severity, data, urgency: Urgency::WithTheRest }
    }

    pub(super) fn urgency(&self) -> Urgency {
        match self {
            Self::Unhandled { .. } => Urgency::AtOnce,
            Self::Generic { urgency, .. } => *urgency,
            Self::SessionStart | Self::SessionEnd { .. } => Urgency::WithTheRest,
        }
    }

    /// What it takes while it waits, in bytes, roughly.
    pub(super) fn bytes(&self) -> usize {
        let texts = match self {
            Self::SessionStart | Self::SessionEnd { .. } => 0,
            Self::Unhandled { error_type, error_message, causes } => {
                error_type.len() + error_message.len() + causes.as_ref().map_or(0, String::len)
            }
            Self::Generic { data, .. } => bytes_of(data),
        };
        FRAME_BYTES + texts
    }

    pub(super) fn into_event(self, stamp: Stamp) -> TelemetryEvent {
        let Stamp { event_id, event_session_index, timestamp } = stamp;
        match self {
            Self::SessionStart => TelemetryEvent::SessionStart {
                event_id,
                event_session_index,
                severity: Severity::Info,
                timestamp,
            },
            Self::SessionEnd { after } => TelemetryEvent::SessionEnd {
                event_id,
                event_session_index,
                severity: Severity::Info,
                timestamp,
                duration: timestamp::duration(after),
            },
            Self::Unhandled { error_type, error_message, causes } => TelemetryEvent::UnhandledException {
                event_id,
                event_session_index,
                severity: Severity::Error,
                timestamp,
                error_type,
                error_message,
                traceback: causes,
            },
            Self::Generic { name, severity, data, .. } => TelemetryEvent::GenericEvent {
                event_id,
                event_session_index,
                severity,
                timestamp,
                event_name: name.to_owned(),
                event_data: data,
            },
        }
    }
}

/// What a value takes, in bytes, roughly.
fn bytes_of(value: &Value) -> usize {
    let inside = match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(bytes_of).sum(),
        Value::Object(members) => members.iter().map(|(name, value)| name.len() + bytes_of(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    size_of::<Value>() + inside
}

/// The beginning of a text from elsewhere.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => text[..end].chars().chain(['…']).collect(),
        None => text.to_owned(),
    }
}

/// The beginning of a body. No character takes more than four bytes, so that a long one need not be read to its end.
pub(super) fn cut_body(body: &[u8]) -> String {
    let beginning = body.get(..4 * (LONGEST_TEXT + 1)).unwrap_or(body);
    cut(&String::from_utf8_lossy(beginning))
}
