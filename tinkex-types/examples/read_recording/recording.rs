//! The file: exchanges of requests and responses.

use std::error::Error;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// What was recorded, in order.
pub(crate) struct Recording(Value);

/// One request and its answer.
pub(crate) struct Exchange<'a> {
    request: &'a Value,
    response: &'a Value,
}

impl Recording {
    pub(crate) fn own() -> Result<Self, Box<dyn Error>> {
        Ok(Self(serde_json::from_str(include_str!("recording.json"))?))
    }

    pub(crate) fn from_file(path: impl AsRef<Path>) -> Result<Self, Box<dyn Error>> {
        let path = path.as_ref();
        let named = |problem: &dyn Error| format!("{}: {problem}", path.display());
        let text = fs::read_to_string(path).map_err(|e| named(&e))?;
        Ok(Self(serde_json::from_str(&text).map_err(|e| named(&e))?))
    }

    pub(crate) fn description(&self) -> &str {
        self.0["description"].as_str().unwrap_or("A recording.")
    }

    pub(crate) fn exchanges(&self) -> Vec<Exchange<'_>> {
        let all = match self.0["exchanges"].as_array() {
            Some(all) => all.as_slice(),
            None => std::slice::from_ref(&self.0),
        };
        all.iter().map(|both| Exchange { request: &both["request"], response: &both["response"] }).collect()
    }
}

impl<'a> Exchange<'a> {
    /// The path without the prefix that all have.
    pub(crate) fn route(&self) -> &'a str {
        let path = self.request["path"].as_str().unwrap_or_default();
        path.split_once("/api/v1/").map_or(path, |(_, route)| route)
    }

    pub(crate) fn asked(&self) -> &'a Value {
        &self.request["body"]
    }

    /// What a promise is for, as the header of a poll says.
    pub(crate) fn kind(&self) -> &'a str {
        self.request["headers"]["x-tinker-request-type"].as_str().unwrap_or_default()
    }

    pub(crate) fn status(&self) -> u64 {
        self.response["status"].as_u64().unwrap_or_default()
    }

    pub(crate) fn answer(&self) -> &'a Value {
        &self.response["body"]
    }

    /// The answer's bytes, where they are protobuf.
    pub(crate) fn protobuf(&self) -> Result<Option<Vec<u8>>, String> {
        let text = self.response["body_base64"].as_str();
        text.map(|text| STANDARD.decode(text).map_err(|e| format!("body_base64: {e}"))).transpose()
    }
}
