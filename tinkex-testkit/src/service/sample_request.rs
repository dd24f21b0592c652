//! The body of `asample` (PROTOCOL 15.2): read, checked, and turned into work.

use std::sync::OnceLock;

use serde::Deserialize;

use super::ServiceOptions;
use super::prompt::Prompt;
use super::refusal::Refusal;
use super::work::{PromptAsk, SampleWork};
use crate::model::{GenerationPlan, LanguageModel, Stop, TargetCells, Targets, VOCABULARY, stable_hash};

/// The most alternatives per position: all tokens but one.
const MAX_ALTERNATIVES: i64 = VOCABULARY as i64 - 1;

/// The most cells of one table about the prompt.
const MAX_CELLS: usize = 1 << 23;

#[derive(Deserialize)]
pub(crate) struct SampleRequest {
    pub(crate) sampling_session_id: String,
    pub(crate) seq_id: u64,
    num_samples: Option<i64>,
    prompt: Prompt,
    sampling_params: Params,
    prompt_logprobs: Option<bool>,
    topk_prompt_logprobs: Option<i64>,
    topk_sample_logprobs: Option<i64>,
    target_prompt_logprobs: Option<TargetTensor>,
    prompt_alt_tokens_k: Option<i64>,
    prompt_logprobs_last_n: Option<i64>,
}

#[derive(Deserialize)]
struct Params {
    max_tokens: Option<i64>,
    seed: Option<i64>,
    stop: Option<StopList>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<i64>,
}

/// Strings come first: an empty list is an empty list either way.
#[derive(Deserialize)]
#[serde(untagged)]
enum StopList {
    One(String),
    Strings(Vec<String>),
    Tokens(Vec<i32>),
}

#[derive(Deserialize)]
struct TargetTensor {
    data: Vec<i64>,
    dtype: String,
    shape: Option<Vec<usize>>,
    sparse_crow_indices: Option<Vec<i64>>,
    sparse_col_indices: Option<Vec<i64>>,
}

