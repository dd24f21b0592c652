//! What a custom loss returns.

use std::collections::BTreeMap;

use tinkex_types::InvalidInput;

use super::logprobs::Logprobs;

/// The value of a custom loss over all data of the call, its gradient, and metrics (PROTOCOL 13.1).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CustomLossOutput {
    /// The loss, summed or averaged over the data as the loss sees fit. It becomes the metric `loss:sum`.
    pub loss: f64,
    /// ∂loss/∂logprobs: per datum, in row-major order, one value per log-probability.
    pub gradients: Vec<Vec<f32>>,
    /// Metrics by name. They are added to those of the server, and replace those of the same name.
    pub metrics: BTreeMap<String, f64>,
}

impl CustomLossOutput {
    /// A loss with its gradient, without metrics.
    pub fn new(loss: f64, gradients: Vec<Vec<f32>>) -> Self {
        Self { loss, gradients, metrics: BTreeMap::new() }
    }

    /// Adds a metric.
    #[must_use]
    pub fn metric(mut self, name: impl Into<String>, value: f64) -> Self {
        self.metrics.insert(name.into(), value);
        self
    }

    /// Checks that the loss is a number that can be trained on: finite, with a finite gradient for every
    /// log-probability it was computed from.
    ///
    /// # Errors
    /// Names what is wrong, and in which datum.
    pub fn check(&self, logprobs: &[Logprobs<'_>]) -> Result<(), InvalidInput> {
        if !self.loss.is_finite() {
            return Err(InvalidInput::new("loss", format!("is {}, and must be finite", self.loss)));
        }
        let wrong = |problem: String| Err(InvalidInput::new("gradients", problem));
        if self.gradients.len() != logprobs.len() {
            return wrong(format!("are {} for {} datums", self.gradients.len(), logprobs.len()));
        }
        for (n, (gradient, logprobs)) in self.gradients.iter().zip(logprobs).enumerate() {
            if gradient.len() != logprobs.len() {
                return wrong(format!(
                    "hold {} values for datum {n}, which has {} log-probabilities",
                    gradient.len(),
                    logprobs.len()
                ));
            }
            if let Some(position) = gradient.iter().position(|g| !g.is_finite()) {
                return wrong(format!(
                    "hold {} at position {position} of datum {n}, and must be finite",
                    gradient[position]
                ));
            }
        }
        Ok(())
    }
}
