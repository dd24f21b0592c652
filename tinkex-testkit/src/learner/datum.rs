//! What is learned from: tokens, targets, and further inputs of the loss.

use std::collections::BTreeMap;

use super::LossError;

/// One sequence to learn from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LearnerDatum {
    /// The model's input. The context of position i is all tokens up to and with token i.
    pub tokens: Vec<i32>,
    /// The tokens to be predicted: [`width`](Self::width) per position, position by position.
    pub targets: Vec<i64>,
    /// How many targets there are per position; 1 unless `target_tokens` has two dimensions.
    pub width: usize,
    /// Further inputs of the loss, each with one number per target: `weights`, `advantages`, `logprobs`, ….
    pub inputs: BTreeMap<String, Vec<f32>>,
}

impl LearnerDatum {
    /// A datum with one target per position and no further inputs.
    pub fn new(tokens: Vec<i32>, targets: Vec<i64>) -> Self {
        Self { tokens, targets, width: 1, inputs: BTreeMap::new() }
    }

    /// Adds a further input.
    pub fn with(mut self, name: &str, values: Vec<f32>) -> Self {
        self.inputs.insert(name.to_owned(), values);
        self
    }

    /// Whether tokens and targets fit; `index` is the datum's place in the request.
    pub(crate) fn check(&self, index: usize) -> Result<(), LossError> {
        if self.tokens.is_empty() {
            return Err(LossError::new(format!("datum {index}: no tokens")));
        }
        if self.width == 0 || self.tokens.len().checked_mul(self.width) != Some(self.targets.len()) {
            return Err(LossError::new(format!(
                "datum {index}: target_tokens has {} entries for {} tokens × {}",
                self.targets.len(),
                self.tokens.len(),
                self.width
            )));
        }
        Ok(())
    }

    /// Whether `values` are finite numbers, one per target.
    pub(crate) fn check_cells(&self, index: usize, what: &str, values: &[f32]) -> Result<(), LossError> {
        if values.len() != self.targets.len() {
            return Err(LossError::new(format!(
                "datum {index}: {what} has {} entries for {} targets",
                values.len(),
                self.targets.len()
            )));
        }
        match values.iter().position(|value| !value.is_finite()) {
            Some(place) => Err(LossError::new(format!(
                "datum {index}: {what} has {} at {place}, which is no finite number",
                values[place]
            ))),
            None => Ok(()),
        }
    }
}
