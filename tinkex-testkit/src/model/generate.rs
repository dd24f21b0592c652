//! Sampling: from probabilities to tokens, with temperature, top-k, top-p, seeds and stops.

use super::elementary::{exp, ln};
use super::language_model::{History, logprob, most_likely};
use super::random::SplitMix64;
use super::{Distribution, END_OF_TEXT, LanguageModel, VOCABULARY, byte_of};

/// What ends a sample before its limit. The tokens that make the stop are part of the sample.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// The end-of-text token. What a request without `stop` means.
    #[default]
    EndOfText,
    /// Any of these byte strings at the end of the sampled bytes; the end of text does not stop. Empty strings never
    /// match.
    Strings(Vec<Vec<u8>>),
    /// Any of these tokens; the end of text stops only where it is one of them.
    Tokens(Vec<i32>),
    /// Nothing but the limit. What an empty `stop` list means.
    Never,
}

impl Stop {
    fn ends(&self, tokens: &[i32], bytes: &[u8]) -> bool {
        match self {
            Self::EndOfText => tokens.last() == Some(&END_OF_TEXT),
            Self::Strings(strings) => strings.iter().any(|text| !text.is_empty() && bytes.ends_with(text)),
            Self::Tokens(stops) => tokens.last().is_some_and(|token| stops.contains(token)),
            Self::Never => false,
        }
    }
}

/// Why a sample ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A stop was met.
    Stop,
    /// The limit of tokens was reached.
    Length,
}

impl Finish {
    /// The wire text: `stop` or `length`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// How to sample.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationPlan {
    /// The most tokens to sample. Default 256.
    pub max_tokens: usize,
    /// Divides the logits; 0 takes the likeliest token every time. Not negative. Default 1.
    pub temperature: f64,
    /// Only the so many likeliest tokens can be picked. Default: no limit.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that together hold this share of the probability (after temperature and
    /// [`top_k`](Self::top_k)) can be picked; at least one. Default 1, no limit.
    pub top_p: f64,
    /// What ends the sample early. Default: the end of text.
    pub stop: Stop,
    /// How many alternatives to report per sampled token. Default 0.
    pub alternatives: usize,
}

impl Default for GenerationPlan {
    fn default() -> Self {
        Self {
            max_tokens: 256,
            temperature: 1.0,
            top_k: None,
            top_p: 1.0,
            stop: Stop::EndOfText,
            alternatives: 0,
        }
    }
}

impl GenerationPlan {
    /// The probabilities tokens are picked with: `probabilities` after temperature, top-k and top-p, in this order.
    pub fn restrict(&self, probabilities: &Distribution) -> Distribution {
        if self.temperature <= 0.0 {
            let mut certain = [0.0; VOCABULARY];
            most_likely(probabilities, 1).iter().for_each(|byte| certain[usize::from(*byte)] = 1.0);
            return certain;
        }
        let mut weights = *probabilities;
        if self.temperature != 1.0 {
            // Relative to the likeliest token, so that a small temperature underflows the others and not this one.
            let peak = ln(weights.iter().copied().fold(f64::MIN_POSITIVE, f64::max));
            weights.iter_mut().for_each(|w| *w = exp((ln(*w) - peak) / self.temperature));
        }
        let top_k = self.top_k.unwrap_or(VOCABULARY).clamp(1, VOCABULARY);
        if top_k < VOCABULARY || self.top_p < 1.0 {
            let order = most_likely(&weights, top_k);
            let mass: f64 = order.iter().map(|byte| weights[usize::from(*byte)]).sum();
            let mut kept = [0.0; VOCABULARY];
            let mut sum = 0.0;
            for byte in order {
                if sum > 0.0 && sum >= self.top_p * mass {
                    break;
                }
                kept[usize::from(byte)] = weights[usize::from(byte)];
                sum += weights[usize::from(byte)];
            }
            weights = kept;
        }
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= sum);
        weights
    }

    fn is_plain(&self) -> bool {
        self.temperature == 1.0 && self.top_k.is_none_or(|k| k >= VOCABULARY) && self.top_p >= 1.0
    }
}

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The sampled tokens, the stop included.
    pub tokens: Vec<i32>,
    /// Per token, the natural logarithm of its probability under the *unmodified* model (temperature 1, no top-k,
    /// no top-p): the number a trainer compares models by, whatever the sampler did.
    pub logprobs: Vec<f32>,
    /// Per token, the likeliest tokens at its place with their logprobs, best first; empty rows where none were
    /// asked for.
    pub alternatives: Vec<Vec<(i32, f32)>>,
    /// Why the sample ended.
    pub finish: Finish,
}

impl Generation {
    /// The sampled bytes as text, a final end of text left out, ill-formed parts replaced.
    pub fn text(&self) -> String {
        let bytes: Vec<u8> = self.tokens.iter().map(|token| byte_of(*token)).collect();
        String::from_utf8_lossy(bytes.strip_suffix(&[END_OF_TEXT as u8]).unwrap_or(&bytes)).into_owned()
    }
}

impl LanguageModel {
    /// Samples a continuation of `prompt`. Equal arguments give equal results; for several samples of one request
    /// give each its own seed, e.g. from [`SplitMix64::stream`].
    pub fn generate(&self, prompt: &[i32], plan: &GenerationPlan, seed: u64) -> Generation {
        let mut random = SplitMix64::new(seed);
        let mut history = History::of(prompt);
        let mut bytes = Vec::new();
        let mut result = Generation {
            tokens: Vec::new(),
            logprobs: Vec::new(),
            alternatives: Vec::new(),
            finish: Finish::Length,
        };
        while result.tokens.len() < plan.max_tokens {
            let probabilities = self.after(&history);
            let byte = if plan.is_plain() {
                draw(&probabilities, &mut random)
            } else {
                draw(&plan.restrict(&probabilities), &mut random)
            };
            history.push(byte);
            bytes.push(byte);
            result.tokens.push(i32::from(byte));
            result.logprobs.push(logprob(&probabilities, byte));
            result.alternatives.push(alternatives(&probabilities, plan.alternatives));
            if plan.stop.ends(&result.tokens, &bytes) {
                result.finish = Finish::Stop;
                break;
            }
        }
        result
    }
}

/// The `k` likeliest tokens with their logprobs.
pub(crate) fn alternatives(probabilities: &Distribution, k: usize) -> Vec<(i32, f32)> {
    if k == 0 {
        return Vec::new();
    }
    most_likely(probabilities, k)
        .iter()
        .map(|byte| (i32::from(*byte), logprob(probabilities, *byte)))
        .collect()
}

/// One token, picked with its probability.
pub(crate) fn draw(probabilities: &Distribution, random: &mut SplitMix64) -> u8 {
    let mut left = random.next_f64();
    let mut last = 0;
    for (byte, p) in probabilities.iter().enumerate().filter(|(_, p)| **p > 0.0) {
        last = byte;
        if left < *p {
            break;
        }
        left -= p;
    }
    // Rounding may leave a tiny rest after the last byte: then the last possible one is meant.
    last as u8
}
