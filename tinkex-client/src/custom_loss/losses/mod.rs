//! Losses with their gradients written out.
//!
//! A position whose weight is 0 takes no part, whatever its log-probabilities are: a prompt may hold tokens that the
//! model gives no probability at all.

mod dpo;
mod input;
mod kl_policy_gradient;
mod weighted_nll;

pub use dpo::{Dpo, DpoReference};
pub use kl_policy_gradient::KlPolicyGradient;
pub use weighted_nll::WeightedNll;

/// `Σ wₜ·xₜ` over the positions with a weight.
fn weighted_sum(weights: &[f32], values: &[f32]) -> f64 {
    let counted = weights.iter().zip(values).filter(|(weight, _)| **weight != 0.0);
    counted.map(|(weight, value)| f64::from(*weight) * f64::from(*value)).sum()
}
