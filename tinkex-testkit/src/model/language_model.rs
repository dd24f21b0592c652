//! One named model: the counted base and the tilt that makes it this model.

use std::fmt;
use std::sync::Arc;

use super::ngram::{MEMORY, NGrams};
use super::random::{SplitMix64, stable_hash};
use super::{VOCABULARY, byte_of};

/// Probabilities of all tokens, indexed by token; positive, with sum one.
pub type Distribution = [f64; VOCABULARY];

/// The largest change of a log-probability, before normalisation, by which two named models differ.
const TILT: f64 = 0.2;

/// A language model. Cheap to clone; safe to share between threads.
#[derive(Clone)]
pub struct LanguageModel {
    base: &'static NGrams,
    /// A factor per byte on the base's probabilities: e to the power of what is added to the logits.
    tilt: Arc<Distribution>,
    name: Arc<str>,
}

impl LanguageModel {
    /// The model of this name. Equal names give equal models, on every machine and in every run.
    pub fn named(name: &str) -> Self {
        let mut random = SplitMix64::new(stable_hash(name.as_bytes()));
        let tilt = std::array::from_fn(|_| (TILT * (2.0 * random.next_f64() - 1.0)).exp());
        Self { base: NGrams::embedded(), tilt: Arc::new(tilt), name: name.into() }
    }

    /// The name the model was made with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Probabilities of the next token after `context`. Only the last [`MEMORY`] tokens matter.
    pub fn probabilities(&self, context: &[i32]) -> Distribution {
        self.after(&History::of(context))
    }

    /// Natural logarithms of [`LanguageModel::probabilities`]; all finite and below zero.
    pub fn logits(&self, context: &[i32]) -> [f32; VOCABULARY] {
        let probabilities = self.probabilities(context);
        std::array::from_fn(|token| logprob(&probabilities, token as u8))
    }

    pub(crate) fn after(&self, history: &History) -> Distribution {
        let mut probabilities = self.base.distribution(&history.0);
        let mut sum = 0.0;
        for (p, factor) in probabilities.iter_mut().zip(self.tilt.iter()) {
            *p *= factor;
            sum += *p;
        }
        probabilities.iter_mut().for_each(|p| *p /= sum);
        probabilities
    }
}

impl fmt::Debug for LanguageModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LanguageModel").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The last bytes a model has read, oldest first; the ends of text that precede a text where it has read fewer.
#[derive(Clone, Debug, Default)]
pub(crate) struct History([u8; MEMORY]);

impl History {
    pub(crate) fn of(context: &[i32]) -> Self {
        let mut history = Self::default();
        context[context.len().saturating_sub(MEMORY)..]
            .iter()
            .for_each(|token| history.push(byte_of(*token)));
        history
    }

    pub(crate) fn push(&mut self, byte: u8) {
        self.0.rotate_left(1);
        self.0[MEMORY - 1] = byte;
    }
}

/// The natural logarithm of one probability, as it is reported.
pub(crate) fn logprob(probabilities: &Distribution, byte: u8) -> f32 {
    probabilities[usize::from(byte)].ln() as f32
}

/// The `k` most likely bytes, the likeliest first; equal ones in the order of their values.
pub(crate) fn most_likely(probabilities: &Distribution, k: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..=u8::MAX).collect();
    bytes.sort_by(|a, b| {
        probabilities[usize::from(*b)].total_cmp(&probabilities[usize::from(*a)]).then(a.cmp(b))
    });
    bytes.truncate(k);
    bytes
}