impl SampleRequest {
    /// Checks the request and turns it into work for a model.
    pub(crate) fn into_work(
        self,
        model: LanguageModel,
        options: &ServiceOptions,
    ) -> Result<SampleWork, Refusal> {
        let dialect = &options.dialect;
        let bad = |detail: String| Refusal::new(400, detail);
        let prompt = self.prompt.into_tokens(options.max_context_length - 1)?;
        if prompt.is_empty() {
            return Err(bad("the prompt is empty".into()));
        }
        let num_samples = match self.num_samples.unwrap_or(1) {
            n if n >= 1 && n as u64 <= options.max_num_samples as u64 => n as usize,
            n => {
                return Err(bad(format!(
                    "num_samples must be from 1 to {}, not {n}",
                    options.max_num_samples
                )));
            }
        };
        let params = self.sampling_params;
        if dialect.max_tokens_required && params.max_tokens.is_none() {
            return Err(Refusal::new(422, "sampling_params.max_tokens: field required"));
        }
        let room = options.max_context_length - prompt.len();
        let max_tokens = match params.max_tokens {
            None => options.default_max_tokens.min(room),
            Some(n) if n < 1 => return Err(bad(format!("max_tokens must be at least 1, not {n}"))),
            Some(n) if n as u64 > room as u64 => {
                let (length, limit) = (prompt.len(), options.max_context_length);
                return Err(bad(format!(
                    "a prompt of {length} and {n} new tokens exceed the context of {limit}"
                )));
            }
            Some(n) => n as usize,
        };
        let temperature = params.temperature.unwrap_or(1.0);
        if !(temperature >= 0.0 && temperature.is_finite()) {
            return Err(bad(format!("temperature must not be negative, but is {temperature}")));
        }
        let top_p = params.top_p.unwrap_or(1.0);
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(bad(format!("top_p must be above 0 and at most 1, not {top_p}")));
        }
        let top_k = match params.top_k.unwrap_or(-1) {
            -1 | 0 => None,
            k if k >= 1 => Some(k as usize),
            k => return Err(bad(format!("top_k must be -1 or at least 1, not {k}"))),
        };
        let count = |name: &str, value: Option<i64>| match value.unwrap_or(0) {
            k @ 0..=MAX_ALTERNATIVES => Ok(k as usize),
            k => Err(bad(format!("{name} must be from 0 to {MAX_ALTERNATIVES}, not {k}"))),
        };
        let ask = PromptAsk {
            logprobs: self.prompt_logprobs.unwrap_or(false),
            top: count("topk_prompt_logprobs", self.topk_prompt_logprobs)?,
            draws: count("prompt_alt_tokens_k", self.prompt_alt_tokens_k)?,
            targets: self
                .target_prompt_logprobs
                .map(|tensor| tensor.into_targets(prompt.len()))
                .transpose()?,
            last: match self.prompt_logprobs_last_n {
                None => None,
                Some(_) if self.prompt_logprobs != Some(true) => {
                    return Err(bad("prompt_logprobs_last_n needs prompt_logprobs".into()));
                }
                Some(n) if n >= 1 && (n as u64) < prompt.len() as u64 => Some(n as usize),
                Some(n) => {
                    let most = prompt.len() - 1;
                    return Err(bad(format!("prompt_logprobs_last_n must be from 1 to {most}, not {n}")));
                }
            },
        };
        let target_columns = ask.targets.as_ref().map_or(0, |targets| targets.shape().1);
        let widest = ask.top.max(ask.draws).max(target_columns);
        if prompt.len().saturating_mul(widest) > MAX_CELLS {
            let length = prompt.len();
            return Err(bad(format!(
                "{widest} answers for each of {length} prompt tokens exceed {MAX_CELLS}"
            )));
        }
        if dialect.refuse_topk_prompt_logprobs && ask.top > 0 {
            return Err(bad("topk_prompt_logprobs is not supported".into()));
        }
        let plan = GenerationPlan {
            max_tokens,
            temperature,
            top_k,
            top_p,
            stop: into_stop(params.stop, dialect.stop_strings_ignored),
            alternatives: count("topk_sample_logprobs", self.topk_sample_logprobs)?,
        };
        let seed = params.seed.map_or_else(
            || {
                stable_hash(
                    format!("{}/{}/{}", options.seed, self.sampling_session_id, self.seq_id).as_bytes(),
                )
            },
            |seed| seed as u64,
        );
        let shape = dialect.prompt_logprobs;
        Ok(SampleWork { model, prompt, plan, num_samples, seed, ask, shape, result: OnceLock::new() })
    }
}

impl TargetTensor {
    fn into_targets(self, prompt_length: usize) -> Result<Targets, Refusal> {
        let bad = |detail: String| Refusal::new(400, format!("target_prompt_logprobs: {detail}"));
        if self.dtype != "int64" {
            return Err(bad(format!("dtype must be int64, not {}", self.dtype)));
        }
        let rows = prompt_length - 1;
        let columns = match self.shape.as_deref() {
            Some([first, columns]) if *first == rows => *columns,
            Some(shape) => return Err(bad(format!("shape must be [{rows}, K], not {shape:?}"))),
            None => return Err(bad("shape is missing".into())),
        };
        let cells = match (self.sparse_crow_indices, self.sparse_col_indices) {
            (None, None) => TargetCells::Dense(self.data),
            (Some(crow), Some(columns)) => TargetCells::Csr { crow, columns, values: self.data },
            _ => return Err(bad("sparse indices come in pairs".into())),
        };
        Targets::new(rows, columns, cells).map_err(|error| bad(error.to_string()))
    }
}

fn into_stop(list: Option<StopList>, strings_ignored: bool) -> Stop {
    let strings = match list {
        None => return Stop::EndOfText,
        Some(StopList::Tokens(tokens)) => return Stop::Tokens(tokens),
        Some(StopList::Strings(strings)) if strings.is_empty() => return Stop::Never,
        Some(StopList::One(string)) => vec![string],
        Some(StopList::Strings(strings)) => strings,
    };
    if strings_ignored {
        Stop::EndOfText
    } else {
        Stop::Strings(strings.into_iter().map(String::into_bytes).collect())
    }
}
