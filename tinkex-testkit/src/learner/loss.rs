//! The losses, each with its exact gradient with respect to the logprobs of the targets (PROTOCOL 12.1).

use std::collections::BTreeMap;

use super::{LearnerDatum, LossError};

/// Which loss to compute, by its name in the protocol, with its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct LearnerLoss {
    /// `cross_entropy`, ….
    pub name: String,
    /// The numbers of `loss_fn_config`. Those a loss does not know are ignored.
    pub numbers: BTreeMap<String, f64>,
}

impl LearnerLoss {
    /// A loss with its default numbers.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), numbers: BTreeMap::new() }
    }

    /// Sets a number.
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.numbers.insert(name.to_owned(), value);
        self
    }
}

/// A loss that is known, with checked numbers.
pub(crate) enum Objective {
    CrossEntropy,
}

/// A datum's share of the loss, and the derivative with respect to the logprob of each target.
pub(crate) struct Outcome {
    pub(crate) loss: f64,
    pub(crate) slopes: Vec<f64>,
}

impl Objective {
    pub(crate) fn of(loss: &LearnerLoss) -> Result<Self, LossError> {
        match loss.name.as_str() {
            "cross_entropy" => Ok(Self::CrossEntropy),
            other => Err(LossError::new(format!("unknown loss function {other:?}"))),
        }
    }

    /// Whether the datum has what the loss needs.
    pub(crate) fn check(&self, index: usize, datum: &LearnerDatum) -> Result<(), LossError> {
        if let Some(weights) = datum.inputs.get("weights") {
            datum.check_cells(index, "weights", weights)?;
        }
        Ok(())
    }

    pub(crate) fn evaluate(
        &self,
        _index: usize,
        datum: &LearnerDatum,
        logprobs: &[f32],
    ) -> Result<Outcome, LossError> {
        let weights = datum.inputs.get("weights");
        let weight = |cell: usize| f64::from(weights.map_or(1.0, |weights| weights[cell]));
        let slopes: Vec<f64> = (0..logprobs.len()).map(|cell| -weight(cell)).collect();
        let loss = slopes.iter().zip(logprobs).map(|(slope, lp)| slope * f64::from(*lp)).sum();
        Ok(Outcome { loss, slopes })
    }
}
