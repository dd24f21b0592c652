//! The targets of a datum, which decide how many log-probabilities it has.

use tinkex_types::{Datum, InvalidInput, TensorData};

/// The loss input that says which tokens the model is to predict.
pub(super) const TARGET_TOKENS: &str = "target_tokens";
/// The loss input that says how much each target counts.
pub(super) const WEIGHTS: &str = "weights";

/// More targets than these in one datum are not believed: a sparse tensor may state any shape.
const MOST: usize = 1 << 28;

/// The target tokens of datum `n`.
pub(super) fn of(datum: &Datum, n: usize) -> Result<&TensorData, InvalidInput> {
    datum.loss_fn_inputs.get(TARGET_TOKENS).ok_or_else(|| missing(n, TARGET_TOKENS))
}

/// What is said where an input is not there.
pub(super) fn missing(n: usize, name: &str) -> InvalidInput {
    InvalidInput::new("data", format!("lack the loss input `{name}` in datum {n}"))
}

/// How many target tokens datum `n` has, those included that a sparse tensor does not store.
pub(super) fn count(datum: &Datum, n: usize) -> Result<usize, InvalidInput> {
    let targets = of(datum, n)?;
    length(targets).ok_or_else(|| {
        InvalidInput::new("data", format!("hold in datum {n} too many target tokens: {:?}", targets.shape()))
    })
}

/// How many values a tensor stands for; none where that is more than can be believed.
pub(super) fn length(tensor: &TensorData) -> Option<usize> {
    match (tensor.csr(), tensor.shape()) {
        (Some(_), Some(shape)) => shape.iter().try_fold(1usize, |count, length| {
            count.checked_mul(usize::try_from(*length).ok()?).filter(|count| *count <= MOST)
        }),
        _ => Some(tensor.values().len()),
    }
}
