//! What a caller asks of a sampler, and the `asample` body made from it (PROTOCOL 15.2).

use serde::Serialize;

use crate::{DType, InvalidInput, ModelInput, SamplingParams, TensorData};

/// One sampling request (PROTOCOL 15.2).
///
/// Every option beyond the prompt and the parameters is off by default and left out of the request while it is, so
/// that servers of the older protocol accept it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SampleRequest {
    /// What the model reads.
    pub prompt: ModelInput,
    /// How tokens are drawn.
    pub params: SamplingParams,
    /// How many independent continuations to draw.
    pub num_samples: u32,
    /// Whether to return the log-probability of each prompt token.
    pub prompt_logprobs: bool,
    /// How many alternatives to return per prompt position; 0 is none.
    pub topk_prompt_logprobs: u32,
    /// How many alternatives to return per generated position; 0 is none.
    pub topk_sample_logprobs: u32,
    /// Tokens whose log-probabilities to return, int64 `[prompt length - 1, K]`; -1 requests nothing. Row i speaks of
    /// prompt position i + 1.
    pub target_prompt_logprobs: Option<TensorData>,
    /// How many alternative tokens to return per prompt position; 0 is none.
    pub prompt_alt_tokens_k: u32,
    /// Return prompt log-probabilities only for the last n positions.
    pub prompt_logprobs_last_n: Option<u32>,
    /// Asks the service to record numerical-stability information.
    pub record_stability_info: bool,
}

impl SampleRequest {
    /// One sample of `prompt`.
    pub fn new(prompt: impl Into<ModelInput>, params: SamplingParams) -> Self {
        Self {
            prompt: prompt.into(),
            params,
            num_samples: 1,
            prompt_logprobs: false,
            topk_prompt_logprobs: 0,
            topk_sample_logprobs: 0,
            target_prompt_logprobs: None,
            prompt_alt_tokens_k: 0,
            prompt_logprobs_last_n: None,
            record_stability_info: false,
        }
    }

    /// Sets how many continuations to draw, at least 1. Default 1.
    #[must_use]
    pub fn num_samples(mut self, num_samples: u32) -> Self {
        self.num_samples = num_samples;
        self
    }

    /// Asks for the log-probability of each prompt token.
    #[must_use]
    pub fn prompt_logprobs(mut self, wanted: bool) -> Self {
        self.prompt_logprobs = wanted;
        self
    }

    /// Asks for the k most likely tokens at each prompt position.
    #[must_use]
    pub fn topk_prompt_logprobs(mut self, k: u32) -> Self {
        self.topk_prompt_logprobs = k;
        self
    }

    /// Asks for the k most likely tokens at each generated position.
    #[must_use]
    pub fn topk_sample_logprobs(mut self, k: u32) -> Self {
        self.topk_sample_logprobs = k;
        self
    }

    /// Asks for the log-probabilities of given tokens at prompt positions: int64, `[prompt length - 1, K]`, -1 for none.
    #[must_use]
    pub fn target_prompt_logprobs(mut self, targets: TensorData) -> Self {
        self.target_prompt_logprobs = Some(targets);
        self
    }

    /// Asks for k alternative tokens at each prompt position.
    #[must_use]
    pub fn prompt_alt_tokens_k(mut self, k: u32) -> Self {
        self.prompt_alt_tokens_k = k;
        self
    }

    /// Limits prompt log-probabilities to the last n positions, at least 1. Needs
    /// [`prompt_logprobs`](Self::prompt_logprobs).
    #[must_use]
    pub fn prompt_logprobs_last_n(mut self, n: u32) -> Self {
        self.prompt_logprobs_last_n = Some(n);
        self
    }

    /// Asks the service to record numerical-stability information.
    #[must_use]
    pub fn record_stability_info(mut self, record: bool) -> Self {
        self.record_stability_info = record;
        self
    }

