//! Direct preference optimisation.

use tinkex_types::{Datum, InvalidInput};

use super::{input, weighted_sum};
use crate::custom_loss::{BoxError, CustomLossFn, CustomLossOutput, Logprobs};

/// The loss of direct preference optimisation (Rafailov et al. 2023), as the mean over pairs of
///
/// ```text
/// −log σ( β·( (πc − refc) − (πr − refr) ) )
/// ```
///
/// where π is `Σ wₜ·log pₜ` of a datum under the weights that are trained, and ref the same under the reference model.
/// Data come as pairs: number 2i is the chosen answer, number 2i + 1 the rejected one. `w` is the loss input `weights`:
/// 1 on the tokens of the answer and 0 on those of the prompt; 1 everywhere in a datum that has none.
///
/// The metrics, all means over pairs: `dpo_loss`; `accuracy`, the share of pairs whose chosen answer has the higher
/// reward; `chosen_reward` and `rejected_reward`, `β·(π − ref)`; `margin`, their difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Dpo {
    beta: f64,
    reference: DpoReference,
}

/// Where [`Dpo`] finds the log-probabilities under the reference model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum DpoReference {
    /// In this loss input of every datum: one per target token, summed with the weights of the datum.
    Input(String),
    /// Here: one sum per datum, of the tokens that count.
    Sums(Vec<f64>),
}

impl Dpo {
    /// The loss with temperature `beta`, greater than 0; 0.1 is usual. The reference log-probabilities are the loss
    /// input `ref_logprobs` of each datum.
    pub fn new(beta: f64) -> Self {
        Self { beta, reference: DpoReference::Input("ref_logprobs".to_owned()) }
    }

    /// Takes the reference log-probabilities from elsewhere.
    #[must_use]
    pub fn reference(mut self, reference: DpoReference) -> Self {
        self.reference = reference;
        self
    }

    fn reference_sum(&self, datum: &Datum, n: usize, weights: &[f32]) -> Result<f64, InvalidInput> {
        match &self.reference {
            DpoReference::Input(name) => Ok(weighted_sum(weights, &input::required(datum, n, name)?)),
            DpoReference::Sums(sums) => sums.get(n).copied().ok_or_else(|| {
                InvalidInput::new("reference", format!("holds {} sums, and none for datum {n}", sums.len()))
            }),
        }
    }
}

impl CustomLossFn for Dpo {
    fn check(&self, data: &[Datum]) -> Result<(), InvalidInput> {
        if !(self.beta.is_finite() && self.beta > 0.0) {
            let problem = format!("must be a finite number greater than 0, not {}", self.beta);
            return Err(InvalidInput::new("beta", problem));
        }
        if !data.len().is_multiple_of(2) {
            let problem =
                format!("must be pairs of a chosen and a rejected answer, not {} datums", data.len());
            return Err(InvalidInput::new("data", problem));
        }
        match &self.reference {
            DpoReference::Sums(sums) if sums.len() != data.len() => {
                let problem = format!("holds {} sums for {} datums", sums.len(), data.len());
                return Err(InvalidInput::new("reference", problem));
            }
            _ => {}
        }
        data.iter().enumerate().try_for_each(|(n, datum)| {
            input::check_weights(datum, n)?;
            match &self.reference {
                DpoReference::Input(name) => input::check_required(datum, n, name),
                DpoReference::Sums(_) => Ok(()),
            }
        })
    }

    fn evaluate(self, data: &[Datum], logprobs: &[Logprobs<'_>]) -> Result<CustomLossOutput, BoxError> {
        input::check_logprobs(data, logprobs)?;
        // Sums are divided once, so that what is true of all pairs is exactly 1.
        let pairs = (data.len() / 2).max(1) as f64;
        let mut weights = Vec::with_capacity(data.len());
        let mut rewards = Vec::with_capacity(data.len());
        for (n, (datum, logprobs)) in data.iter().zip(logprobs).enumerate() {
            let of_datum = input::weights(datum, n)?;
            let reference = self.reference_sum(datum, n, &of_datum)?;
            rewards.push(self.beta * (weighted_sum(&of_datum, logprobs) - reference));
            weights.push(of_datum);
        }
        let mut output = CustomLossOutput::default();
        let (mut accuracy, mut chosen_reward, mut rejected_reward) = (0.0, 0.0, 0.0);
        for (pair, weights) in rewards.chunks_exact(2).zip(weights.chunks_exact(2)) {
            let margin = pair[0] - pair[1];
            output.loss += softplus(-margin);
            chosen_reward += pair[0];
            rejected_reward += pair[1];
            if margin > 0.0 {
                accuracy += 1.0;
            }
            let slope = self.beta * sigmoid(-margin) / pairs;
            for (weights, sign) in weights.iter().zip([-1.0, 1.0]) {
                let gradient = weights.iter().map(|w| (sign * slope * f64::from(*w)) as f32);
                output.gradients.push(gradient.collect());
            }
        }
        output.loss /= pairs;
        let loss = output.loss;
        Ok(output
            .metric("dpo_loss", loss)
            .metric("accuracy", accuracy / pairs)
            .metric("chosen_reward", chosen_reward / pairs)
            .metric("rejected_reward", rejected_reward / pairs)
            .metric("margin", (chosen_reward - rejected_reward) / pairs))
    }
}

/// `ln(1 + eˣ)`, without overflow for large x and without loss of all digits for small ones.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `1 / (1 + e⁻ˣ)`, the slope of [`softplus`].
fn sigmoid(x: f64) -> f64 {
    let small = (-x.abs()).exp();
    if x < 0.0 { small / (1.0 + small) } else { 1.0 / (1.0 + small) }
}
