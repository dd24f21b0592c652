//! Sampling results, from protobuf and from JSON (PROTOCOL 15.5, 19.1, 21).

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use serde::{Deserialize, Deserializer};

use crate::{DecodeError, TensorData, Tokens, lenient, proto, repeated, tensor};

/// The result of one sampling request (PROTOCOL 15.5, 19.1, 21).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SampleResponse {
    /// One per requested sample, in order.
    pub sequences: Vec<SampledSequence>,
    /// The log-probability (natural log) of each prompt token; the first has none. Present where asked for.
    pub prompt_logprobs: Option<Vec<Option<f32>>>,
    /// The k most likely tokens at each prompt position, one row per token; a row is none where the server gave none.
    pub topk_prompt_logprobs: Option<Vec<Option<Vec<TokenLogprob>>>>,
    /// Log-probabilities of the requested targets, in the shape of the request; 0.0 where it had -1.
    pub target_prompt_logprobs: Option<TensorData>,
    /// Prompt tokens billed as prefix-cache hits.
    pub prompt_cache_hit_tokens: u32,
    /// Alternatives for prompt positions. Present where asked for.
    pub prompt_alt_tokens: Option<PromptAltTokens>,
    raw_prompt_logprobs: Option<Vec<Option<f32>>>,
}

/// One continuation (PROTOCOL 15.5, 19.1, 21).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SampledSequence {
    /// The generated tokens, without the prompt.
    pub tokens: Tokens,
    /// The log-probability (natural log) of each generated token, one per token. Some servers send none.
    pub logprobs: Option<Vec<f32>>,
    /// Why generation ended.
    pub stop_reason: StopReason,
    /// The k most likely tokens at each generated position, one row per token. Present where asked for.
    pub topk_logprobs: Option<Vec<Option<Vec<TokenLogprob>>>>,
    /// The id the server gave this sequence when it accepted the request, for provenance. Some servers give none.
    pub sequence_id: Option<Arc<str>>,
}

/// Why generation ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// A stop condition was met.
    #[default]
    Stop,
    /// `max_tokens` were generated.
    Length,
    /// Something newer, in the server's words.
    Other(String),
}

/// A token and its log-probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: i32,
    /// Its log-probability (natural log).
    pub logprob: f32,
}

/// Alternatives for prompt positions, both tensors `[prompt length - 1, k]` (PROTOCOL 15.5, 19.1, 21).
#[derive(Clone, Debug, PartialEq)]
pub struct PromptAltTokens {
    /// The tokens, int64.
    pub tokens: TensorData,
    /// Their log-probabilities, float32.
    pub logprobs: TensorData,
}

impl SampleResponse {
    /// Reads the protobuf form.
    ///
    /// # Errors
    /// Where the bytes are not a `SampleResponse`, a packed buffer is cut short, or there are more sequences than so
    /// short a message can hold.
    pub fn from_proto(bytes: Bytes) -> Result<Self, DecodeError> {
        repeated::check("sample response", &bytes, 1)?;
        let message =
            proto::SampleResponse::decode(bytes).map_err(|e| DecodeError::new("sample response", e))?;
        let alternatives = message.prompt_alt_tokens.map(|alternatives| {
            let read = |tensor: Option<proto::Tensor>| TensorData::from_proto(&tensor.unwrap_or_default());
            Ok(PromptAltTokens { tokens: read(alternatives.tokens)?, logprobs: read(alternatives.logprobs)? })
        });
        let mut sequences = Vec::with_capacity(message.sequences.len());
        for sequence in &message.sequences {
            sequences.push(sequence_from_proto(sequence)?);
        }
        Ok(Self {
            sequences,
            prompt_logprobs: floats(message.prompt_logprobs.as_ref(), |v| (!v.is_nan()).then_some(v))?,
            topk_prompt_logprobs: topk_from_proto(message.topk_prompt_logprobs.as_ref())?,
            target_prompt_logprobs: message
                .target_prompt_logprobs
                .as_ref()
                .map(TensorData::from_proto)
                .transpose()?,
            prompt_cache_hit_tokens: u32::try_from(message.prompt_cache_hit_tokens).unwrap_or_default(),
            prompt_alt_tokens: alternatives.transpose()?,
            raw_prompt_logprobs: None,
        })
    }

