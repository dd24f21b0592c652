//! The data of the two passes of a custom loss, and the result of both (PROTOCOL 13.1). Pure.

use tinkex_types::{Datum, DecodeError, ForwardBackwardOutput, InvalidInput, MetricValue, TensorData};

use super::logprobs::Logprobs;
use super::output::CustomLossOutput;
use super::targets::{self, TARGET_TOKENS, WEIGHTS};

/// The metric that holds the loss.
const LOSS: &str = "loss:sum";
/// The metric that keeps the loss as the server saw it.
const SURROGATE_LOSS: &str = "surrogate_loss:sum";

/// What the forward pass sends: targets and weights (0 where there are none), and nothing that only the loss needs.
pub(super) fn forward_data(data: &[Datum]) -> Result<Vec<Datum>, InvalidInput> {
    let stripped = data.iter().enumerate().map(|(n, datum)| {
        let targets = targets::of(datum, n)?;
        let weights = match datum.loss_fn_inputs.get(WEIGHTS) {
            Some(weights) => weights.clone(),
            None => {
                let zeros = vec![0.0; targets::count(datum, n)?];
                floats(zeros, targets.shape())?
            }
        };
        Ok(with_weights(datum, targets.clone(), weights))
    });
    stripped.collect()
}

/// Of that shape, or flat; sparse where that is smaller.
fn floats(values: Vec<f32>, shape: Option<&[u64]>) -> Result<TensorData, InvalidInput> {
    match shape {
        Some(shape) => TensorData::float32(values, shape).map(|tensor| tensor.sparsified()),
        None => Ok(values.into()),
    }
}

fn with_weights(datum: &Datum, targets: TensorData, weights: TensorData) -> Datum {
    Datum::new(datum.model_input.clone())
        .tensor(TARGET_TOKENS, targets)
        .tensor(WEIGHTS, weights)
        .model_input_spans(datum.model_input_spans.iter().cloned())
        .loss_fn_input_spans(datum.loss_fn_input_spans.iter().cloned())
}

/// The log-probabilities that the forward pass gave, one per target token of each datum.
pub(super) fn logprobs<'a>(
    forward: &'a ForwardBackwardOutput,
    data: &[Datum],
) -> Result<Vec<Logprobs<'a>>, DecodeError> {
    let wrong = |problem: String| DecodeError::new("result of the forward pass", problem);
    if forward.loss_fn_outputs.len() != data.len() {
        let problem = format!("{} outputs for {} datums", forward.loss_fn_outputs.len(), data.len());
        return Err(wrong(problem));
    }
    let each = data.iter().zip(&forward.loss_fn_outputs).enumerate().map(|(n, (datum, output))| {
        let tensor = output.get("logprobs").ok_or_else(|| wrong(format!("no logprobs for datum {n}")))?;
        let values =
            tensor.as_float32().ok_or_else(|| wrong(format!("integers as logprobs of datum {n}")))?;
        let targets = targets::count(datum, n).map_err(|e| wrong(e.to_string()))?;
        if values.len() != targets {
            let problem = format!("{} logprobs for the {targets} target tokens of datum {n}", values.len());
            return Err(wrong(problem));
        }
        match tensor.shape() {
            Some(shape) => Logprobs::new(values, shape).map_err(|e| wrong(format!("datum {n}: {e}"))),
            None => Ok(values.into()),
        }
    });
    each.collect()
}

/// What the backward pass sends: the server's loss is `Σ −log p·weight`, so with `−gradient` for weights its gradient
/// is the one that was computed here. No gradient is a weight of 0, not of -0.
pub(super) fn backward_data(
    data: &[Datum],
    logprobs: &[Logprobs<'_>],
    gradients: &[Vec<f32>],
) -> Result<Vec<Datum>, InvalidInput> {
    let each =
        data.iter().zip(logprobs).zip(gradients).enumerate().map(|(n, ((datum, logprobs), gradient))| {
            let weights = floats(gradient.iter().map(|g| 0.0 - g).collect(), Some(logprobs.shape()))?;
            Ok(with_weights(datum, targets::of(datum, n)?.clone(), weights))
        });
    each.collect()
}

/// The output of the backward pass, with the loss that was asked for in the place of the server's.
pub(super) fn result(
    mut backward: ForwardBackwardOutput,
    custom: CustomLossOutput,
) -> Result<ForwardBackwardOutput, DecodeError> {
    let surrogate = backward.metrics.get(LOSS).copied();
    let surrogate = surrogate
        .ok_or_else(|| DecodeError::new("result of the backward pass", format!("no metric {LOSS}")))?;
    for (name, value) in custom.metrics {
        backward.metrics.insert(name, MetricValue::Number(value));
    }
    backward.metrics.insert(LOSS, MetricValue::Number(custom.loss));
    backward.metrics.insert(SURROGATE_LOSS, surrogate);
    Ok(backward)
}
