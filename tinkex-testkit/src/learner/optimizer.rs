//! From a gradient to new weights: clipping, and the choice of optimizer.

use std::collections::BTreeMap;

use super::adam::{AdamState, AdamStep};
use crate::model::LowRank;

/// Weights stay within ± this, whatever the learning rate, so that every logprob is finite.
pub(crate) const WEIGHT_BOUND: f32 = 1e6;

/// One step of an optimizer (PROTOCOL 12.7).
#[derive(Clone, Debug, PartialEq)]
pub enum OptimizerStep {
    /// Adam with decoupled weight decay.
    Adam(AdamStep),
}

impl From<AdamStep> for OptimizerStep {
    fn from(step: AdamStep) -> Self {
        Self::Adam(step)
    }
}

/// What an optimizer remembers from step to step.
#[derive(Clone, Debug, Default)]
pub(crate) enum OptimizerState {
    /// No step was made yet.
    #[default]
    Fresh,
    Adam(AdamState),
}

impl OptimizerState {
    /// Makes one step and reports on it. State of another optimizer is dropped.
    pub(crate) fn step(
        &mut self,
        step: &OptimizerStep,
        weights: &mut LowRank,
        mut gradient: LowRank,
    ) -> BTreeMap<String, f64> {
        let norm = gradient.norm();
        let limit = match step {
            OptimizerStep::Adam(adam) => adam.grad_clip_norm,
        };
        let factor = if limit > 0.0 { (limit / (norm + 1e-6)).min(1.0) } else { 1.0 };
        let metrics =
            BTreeMap::from([("grad_norm".to_owned(), norm.min(f64::MAX)), ("grad_clip".to_owned(), factor)]);
        if !norm.is_finite() {
            return metrics;
        }
        if factor < 1.0 {
            gradient.scale(factor as f32);
        }
        match step {
            OptimizerStep::Adam(adam) => {
                if !matches!(self, Self::Adam(_)) {
                    *self = Self::Adam(AdamState::new(weights.rank()));
                }
                if let Self::Adam(state) = self {
                    state.step(adam, weights, &gradient);
                }
            }
        }
        metrics
    }

    /// Bytes of the remembered numbers.
    pub(crate) fn size_bytes(&self) -> u64 {
        match self {
            Self::Fresh => 0,
            Self::Adam(state) => state.size_bytes(),
        }
    }
}
