//! The targets of a datum, which decide how many log-probabilities it has.

use tinkex_types::{Datum, InvalidInput, TensorData};

/// The loss input that says which tokens the model is to predict.
pub(super) const TARGET_TOKENS: &str = "target_tokens";
/// The loss input that says how much each target counts.
pub(super) const WEIGHTS: &str = "weights";

/// The target tokens of datum `n`.
pub(super) fn of(datum: &Datum, n: usize) -> Result<&TensorData, InvalidInput> {
    datum.loss_fn_inputs.get(TARGET_TOKENS).ok_or_else(|| missing(n, TARGET_TOKENS))
}

/// What is said where an input is not there.
pub(super) fn missing(n: usize, name: &str) -> InvalidInput {
    InvalidInput::new("data", format!("have no loss input `{name}` in datum {n}, and the loss needs it"))
}

/// How many elements a tensor has, those a sparse one does not store included.
pub(super) fn count(tensor: &TensorData) -> u64 {
    match (tensor.csr(), tensor.shape()) {
        (Some(_), Some(shape)) => shape.iter().fold(1, |product, n| product.saturating_mul(*n)),
        _ => tensor.values().len() as u64,
    }
}
