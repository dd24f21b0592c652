//! Fetching results: one promise, or all promises of a sampler at once (PROTOCOL 16).

use serde::{Deserialize, Serialize};

use crate::lenient;

/// The body of `POST /api/v1/retrieve_future` (PROTOCOL 16).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RetrieveFutureRequest<'a> {
    /// The promise.
    pub request_id: &'a str,
    /// Whether the server may answer with the size of a large result instead of the result.
    pub allow_metadata_only: bool,
}

/// The body of `POST /api/v1/cancel_future` (PROTOCOL 16).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CancelFutureRequest<'a> {
    /// The promise to abandon.
    pub request_id: &'a str,
}

/// Whose promises a session poller asks about (PROTOCOL 16).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FuturesTarget {
    /// One sampler of a sampling session.
    SamplingSession {
        /// The session.
        sampling_session_id: String,
        /// The sampler's block of sequence ids; 0 is the creator.
        cloned_sampler_id: u64,
    },
}

/// The body of `POST /api/v1/retrieve_futures` (PROTOCOL 16).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetrieveFuturesRequest {
    /// Whose promises.
    pub target: FuturesTarget,
    /// The cursor of the last answer, 0 at first; acknowledges everything before it.
    pub prev_cursor: u64,
    /// Seconds the server may hold the call; absent leaves it to the server, 0 acknowledges only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
    /// Promises whose results have been fetched, sorted.
    pub retrieved_request_ids: Vec<String>,
}

/// The answer to [`RetrieveFuturesRequest`] (PROTOCOL 16).
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct RetrieveFuturesResponse {
    /// Promises that have ended since the cursor.
    #[serde(default)]
    pub completions: Vec<FutureCompletion>,
    /// Where the next poll continues.
    pub cursor: u64,
}

/// A promise that has ended (PROTOCOL 16).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FutureCompletion {
    /// Its result can be fetched.
    Finished {
        /// The promise.
        #[serde(deserialize_with = "lenient::text")]
        request_id: String,
        /// The size of the result in bytes, before compression.
        #[serde(default, deserialize_with = "lenient::or_default")]
        response_payload_uncompressed_size: Option<u64>,
    },
    /// It failed; the error can be fetched.
    Failed {
        /// The promise.
        #[serde(deserialize_with = "lenient::text")]
        request_id: String,
    },
    /// A state this version does not know; the promise is asked about as usual.
    #[serde(other)]
    Unknown,
}
