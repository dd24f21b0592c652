//! The answer to an accepted request: a promise (PROTOCOL 15.3, 21).

use serde::Deserialize;

use crate::lenient;

/// Work the server has accepted; its result is fetched by `request_id` (PROTOCOL 15.3, 21).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Promise {
    /// Opaque id, chosen by the server.
    #[serde(deserialize_with = "lenient::text")]
    pub request_id: String,
    /// The model the work is for, where the server says.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub model_id: Option<String>,
    /// One id per sequence of a sampling request, in order. Open servers leave it out.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub sample_sequence_ids: Option<Vec<String>>,
}
