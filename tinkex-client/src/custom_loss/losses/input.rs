//! Reading the loss inputs of data.

use std::sync::Arc;

use tinkex_types::{Datum, InvalidInput, TensorData, TensorValues};

use crate::custom_loss::{Logprobs, targets};

/// The input `name` of datum `n`: one float per target token.
pub(super) fn required(datum: &Datum, n: usize, name: &str) -> Result<Arc<[f32]>, InvalidInput> {
    optional(datum, n, name)?.ok_or_else(|| targets::missing(n, name))
}

/// The input `weights` of datum `n`, 1 for every target where there is none.
pub(super) fn weights(datum: &Datum, n: usize) -> Result<Arc<[f32]>, InvalidInput> {
    if let Some(weights) = optional(datum, n, targets::WEIGHTS)? {
        return Ok(weights);
    }
    Ok(std::iter::repeat_n(1.0, targets::count(datum, n)?).collect())
}

fn optional(datum: &Datum, n: usize, name: &str) -> Result<Option<Arc<[f32]>>, InvalidInput> {
    let Some(tensor) = checked(datum, n, name)? else { return Ok(None) };
    let dense = tensor.to_dense().map_err(|e| wrong(n, &format!("a malformed loss input `{name}`: {e}")))?;
    match dense.values() {
        TensorValues::Float32(values) => Ok(Some(Arc::clone(values))),
        _ => Err(integers(n, name)),
    }
}

/// Checks that datum `n` has the input `name`: one float per target token. The values are not looked at.
pub(super) fn check_required(datum: &Datum, n: usize, name: &str) -> Result<(), InvalidInput> {
    checked(datum, n, name)?.map(drop).ok_or_else(|| targets::missing(n, name))
}

/// Checks that datum `n` has targets, and that its `weights`, where there are any, are one float per target token.
pub(super) fn check_weights(datum: &Datum, n: usize) -> Result<(), InvalidInput> {
    targets::count(datum, n)?;
    checked(datum, n, targets::WEIGHTS).map(drop)
}

/// The input `name`, of a type and a length that can be used.
fn checked<'a>(datum: &'a Datum, n: usize, name: &str) -> Result<Option<&'a TensorData>, InvalidInput> {
    let Some(tensor) = datum.loss_fn_inputs.get(name) else { return Ok(None) };
    if !matches!(tensor.values(), TensorValues::Float32(_)) {
        return Err(integers(n, name));
    }
    let count = targets::count(datum, n)?;
    match targets::length(tensor) {
        Some(length) if length == count => Ok(Some(tensor)),
        Some(length) => {
            Err(wrong(n, &format!("{length} values as loss input `{name}` for {count} target tokens")))
        }
        None => Err(wrong(n, &format!("too many values as loss input `{name}` for {count} target tokens"))),
    }
}

fn integers(n: usize, name: &str) -> InvalidInput {
    wrong(n, &format!("integers as loss input `{name}`, where floats are needed"))
}

fn wrong(n: usize, problem: &str) -> InvalidInput {
    InvalidInput::new("data", format!("hold in datum {n} {problem}"))
}

/// Checks that there is one log-probability per target token.
pub(super) fn check_logprobs(data: &[Datum], logprobs: &[Logprobs<'_>]) -> Result<(), InvalidInput> {
    let wrong = |problem: String| Err(InvalidInput::new("logprobs", problem));
    if data.len() != logprobs.len() {
        return wrong(format!("are given for {} of {} datums", logprobs.len(), data.len()));
    }
    for (n, (datum, logprobs)) in data.iter().zip(logprobs).enumerate() {
        let count = targets::count(datum, n)?;
        if logprobs.len() != count {
            return wrong(format!("are {} for the {count} target tokens of datum {n}", logprobs.len()));
        }
    }
    Ok(())
}
