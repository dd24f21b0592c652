//! What a server says about itself.

use serde::Deserialize;

use crate::lenient;

/// The answer to `GET /api/v1/get_server_capabilities`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ServerCapabilities {
    /// The models on offer.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub supported_models: Vec<SupportedModel>,
}

/// One model on offer. Servers may leave out everything they do not know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct SupportedModel {
    /// The name to ask for.
    #[serde(default)]
    pub model_name: Option<String>,
    /// The longest context, in tokens.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub max_context_length: Option<u64>,
    /// Whether it can be trained.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub trainable: Option<bool>,
    /// Whether it can be sampled.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub sampleable: Option<bool>,
}

/// The answer to `GET /api/v1/healthz`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Health {
    /// `ok` where all is well.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub status: String,
}