    /// Checks everything that can be known before sending.
    ///
    /// # Errors
    /// Names the first argument that no server can accept.
    pub fn validate(&self) -> Result<(), InvalidInput> {
        if self.prompt.is_empty() {
            return Err(InvalidInput::new("prompt", "must not be empty"));
        }
        self.prompt.check_chunks("prompt")?;
        self.params.validate()?;
        if self.num_samples == 0 {
            return Err(InvalidInput::new("num_samples", "must be at least 1"));
        }
        match self.prompt_logprobs_last_n {
            Some(0) => return Err(InvalidInput::new("prompt_logprobs_last_n", "must be at least 1")),
            Some(_) if !self.prompt_logprobs => {
                return Err(InvalidInput::new("prompt_logprobs_last_n", "needs prompt_logprobs"));
            }
            _ => {}
        }
        self.target_prompt_logprobs.as_ref().map_or(Ok(()), |targets| self.validate_targets(targets))
    }

    fn validate_targets(&self, targets: &TensorData) -> Result<(), InvalidInput> {
        const FIELD: &str = "target_prompt_logprobs";
        if targets.dtype() != DType::Int64 {
            return Err(InvalidInput::new(FIELD, "must be an int64 tensor"));
        }
        let Some([rows, _]) = targets.shape() else {
            let problem = format!("must be two-dimensional, not of shape {:?}", targets.shape());
            return Err(InvalidInput::new(FIELD, problem));
        };
        match self.prompt.token_count() {
            Some(tokens) if tokens.saturating_sub(1) as u64 != *rows => {
                let expected = tokens.saturating_sub(1);
                Err(InvalidInput::new(
                    FIELD,
                    format!("must have {expected} rows (prompt length - 1), not {rows}"),
                ))
            }
            _ => Ok(()),
        }
    }

    /// The request body of `POST /api/v1/asample`.
    pub fn body<'a>(&'a self, sampling_session_id: &'a str, seq_id: u64) -> AsampleBody<'a> {
        AsampleBody {
            prompt: &self.prompt,
            others: Others {
                num_samples: self.num_samples,
                sampling_params: &self.params,
                sampling_session_id,
                seq_id,
                prompt_logprobs: self.prompt_logprobs,
                topk_prompt_logprobs: self.topk_prompt_logprobs,
                topk_sample_logprobs: self.topk_sample_logprobs,
                target_prompt_logprobs: self.target_prompt_logprobs.as_ref(),
                prompt_alt_tokens_k: self.prompt_alt_tokens_k,
                prompt_logprobs_last_n: self.prompt_logprobs_last_n,
                record_stability_info: self.record_stability_info,
                kind: "sample",
            },
        }
    }
}

/// The `asample` body: a [`SampleRequest`] with its place in a sampling session. Fields newer than the base protocol
/// are absent while they have their default (OPEN_SERVERS, decision 1).
#[derive(Clone, Debug, Serialize)]
pub struct AsampleBody<'a> {
    prompt: &'a ModelInput,
    #[serde(flatten)]
    others: Others<'a>,
}

/// What is beside the prompt.
#[derive(Clone, Debug, Serialize)]
struct Others<'a> {
    num_samples: u32,
    sampling_params: &'a SamplingParams,
    sampling_session_id: &'a str,
    seq_id: u64,
    prompt_logprobs: bool,
    #[serde(skip_serializing_if = "is_zero")]
    topk_prompt_logprobs: u32,
    #[serde(skip_serializing_if = "is_zero")]
    topk_sample_logprobs: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_prompt_logprobs: Option<&'a TensorData>,
    #[serde(skip_serializing_if = "is_zero")]
    prompt_alt_tokens_k: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_logprobs_last_n: Option<u32>,
    #[serde(skip_serializing_if = "is_false")]
    record_stability_info: bool,
    #[serde(rename = "type")]
    kind: &'static str,
}

impl AsampleBody<'_> {
    /// The body as JSON: what `Serialize` gives, with a faster writer for tokens.
    ///
    /// # Errors
    /// Those of `serde_json`, which finds nothing to refuse in a body.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        // Room for most prompts, so that the text is written in one go.
        let room = 512 + 8 * self.prompt.token_count().unwrap_or_default();
        let mut text = Vec::with_capacity(room);
        text.extend_from_slice(b"{\"prompt\":");
        self.prompt.write_json(&mut text)?;
        // The others are written as an object of their own, whose brace gives way to a comma.
        let brace = text.len();
        serde_json::to_writer(&mut text, &self.others)?;
        text[brace] = b',';
        Ok(text)
    }
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

fn is_false(flag: &bool) -> bool {
    !*flag
}
