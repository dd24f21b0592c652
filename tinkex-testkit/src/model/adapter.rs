//! The trainable part of a model: a low-rank change of the logits.
//!
//! `logits(context) = ln p_base(context) + B·(A·φ(context))`. φ is frozen and sparse: of [`FEATURES`] components
//! [`ACTIVE_FEATURES`] are one and the rest zero. Each active one stands for the last 0, 1, 2, … bytes of the context
//! (hashed, with a salt from the base model's name): the short ones carry over to new texts, the long ones tell
//! every place of a text from all others. A and B are what training changes.

use super::elementary::exp_single;
use super::language_model::History;
use super::random::{SplitMix64, stable_hash};
use super::{Distribution, VOCABULARY};

/// Number of components of φ: the columns of A.
pub const FEATURES: usize = 4096;

/// How many components of φ are one.
pub const ACTIVE_FEATURES: usize = LENGTHS.len();

/// How many of the last bytes each active feature stands for, ascending.
const LENGTHS: [usize; 8] = [0, 1, 2, 3, 4, 6, 10, 16];

/// Fresh entries of A lie within ± this.
const INITIAL_RANGE: f32 = 0.25;

/// Two matrices of the shape of A and B: weights, their gradient, or a moment of the gradient. Zero-filled when new.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    rank: usize,
    pub(crate) a: Vec<f32>,
    pub(crate) b: Vec<[f32; VOCABULARY]>,
}

impl LowRank {
    /// Zeros.
    pub(crate) fn zeros(rank: usize) -> Self {
        Self { rank, a: vec![0.0; FEATURES * rank], b: vec![[0.0; VOCABULARY]; rank] }
    }

    /// The rank: rows of A, columns of B.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// A, feature by feature: entry `feature × rank + k` is A[k, feature].
    pub fn a(&self) -> &[f32] {
        &self.a
    }

    /// B, rank by rank: entry `[k][byte]` is B[byte, k].
    pub fn b(&self) -> &[[f32; VOCABULARY]] {
        &self.b
    }

    /// The entries of A, then those of B.
    pub(crate) fn parts(&self) -> [&[f32]; 2] {
        [&self.a, self.b.as_flattened()]
    }

    pub(crate) fn parts_mut(&mut self) -> [&mut [f32]; 2] {
        [&mut self.a, self.b.as_flattened_mut()]
    }

    /// The square root of the sum of all squares.
    pub(crate) fn norm(&self) -> f64 {
        let mut sums = [0.0; 8];
        for part in self.parts() {
            // Both matrices have a multiple of eight entries. Eight sums side by side are no chain of additions.
            for eight in part.as_chunks::<8>().0 {
                sums.iter_mut().zip(eight).for_each(|(sum, x)| *sum += f64::from(*x) * f64::from(*x));
            }
        }
        sums.iter().sum::<f64>().sqrt()
    }

    pub(crate) fn scale(&mut self, factor: f32) {
        self.parts_mut().into_iter().flatten().for_each(|value| *value *= factor);
    }

    /// Bytes of the numbers.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.parts().map(|part| size_of_val(part) as u64).iter().sum()
    }

    /// The column of A that belongs to a feature.
    pub(crate) fn column(&self, feature: usize) -> &[f32] {
        &self.a[feature * self.rank..][..self.rank]
    }

    /// [`LowRank::column`], to be changed.
    pub(crate) fn column_mut(&mut self, feature: usize) -> &mut [f32] {
        &mut self.a[feature * self.rank..][..self.rank]
    }
}

/// The features of one context that are one. The same feature may come up twice; then it counts twice.
pub type ActiveFeatures = [usize; ACTIVE_FEATURES];

/// A low-rank adapter: what one training run has learned.
#[derive(Clone, Debug)]
pub struct Adapter {
    salt: u64,
    pub(crate) weights: LowRank,
}

impl Adapter {
    /// A fresh adapter: A random from `seed`, B zero, so that the model is still its base.
    pub(crate) fn fresh(base_model: &str, rank: usize, seed: u64) -> Self {
        let mut random = SplitMix64::new(seed);
        let mut weights = LowRank::zeros(rank);
        weights.a.iter_mut().for_each(|w| *w = INITIAL_RANGE * (2.0 * random.next_f64() - 1.0) as f32);
        Self { salt: stable_hash(base_model.as_bytes()), weights }
    }

    /// A and B.
    pub fn weights(&self) -> &LowRank {
        &self.weights
    }

    /// The active features of φ after `context`.
    pub fn features(&self, context: &[i32]) -> ActiveFeatures {
        self.features_after(&History::of(context))
    }

    pub(crate) fn features_after(&self, history: &History) -> ActiveFeatures {
        let mut folded = self.salt;
        let mut read = 0;
        LENGTHS.map(|length| {
            for byte in history.newest_first().skip(read).take(length - read) {
                // Plus one, so that a zero byte changes the number too.
                folded = (folded ^ (u64::from(*byte) + 1)).wrapping_mul(0x0100_0000_01B3);
            }
            read = length;
            (SplitMix64::new(folded).next_u64() % FEATURES as u64) as usize
        })
    }

    /// Adds A·φ to `hidden`.
    pub(crate) fn add_hidden(&self, features: &ActiveFeatures, hidden: &mut [f32]) {
        for feature in features {
            hidden.iter_mut().zip(self.weights.column(*feature)).for_each(|(h, a)| *h += a);
        }
    }

    /// Multiplies weights of bytes by the exponentials of what B·hidden adds to their logits, relative to the
    /// largest of these.
    pub(crate) fn reweigh(&self, weights: &mut Distribution, hidden: &[f32]) {
        let shift = self.shift(hidden);
        let (eights, _) = shift.as_chunks::<8>();
        let peaks = eights
            .iter()
            .fold([f32::MIN; 8], |peaks, eight| std::array::from_fn(|lane| peaks[lane].max(eight[lane])));
        let peak = peaks.iter().copied().fold(f32::MIN, f32::max);
        for (weight, shift) in weights.iter_mut().zip(&shift) {
            *weight *= exp_single(shift - peak);
        }
    }

    /// B·hidden.
    fn shift(&self, hidden: &[f32]) -> [f32; VOCABULARY] {
        let mut shift = [0.0; VOCABULARY];
        // Four columns at a time: the sums stay in registers for four products.
        let (fours, rest) = self.weights.b.as_chunks::<4>();
        let (hidden_fours, hidden_rest) = hidden.as_chunks::<4>();
        for ([b0, b1, b2, b3], [h0, h1, h2, h3]) in fours.iter().zip(hidden_fours) {
            for byte in 0..VOCABULARY {
                shift[byte] += (h0 * b0[byte] + h1 * b1[byte]) + (h2 * b2[byte] + h3 * b3[byte]);
            }
        }
        for (column, h) in rest.iter().zip(hidden_rest) {
            shift.iter_mut().zip(column).for_each(|(sum, b)| *sum += h * b);
        }
        shift
    }
}
