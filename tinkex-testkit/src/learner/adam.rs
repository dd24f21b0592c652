//! Adam with decoupled weight decay, as PyTorch's `AdamW` computes it.

use super::optimizer::bound;
use crate::model::LowRank;

/// One step of Adam. The defaults are the service's (PROTOCOL 12.7).
#[derive(Clone, Debug, PartialEq)]
pub struct AdamStep {
    /// Default 1e-4.
    pub learning_rate: f64,
    /// Decay of the mean of the gradient. Default 0.9.
    pub beta1: f64,
    /// Decay of the mean of its square. Default 0.95.
    pub beta2: f64,
    /// Added to the denominator; positive. Default 1e-12.
    pub eps: f64,
    /// Share of a weight, times the learning rate, that is taken off before the step. Default 0.
    pub weight_decay: f64,
    /// The largest global norm of the gradient; 0 or less for no limit. Default 0.
    pub grad_clip_norm: f64,
}

impl Default for AdamStep {
    fn default() -> Self {
        Self {
            learning_rate: 1e-4,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-12,
            weight_decay: 0.0,
            grad_clip_norm: 0.0,
        }
    }
}

/// Running means of the gradient and of its square, and how many steps made them.
#[derive(Clone, Debug)]
pub(crate) struct AdamState {
    steps: i32,
    mean: LowRank,
    square: LowRank,
}

impl AdamState {
    pub(crate) fn new(rank: usize) -> Self {
        Self { steps: 0, mean: LowRank::zeros(rank), square: LowRank::zeros(rank) }
    }

    pub(crate) fn step(&mut self, adam: &AdamStep, weights: &mut LowRank, gradient: &LowRank) {
        self.steps = self.steps.saturating_add(1);
        let correction1 = 1.0 - adam.beta1.powi(self.steps);
        let correction2 = 1.0 - adam.beta2.powi(self.steps);
        let size = bounded(adam.learning_rate / correction1);
        let keep = bounded(1.0 - adam.learning_rate * adam.weight_decay);
        // Never zero, for a weight without gradient would then be zero over zero.
        let root = (correction2.sqrt() as f32).max(f32::MIN_POSITIVE);
        let eps = (adam.eps as f32).max(f32::MIN_POSITIVE);
        let (new1, beta2, new2) = ((1.0 - adam.beta1) as f32, adam.beta2 as f32, (1.0 - adam.beta2) as f32);
        let parts = weights.parts_mut().into_iter().zip(gradient.parts());
        let moments = self.mean.parts_mut().into_iter().zip(self.square.parts_mut());
        for ((weights, gradient), (mean, square)) in parts.zip(moments) {
            let entries = weights.iter_mut().zip(gradient).zip(mean.iter_mut().zip(square));
            for ((w, g), (m, v)) in entries {
                *m += new1 * (g - *m);
                *v = *v * beta2 + new2 * (g * g);
                let denominator = v.sqrt() / root + eps;
                *w = bound(*w * keep - size * (*m / denominator));
            }
        }
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.mean.size_bytes() + self.square.size_bytes()
    }
}

/// Any number as a factor that makes no NaN of a zero.
fn bounded(value: f64) -> f32 {
    value.clamp(-1e12, 1e12) as f32
}
