//! The policy gradient with a penalty on the distance from a reference model.

use tinkex_types::{Datum, InvalidInput};

use super::input;
use crate::custom_loss::{BoxError, CustomLossFn, CustomLossOutput, Logprobs};

/// An importance-weighted policy gradient that is held near a reference model, as the sum over all positions of all
/// data of
///
/// ```text
/// wₜ·( −rₜ·Aₜ + c·kₜ )    r = p / q,    k = ref/p − 1 − log(ref/p)
/// ```
///
/// where p is the probability of the target under the weights that are trained, q that under the policy that sampled
/// it, ref that under the reference model, A the advantage, and c the coefficient. k is the non-negative, low-variance
/// estimate of the Kullback-Leibler divergence of p from ref that is known as k3, and is used by GRPO; it supposes
/// that the tokens were sampled from p or nearly so, since it is not importance-weighted. The gradient is that of
/// this very sum; nothing is clipped.
///
/// Loss inputs of every datum, one float per target token: `logprobs`, log q; `advantages`, A; `ref_logprobs`, log
/// ref; and `weights`, w, 1 everywhere where it is absent. Give prompts the weight 0: an advantage of 0 would not free
/// them of the penalty.
///
/// The metrics are means over positions, by weight: `kl` (k) and `importance_ratio` (r); there are none where all
/// weights are 0.
#[derive(Clone, Debug, PartialEq)]
pub struct KlPolicyGradient {
    kl_coefficient: f64,
    reference: String,
}

impl KlPolicyGradient {
    /// The loss with coefficient c of the penalty, at least 0.
    pub fn new(kl_coefficient: f64) -> Self {
        Self { kl_coefficient, reference: "ref_logprobs".to_owned() }
    }

    /// Takes the reference log-probabilities from another loss input; from `logprobs`, say, to stay near the policy
    /// that sampled.
    #[must_use]
    pub fn reference_input(mut self, name: impl Into<String>) -> Self {
        self.reference = name.into();
        self
    }
}

impl CustomLossFn for KlPolicyGradient {
    fn check(&self, data: &[Datum]) -> Result<(), InvalidInput> {
        if !(self.kl_coefficient.is_finite() && self.kl_coefficient >= 0.0) {
            let problem = format!("must be a finite number of at least 0, not {}", self.kl_coefficient);
            return Err(InvalidInput::new("kl_coefficient", problem));
        }
        data.iter().enumerate().try_for_each(|(n, datum)| {
            input::check_weights(datum, n)?;
            [OLD_LOGPROBS, ADVANTAGES, &self.reference]
                .into_iter()
                .try_for_each(|name| input::check_required(datum, n, name))
        })
    }

    fn evaluate(self, data: &[Datum], logprobs: &[Logprobs<'_>]) -> Result<CustomLossOutput, BoxError> {
        input::check_logprobs(data, logprobs)?;
        let mut output = CustomLossOutput::default();
        let (mut weight_sum, mut kl_sum, mut ratio_sum) = (0.0, 0.0, 0.0);
        for (n, (datum, logprobs)) in data.iter().zip(logprobs).enumerate() {
            let weights = input::weights(datum, n)?;
            let old = input::required(datum, n, OLD_LOGPROBS)?;
            let advantages = input::required(datum, n, ADVANTAGES)?;
            let reference = input::required(datum, n, &self.reference)?;
            let mut gradient = vec![0.0; weights.len()];
            for (t, logprob) in logprobs.iter().enumerate().filter(|(t, _)| weights[*t] != 0.0) {
                let [weight, logprob, old, advantage, reference] =
                    [weights[t], *logprob, old[t], advantages[t], reference[t]].map(f64::from);
                let ratio = (logprob - old).exp();
                let away = reference - logprob;
                let excess = away.exp_m1();
                let kl = excess - away;
                output.loss += weight * (self.kl_coefficient * kl - ratio * advantage);
                // ∂k/∂log p = 1 − ref/p.
                gradient[t] = (weight * (-self.kl_coefficient * excess - ratio * advantage)) as f32;
                weight_sum += weight;
                kl_sum += weight * kl;
                ratio_sum += weight * ratio;
            }
            output.gradients.push(gradient);
        }
        if weight_sum != 0.0 {
            output =
                output.metric("kl", kl_sum / weight_sum).metric("importance_ratio", ratio_sum / weight_sum);
        }
        Ok(output)
    }
}

/// The loss input with the log-probabilities of the policy that sampled.
const OLD_LOGPROBS: &str = "logprobs";
/// The loss input with the advantages.
const ADVANTAGES: &str = "advantages";
