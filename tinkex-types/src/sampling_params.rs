//! How to draw tokens (PROTOCOL 15.2).

use serde::{Deserialize, Serialize};

use crate::InvalidInput;

/// Sampling parameters. The defaults are the protocol's: temperature 1, no top-k, no top-p, stop at end of
/// sequence (PROTOCOL 15.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingParams {
    /// The most tokens to generate per sequence, at least 1; none leaves it to the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Makes the draw repeatable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// When to stop; none means at the model's end-of-sequence token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// 0 takes the most likely token, 1 (the default) draws from the model's own distribution.
    #[serde(default = "one")]
    pub temperature: f64,
    /// Draw from the k most likely tokens; -1 (the default) is unlimited.
    #[serde(default = "unlimited")]
    pub top_k: i32,
    /// Draw from the most likely tokens whose probabilities sum to this, in (0, 1]. Default 1, all of them.
    #[serde(default = "one")]
    pub top_p: f64,
}

fn one() -> f64 {
    1.0
}

fn unlimited() -> i32 {
    -1
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self { max_tokens: None, seed: None, stop: None, temperature: 1.0, top_k: -1, top_p: 1.0 }
    }
}

impl SamplingParams {
    /// The protocol's defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the most tokens to generate, at least 1. Default: the server's.
    #[must_use]
    pub fn max_tokens(mut self, max_tokens: u32) -> Self {
        self.max_tokens = Some(max_tokens);
        self
    }

    /// Sets the seed. Default: none, so samples differ.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets when to stop. Default: at the model's end of sequence.
    #[must_use]
    pub fn stop(mut self, stop: impl Into<Stop>) -> Self {
        self.stop = Some(stop.into());
        self
    }

    /// Sets the temperature, at least 0. Default 1.
    #[must_use]
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.temperature = temperature;
        self
    }

    /// Sets top-k: -1 or at least 1. Default -1, unlimited.
    #[must_use]
    pub fn top_k(mut self, top_k: i32) -> Self {
        self.top_k = top_k;
        self
    }

    /// Sets top-p, in (0, 1]. Default 1.
    #[must_use]
    pub fn top_p(mut self, top_p: f64) -> Self {
        self.top_p = top_p;
        self
    }

    /// Checks what can be known before sending.
    ///
    /// # Errors
    /// Names the first parameter that no server can accept.
    pub fn validate(&self) -> Result<(), InvalidInput> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            let problem = format!("must be a finite number of at least 0, not {}", self.temperature);
            return Err(InvalidInput::new("temperature", problem));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(InvalidInput::new("top_p", format!("must be in (0, 1], not {}", self.top_p)));
        }
        if self.top_k != -1 && self.top_k < 1 {
            return Err(InvalidInput::new(
                "top_k",
                format!("must be -1 (unlimited) or at least 1, not {}", self.top_k),
            ));
        }
        if self.max_tokens == Some(0) {
            return Err(InvalidInput::new("max_tokens", "must be at least 1"));
        }
        match &self.stop {
            Some(Stop::Text(text)) if text.is_empty() => Err(InvalidInput::new(
                "stop",
                "must not be empty text; use Stop::never() to disable stopping",
            )),
            Some(Stop::Texts(texts)) if texts.iter().any(String::is_empty) => {
                Err(InvalidInput::new("stop", "must not contain empty text"))
            }
            Some(Stop::Tokens(tokens)) if tokens.iter().any(|t| *t < 0) => {
                Err(InvalidInput::new("stop", "must not contain negative tokens"))
            }
            _ => Ok(()),
        }
    }
}

/// When generation ends, besides `max_tokens` (PROTOCOL 15.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Stop {
    /// At this text.
    Text(String),
    /// At any of these tokens.
    Tokens(Vec<i32>),
    /// At any of these texts.
    Texts(Vec<String>),
}

impl Stop {
    /// Never: the empty list, which also disables the end-of-sequence token.
    pub fn never() -> Self {
        Self::Tokens(Vec::new())
    }
}

impl From<&str> for Stop {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Stop {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<String>> for Stop {
    fn from(texts: Vec<String>) -> Self {
        Self::Texts(texts)
    }
}

impl<const N: usize> From<[&str; N]> for Stop {
    fn from(texts: [&str; N]) -> Self {
        Self::Texts(texts.map(str::to_owned).to_vec())
    }
}

impl From<Vec<i32>> for Stop {
    fn from(tokens: Vec<i32>) -> Self {
        Self::Tokens(tokens)
    }
}

impl<const N: usize> From<[i32; N]> for Stop {
    fn from(tokens: [i32; N]) -> Self {
        Self::Tokens(tokens.to_vec())
    }
}
