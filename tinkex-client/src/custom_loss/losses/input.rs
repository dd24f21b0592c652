//! Reading the loss inputs of data.

use std::sync::Arc;

use tinkex_types::{Datum, InvalidInput, TensorValues};

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
    let Some(tensor) = datum.loss_fn_inputs.get(name) else { return Ok(None) };
    let wrong = |problem: String| InvalidInput::new("data", format!("hold in datum {n} {problem}"));
    let dense = tensor.to_dense().map_err(|e| wrong(format!("a malformed loss input `{name}`: {e}")))?;
    let TensorValues::Float32(values) = dense.values() else {
        return Err(wrong(format!("integers as loss input `{name}`, where floats are needed")));
    };
    let count = targets::count(datum, n)?;
    if values.len() != count {
        let problem = format!("{} values as loss input `{name}` for {count} target tokens", values.len());
        return Err(wrong(problem));
    }
    Ok(Some(Arc::clone(values)))
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
