//! One named model: the counted base, the tilt that makes it this model, and what training added.

use std::fmt;
use std::sync::Arc;

use super::adapter::Adapter;
use super::elementary::{exp, ln};
use super::ngram::NGrams;
use super::random::{SplitMix64, stable_hash};
use super::{MEMORY, VOCABULARY, byte_of};

/// Probabilities of all tokens, indexed by token; positive, with sum one.
pub type Distribution = [f64; VOCABULARY];

/// The largest change of a log-probability, before normalisation, by which two named models differ.
const TILT: f64 = 0.2;

/// A language model. Cheap to clone; safe to share between threads. It never changes: training makes new ones.
#[derive(Clone)]
pub struct LanguageModel {
    base: &'static NGrams,
    /// A factor per byte on the base's probabilities: e to the power of what is added to the logits.
    tilt: Arc<Distribution>,
    name: Arc<str>,
    adapter: Option<Arc<Adapter>>,
}

impl LanguageModel {
    /// The model of this name. Equal names give equal models, on every machine and in every run.
    pub fn named(name: &str) -> Self {
        let mut random = SplitMix64::new(stable_hash(name.as_bytes()));
        let tilt = std::array::from_fn(|_| exp(TILT * (2.0 * random.next_f64() - 1.0)));
        Self { base: NGrams::embedded(), tilt: Arc::new(tilt), name: name.into(), adapter: None }
    }

    /// The same base with what a training run has learned on top, in place of what was there.
    pub(crate) fn with_adapter(&self, adapter: Arc<Adapter>) -> Self {
        Self { adapter: Some(adapter), ..self.clone() }
    }

    /// The name the base was made with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What training added; none for a base model.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_deref()
    }

    /// Probabilities of the next token after `context`. Only the last [`MEMORY`] tokens matter.
    pub fn probabilities(&self, context: &[i32]) -> Distribution {
        self.after(&History::of(context))
    }

    /// Natural logarithms of [`LanguageModel::probabilities`]; all finite and none above zero.
    pub fn logits(&self, context: &[i32]) -> [f32; VOCABULARY] {
        let probabilities = self.probabilities(context);
        std::array::from_fn(|token| logprob(&probabilities, token as u8))
    }

    pub(crate) fn after(&self, history: &History) -> Distribution {
        let mut weights = [0.0; VOCABULARY];
        self.base_weights(history, &mut weights);
        if let Some(adapter) = &self.adapter {
            let mut hidden = vec![0.0; adapter.weights().rank()];
            adapter.add_hidden(&adapter.features_after(history), &mut hidden);
            adapter.reweigh(&mut weights, &hidden);
        }
        normalise(&mut weights);
        weights
    }

    /// Writes what the base model's probabilities are proportional to.
    pub(crate) fn base_weights(&self, history: &History, weights: &mut Distribution) {
        let counted = self.base.distribution(history.recent());
        for ((weight, p), factor) in weights.iter_mut().zip(counted.iter()).zip(self.tilt.iter()) {
            *weight = p * factor;
        }
    }
}

impl fmt::Debug for LanguageModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let adapted = self.adapter.is_some();
        f.debug_struct("LanguageModel")
            .field("name", &self.name)
            .field("adapted", &adapted)
            .finish_non_exhaustive()
    }
}

/// The last bytes a model has read, oldest first; the ends of text that precede a text where it has read fewer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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

    /// The bytes, the last one read first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &u8> {
        self.0.iter().rev()
    }

    /// The last `N` bytes, oldest first.
    pub(crate) fn recent<const N: usize>(&self) -> [u8; N] {
        std::array::from_fn(|index| self.0[MEMORY - N + index])
    }
}

/// Makes weights probabilities.
pub(crate) fn normalise(weights: &mut Distribution) {
    // Eight sums side by side, always added up in the same order.
    let (eights, _) = weights.as_chunks::<8>();
    let sums =
        eights.iter().fold([0.0; 8], |sums, eight| std::array::from_fn(|lane| sums[lane] + eight[lane]));
    let factor = 1.0 / sums.iter().sum::<f64>();
    weights.iter_mut().for_each(|weight| *weight *= factor);
}

/// The natural logarithm of one probability, as it is reported.
pub(crate) fn logprob(probabilities: &Distribution, byte: u8) -> f32 {
    // A sum can be off by a rounding error, a certainty cannot be more than certain.
    ln(probabilities[usize::from(byte)]).min(0.0) as f32
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
