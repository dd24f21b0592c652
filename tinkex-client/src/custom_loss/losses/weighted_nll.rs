//! The weighted negative log-likelihood.

use tinkex_types::{Datum, InvalidInput};

use super::{input, weighted_sum};
use crate::custom_loss::{BoxError, CustomLossFn, CustomLossOutput, Logprobs};

/// `−Σ wₜ·log pₜ` over all positions of all data: what the server computes as `cross_entropy`, computed here. A
/// starting point for losses of one's own, and a way to check a set-up.
///
/// `w` is the loss input `weights`; 1 everywhere in a datum that has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WeightedNll;

impl CustomLossFn for WeightedNll {
    fn check(&self, data: &[Datum]) -> Result<(), InvalidInput> {
        data.iter().enumerate().try_for_each(|(n, datum)| input::check_weights(datum, n))
    }

    fn evaluate(self, data: &[Datum], logprobs: &[Logprobs<'_>]) -> Result<CustomLossOutput, BoxError> {
        input::check_logprobs(data, logprobs)?;
        let mut output = CustomLossOutput::default();
        for (n, (datum, logprobs)) in data.iter().zip(logprobs).enumerate() {
            let weights = input::weights(datum, n)?;
            output.loss -= weighted_sum(&weights, logprobs);
            output.gradients.push(weights.iter().map(|w| -w).collect());
        }
        Ok(output)
    }
}
