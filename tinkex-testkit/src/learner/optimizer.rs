//! From a gradient to new weights: clipping, and the choice of optimizer.

use std::collections::BTreeMap;

use super::adam::{AdamState, AdamStep};
use super::dimuon::{DimuonState, DimuonStep};
use crate::model::LowRank;

/// Weights stay within ± this, whatever the learning rate, so that every logprob is finite.
const WEIGHT_BOUND: f32 = 1e6;

/// One step of an optimizer (PROTOCOL 12.7).
#[derive(Clone, Debug, PartialEq)]
pub enum OptimizerStep {
    /// Adam with decoupled weight decay.
    Adam(AdamStep),
    /// Orthogonalised momentum.
    Dimuon(DimuonStep),
}

impl OptimizerStep {
    fn grad_clip_norm(&self) -> f64 {
        match self {
            Self::Adam(step) => step.grad_clip_norm,
            Self::Dimuon(step) => step.grad_clip_norm,
        }
    }
}

impl From<AdamStep> for OptimizerStep {
    fn from(step: AdamStep) -> Self {
        Self::Adam(step)
    }
}

impl From<DimuonStep> for OptimizerStep {
    fn from(step: DimuonStep) -> Self {
        Self::Dimuon(step)
    }
}

/// What an optimizer remembers from step to step.
#[derive(Clone, Debug, Default)]
pub(crate) enum OptimizerState {
    /// No step was made yet.
    #[default]
    Fresh,
    Adam(AdamState),
    Dimuon(DimuonState),
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
        let limit = step.grad_clip_norm();
        // As PyTorch's clip_grad_norm_, which keeps the denominator from zero.
        let factor = if limit > 0.0 { (limit / (norm + 1e-6)).min(1.0) } else { 1.0 };
        if norm.is_finite() {
            if factor < 1.0 {
                gradient.scale(factor as f32);
            }
            self.apply(step, weights, &gradient);
        }
        BTreeMap::from([
            ("grad_norm:mean".to_owned(), norm.min(f64::MAX)),
            ("grad_clip:mean".to_owned(), factor),
        ])
    }

    fn apply(&mut self, step: &OptimizerStep, weights: &mut LowRank, gradient: &LowRank) {
        match (step, self) {
            (OptimizerStep::Adam(step), Self::Adam(state)) => state.step(step, weights, gradient),
            (OptimizerStep::Dimuon(step), Self::Dimuon(state)) => state.step(step, weights, gradient),
            (OptimizerStep::Adam(step), other) => {
                let mut state = AdamState::new(weights.rank());
                state.step(step, weights, gradient);
                *other = Self::Adam(state);
            }
            (OptimizerStep::Dimuon(step), other) => {
                let mut state = DimuonState::new(weights.rank());
                state.step(step, weights, gradient);
                *other = Self::Dimuon(state);
            }
        }
    }

    /// Bytes of the remembered numbers.
    pub(crate) fn size_bytes(&self) -> u64 {
        match self {
            Self::Fresh => 0,
            Self::Adam(state) => state.size_bytes(),
            Self::Dimuon(state) => state.size_bytes(),
        }
    }
}

/// A new weight within the bounds, also where senseless numbers of the optimizer made none.
#[inline(always)]
pub(crate) fn bound(weight: f32) -> f32 {
    if weight.is_nan() { 0.0 } else { weight.clamp(-WEIGHT_BOUND, WEIGHT_BOUND) }
}
