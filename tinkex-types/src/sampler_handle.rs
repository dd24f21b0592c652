//! Sampler handles: a sampler as text, to be opened in another process (PROTOCOL 15.7).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde::{Deserialize, Serialize};

use crate::{ClientConfig, DynamicConfig, InvalidInput};

/// Everything another process needs to sample from the same sampling session, but for the credential. Its
/// text form is URL-safe base64 with padding of compact JSON; read it with [`FromStr`], write it with
/// [`fmt::Display`] (PROTOCOL 15.7).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplerHandle {
    /// The session, kept alive by every process that opened the handle.
    pub session_id: String,
    /// The sampling session.
    pub sampling_session_id: String,
    /// Where and how to reach the service.
    pub holder: HandleHolder,
    /// The model below the weights.
    pub base_model: String,
    /// Whether samples record numerical-stability information.
    #[serde(default)]
    pub record_stability_info: bool,
}

/// The connection part of a [`SamplerHandle`]. Its headers may be secrets: they travel in the handle, and
/// only their names are in its `Debug` (PROTOCOL 15.7).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct HandleHolder {
    /// The service.
    pub base_url: String,
    /// Headers the creator added to every request.
    #[serde(default)]
    pub default_headers_overrides: BTreeMap<String, String>,
    /// The start-up flags, so that they are not fetched again.
    #[serde(default)]
    pub client_config: ClientConfig,
    /// The dynamic flags at the time the handle was made.
    #[serde(default)]
    pub client_dynamic_config: DynamicConfig,
    /// Always null: a handle carries no credential.
    #[serde(default)]
    pub api_key: Option<()>,
}

impl fmt::Debug for HandleHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandleHolder")
            .field("base_url", &self.base_url)
            .field("default_headers_overrides", &self.default_headers_overrides.keys())
            .field("client_config", &self.client_config)
            .field("client_dynamic_config", &self.client_dynamic_config)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for SamplerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_vec(self).map_err(|_| fmt::Error)?;
        f.write_str(&URL_SAFE.encode(json))
    }
}

impl FromStr for SamplerHandle {
    type Err = InvalidInput;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let problem =
            |e: &dyn fmt::Display| InvalidInput::new("sampler handle", format!("cannot be read: {e}"));
        let json = URL_SAFE.decode(text.trim()).map_err(|e| problem(&e))?;
        serde_json::from_slice(&json).map_err(|e| problem(&e))
    }
}