    /// Reads the JSON form. Missing and null members are allowed everywhere but for `sequences`.
    ///
    /// # Errors
    /// Where the text is not JSON or not a sampling result.
    pub fn from_json(text: &[u8]) -> Result<Self, DecodeError> {
        let json: JsonResponse =
            serde_json::from_slice(text).map_err(|e| DecodeError::of_json("sample response", &e))?;
        Ok(Self {
            sequences: json.sequences.into_iter().map(SampledSequence::from).collect(),
            prompt_logprobs: json.prompt_logprobs.filter(|l| !l.is_empty()),
            topk_prompt_logprobs: json.topk_prompt_logprobs.and_then(rows),
            target_prompt_logprobs: json.target_prompt_logprobs,
            prompt_cache_hit_tokens: json.prompt_cache_hit_tokens,
            prompt_alt_tokens: json
                .prompt_alt_tokens
                .map(|a| PromptAltTokens { tokens: a.tokens, logprobs: a.logprobs }),
            raw_prompt_logprobs: None,
        })
    }

    /// Makes the prompt log-probabilities one entry per prompt token, the first being none (OPEN_SERVERS, row 12).
    /// What the server sent stays in [`raw_prompt_logprobs`](Self::raw_prompt_logprobs).
    pub fn align_prompt_logprobs(&mut self, prompt_tokens: usize) {
        let Some(logprobs) = &mut self.prompt_logprobs else { return };
        let missing = logprobs.len() + 1 == prompt_tokens;
        let filled = logprobs.len() == prompt_tokens && matches!(logprobs.first(), Some(Some(_)));
        if !missing && !filled {
            return;
        }
        self.raw_prompt_logprobs = Some(logprobs.clone());
        if missing {
            logprobs.insert(0, None);
        } else if let Some(first) = logprobs.first_mut() {
            *first = None;
        }
    }

    /// The prompt log-probabilities as the server sent them.
    pub fn raw_prompt_logprobs(&self) -> Option<&[Option<f32>]> {
        self.raw_prompt_logprobs.as_deref().or(self.prompt_logprobs.as_deref())
    }
}

fn sequence_from_proto(sequence: &proto::SampledSequence) -> Result<SampledSequence, DecodeError> {
    Ok(SampledSequence {
        tokens: Tokens::from_le_bytes(&sequence.tokens)?,
        logprobs: floats(sequence.logprobs.as_ref(), |v| v)?,
        stop_reason: match sequence.stop_reason {
            0 => StopReason::Stop,
            1 => StopReason::Length,
            other => StopReason::Other(other.to_string()),
        },
        topk_logprobs: topk_from_proto(sequence.topk_sampled_logprobs.as_ref())?,
        sequence_id: None,
    })
}

fn floats<T>(bytes: Option<&Bytes>, read: impl Fn(f32) -> T) -> Result<Option<Vec<T>>, DecodeError> {
    match bytes {
        Some(bytes) if !bytes.is_empty() => {
            tensor::elements(bytes, |b| read(f32::from_le_bytes(b))).map(Some)
        }
        _ => Ok(None),
    }
}

/// PROTOCOL 19.1: an absent cell is id 0 with this log-probability. Trailing ones are cut; a row that begins with one
/// is no row.
const SENTINEL: TokenLogprob = TokenLogprob { token: 0, logprob: -99_999.0 };

