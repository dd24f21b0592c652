//! A custom loss on data: the inputs every datum must have, and the local evaluation over all of them
//! (PROTOCOL 13.1, 13.3).

use std::collections::BTreeMap;
use std::fmt;

use super::array::{DenseArray, Shape};
use super::error::LossGraphError;
use super::evaluate::LossEvaluation;
use super::loss::CustomLoss;
use super::rank::Rank;
use super::request::CustomLossInput;
use super::rules::{LOGPROBS, is_mean};
use crate::datum::TARGET_TOKENS;
use crate::{Datum, InvalidInput, TensorData, TensorValues};

/// What a custom loss says about all data (PROTOCOL 13.1).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CustomLossOutcome {
    /// The sum of the losses of the datums.
    pub loss: f64,
    /// Per datum, the derivative of the loss with respect to each element of its log-probabilities, row-major.
    pub gradients: Vec<Vec<f32>>,
    /// The metrics: `:sum` ones summed over datums, `:mean` ones averaged.
    pub metrics: BTreeMap<String, f64>,
}

impl CustomLoss {
    /// Checks that every datum has every input at its declared rank, as is due before the loss is used on them
    /// (PROTOCOL 13.3). `logprobs` stands for `target_tokens`; a tensor without a shape counts as rank 1.
    ///
    /// # Errors
    /// Where an input is missing or of another rank; says of which datum.
    pub fn check_data(&self, data: &[Datum]) -> Result<(), InvalidInput> {
        let refuse = |problem: String| Err(InvalidInput::new("data", problem));
        for (index, datum) in data.iter().enumerate() {
            for input in self.inputs() {
                let key = key_of(input);
                let Some(tensor) = datum.loss_fn_inputs.get(key) else {
                    return refuse(format!("must have `{key}`: datum {index} has not"));
                };
                let dimensions = tensor.shape().map_or(1, <[u64]>::len);
                if dimensions != input.rank.dimensions() {
                    let declared = input.rank;
                    return refuse(format!(
                        "must have `{key}` of rank {declared}: in datum {index} it has rank {dimensions}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Evaluates the loss on each datum with the log-probabilities of its target tokens, row-major in the shape of
    /// `target_tokens`, and adds up (PROTOCOL 13.1, 13.3). The other inputs come from `loss_fn_inputs`, sparse ones
    /// made dense.
    ///
    /// An input that is declared a scalar may also be one number without a shape: that is how a scalar arrives by
    /// protobuf.
    ///
    /// # Errors
    /// Where there is not one slice of log-probabilities per datum, of one number per target token, an input is missing
    /// or of another rank, or the graph cannot be evaluated ([`LossGraph::evaluate`](super::LossGraph::evaluate)).
    /// Says at which datum.
    pub fn evaluate_data(
        &self,
        data: &[Datum],
        logprobs: &[&[f32]],
    ) -> Result<CustomLossOutcome, LossGraphError> {
        if data.len() != logprobs.len() {
            let detail = format!("{} datums have {} sets of log-probabilities", data.len(), logprobs.len());
            return Err(LossGraphError::input(detail));
        }
        let mut outcome = CustomLossOutcome::default();
        for (index, (datum, logprobs)) in data.iter().zip(logprobs).enumerate() {
            let evaluation = self.evaluate_datum(datum, logprobs).map_err(|e| e.of_datum(index))?;
            outcome.loss += evaluation.loss;
            outcome.gradients.push(evaluation.logprobs_gradient);
            for (key, value) in evaluation.metrics {
                *outcome.metrics.entry(key).or_default() += value;
            }
        }
        let count = data.len() as f64;
        for (_, value) in outcome.metrics.iter_mut().filter(|(key, _)| is_mean(key)) {
            *value /= count;
        }
        Ok(outcome)
    }

    fn evaluate_datum(&self, datum: &Datum, logprobs: &[f32]) -> Result<LossEvaluation, LossGraphError> {
        let mut inputs = BTreeMap::new();
        for input in self.inputs() {
            let key = key_of(input);
            let tensor = datum
                .loss_fn_inputs
                .get(key)
                .ok_or_else(|| LossGraphError::input(format!("there is no `{key}` in the datum")))?;
            let shape = shape_of(tensor, input.rank).map_err(|problem| about(key, &problem))?;
            let values = if input.name == LOGPROBS {
                logprobs.iter().copied().map(f64::from).collect()
            } else {
                dense_values(tensor).map_err(|problem| about(key, &problem))?
            };
            if values.len() != shape.elements() {
                return Err(about(
                    &input.name,
                    &format!("of shape {shape} cannot hold {} values", values.len()),
                ));
            }
            inputs.insert(input.name.clone(), DenseArray::of_shape(shape, values));
        }
        self.graph().evaluate(&inputs)
    }
}

/// Where a datum keeps what decides the shape of an input.
fn key_of(input: &CustomLossInput) -> &str {
    if input.name == LOGPROBS { TARGET_TOKENS } else { &input.name }
}

fn about(name: &str, problem: &impl fmt::Display) -> LossGraphError {
    LossGraphError::input(format!("`{name}` {problem}"))
}

/// The shape of a tensor that is declared to be of a rank.
fn shape_of(tensor: &TensorData, declared: Rank) -> Result<Shape, String> {
    let stored = tensor.values().len();
    let dimensions: Vec<u64> = match tensor.shape() {
        None if declared == Rank::Scalar && stored == 1 => Vec::new(),
        None => vec![stored as u64],
        Some(dimensions) => dimensions.to_vec(),
    };
    if dimensions.len() != declared.dimensions() {
        return Err(format!("has rank {}, not {declared}", dimensions.len()));
    }
    let lengths = dimensions.iter().map(|n| usize::try_from(*n).ok()).collect::<Option<Vec<_>>>();
    lengths
        .and_then(|lengths| Shape::of_dimensions(&lengths))
        .ok_or_else(|| format!("of shape {dimensions:?} has too many elements"))
}

fn dense_values(tensor: &TensorData) -> Result<Vec<f64>, crate::DecodeError> {
    Ok(match tensor.to_dense()?.values() {
        TensorValues::Float32(values) => values.iter().copied().map(f64::from).collect(),
        TensorValues::Int64(values) => values.iter().map(|v| *v as f64).collect(),
    })
}