fn topk_from_proto(
    topk: Option<&proto::TopkLogprobs>,
) -> Result<Option<Vec<Option<Vec<TokenLogprob>>>>, DecodeError> {
    let Some(topk) = topk.filter(|t| t.k > 0 && t.length > 0) else { return Ok(None) };
    let (ids, _) = topk.token_ids.as_chunks::<4>();
    let (logprobs, _) = topk.logprobs.as_chunks::<4>();
    let cells = u64::from(topk.k) * u64::from(topk.length);
    if (ids.len() as u64) < cells || (logprobs.len() as u64) < cells {
        let detail = format!(
            "{} rows of {} cells need {cells} of each, have {} ids and {} logprobs",
            topk.length,
            topk.k,
            ids.len(),
            logprobs.len()
        );
        return Err(DecodeError::new("top-k logprobs", detail));
    }
    let k = topk.k as usize;
    let row = |(ids, logprobs): (&[[u8; 4]], &[[u8; 4]])| {
        let mut cells: Vec<TokenLogprob> = ids
            .iter()
            .zip(logprobs)
            .map(|(id, lp)| TokenLogprob { token: i32::from_le_bytes(*id), logprob: f32::from_le_bytes(*lp) })
            .collect();
        if cells.first() == Some(&SENTINEL) {
            return None;
        }
        while cells.last() == Some(&SENTINEL) {
            cells.pop();
        }
        Some(cells)
    };
    Ok(Some(ids.chunks(k).zip(logprobs.chunks(k)).take(topk.length as usize).map(row).collect()))
}

#[derive(Deserialize)]
struct JsonResponse {
    sequences: Vec<JsonSequence>,
    prompt_logprobs: Option<Vec<Option<f32>>>,
    topk_prompt_logprobs: Option<Vec<JsonRow>>,
    target_prompt_logprobs: Option<TensorData>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    prompt_cache_hit_tokens: u32,
    prompt_alt_tokens: Option<JsonAltTokens>,
}

#[derive(Deserialize)]
struct JsonAltTokens {
    tokens: TensorData,
    logprobs: TensorData,
}

#[derive(Deserialize)]
struct JsonSequence {
    tokens: Tokens,
    logprobs: Option<Vec<Option<f32>>>,
    stop_reason: Option<String>,
    topk_logprobs: Option<Vec<JsonRow>>,
}

/// The top-k cells of one position. Some servers fill rows up with nulls.
type JsonRow = Option<Vec<Option<JsonCell>>>;

/// A top-k cell: `[id, logprob]` or `{"token_id", "logprob"}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum JsonCell {
    Pair(i32, f32),
    Named { token_id: i32, logprob: f32 },
}

impl From<JsonCell> for TokenLogprob {
    fn from(cell: JsonCell) -> Self {
        match cell {
            JsonCell::Pair(token, logprob) | JsonCell::Named { token_id: token, logprob } => {
                Self { token, logprob }
            }
        }
    }
}

/// No rows are none, as in the protobuf form.
fn rows(json: Vec<JsonRow>) -> Option<Vec<Option<Vec<TokenLogprob>>>> {
    let row = |cells: Vec<Option<JsonCell>>| cells.into_iter().flatten().map(TokenLogprob::from).collect();
    (!json.is_empty()).then(|| json.into_iter().map(|cells| cells.map(row)).collect())
}

impl From<JsonSequence> for SampledSequence {
    fn from(json: JsonSequence) -> Self {
        Self {
            tokens: json.tokens,
            logprobs: json
                .logprobs
                .filter(|l| !l.is_empty())
                .map(|l| l.into_iter().map(|v| v.unwrap_or(f32::NAN)).collect()),
            stop_reason: json.stop_reason.map(StopReason::from).unwrap_or_default(),
            topk_logprobs: json.topk_logprobs.and_then(rows),
            sequence_id: None,
        }
    }
}

impl From<String> for StopReason {
    fn from(text: String) -> Self {
        match text.as_str() {
            "stop" => Self::Stop,
            "length" => Self::Length,
            _ => Self::Other(text),
        }
    }
}

impl<'de> Deserialize<'de> for StopReason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Other(text) => text,
        })
    }
}
