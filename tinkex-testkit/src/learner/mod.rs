//! Training of the embedded language model: exact gradients, deterministic to the last bit.
//!
//! A [`Learner`] is one training run: a frozen base model, a low-rank [`Adapter`] on top, the
//! gradient gathered since the last step, and the state of the optimizer. Losses are sums over all datums and tokens
//! (PROTOCOL 12.1), their gradients are computed, not estimated, and equal specs and calls give equal bits.
//!
//! ```
//! use tinkex_testkit::learner::{AdamStep, Learner, LearnerDatum, LearnerLoss, LearnerSpec};
//!
//! let mut learner = Learner::new(&LearnerSpec { base_model: "Qwen/Qwen3-8B".into(), rank: 32, seed: 1 });
//! let text: Vec<i32> = b"A short text.".iter().map(|&byte| i32::from(byte)).collect();
//! let targets = text[1..].iter().map(|&token| i64::from(token)).collect();
//! let data = [LearnerDatum::new(text[..text.len() - 1].to_vec(), targets)];
//! let loss = LearnerLoss::named("cross_entropy");
//!
//! let before = learner.forward(&data, &loss)?.metrics["loss:sum"];
//! for _ in 0..20 {
//!     learner.forward_backward(&data, &loss)?;
//!     learner.optim_step(&AdamStep { learning_rate: 0.02, ..AdamStep::default() }.into());
//! }
//! assert!(learner.forward(&data, &loss)?.metrics["loss:sum"] < 0.1 * before);
//! # Ok::<(), tinkex_testkit::learner::LossError>(())
//! ```

mod adam;
mod backward;
mod checkpoint;
mod datum;
mod dimuon;
mod error;
mod loss;
mod optimizer;
mod pass;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use adam::AdamStep;
pub use checkpoint::{CheckpointMismatch, LearnerCheckpoint};
pub use datum::LearnerDatum;
pub use dimuon::DimuonStep;
pub use error::LossError;
pub use loss::LearnerLoss;
pub use optimizer::OptimizerStep;

use crate::model::{Adapter, LanguageModel, LowRank};
use checkpoint::Contents;
use loss::Objective;
use optimizer::OptimizerState;
use pass::Pass;

/// Datums are worked on in blocks of at least so many positions, so that memory does not grow with the batch.
const BLOCK: usize = 2048;

/// What makes a training run what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnerSpec {
    /// The name of the frozen base model.
    pub base_model: String,
    /// The rank of the adapter; 0 counts as 1.
    pub rank: u32,
    /// Seeds the initial weights. Runs of different seeds learn alike, but not to the same bits.
    pub seed: u64,
}

/// What a pass over data found out.
#[derive(Clone, Debug, PartialEq)]
pub struct LearnerOutput {
    /// Per datum, the natural logarithm of the probability of each target, in the shape of the targets.
    pub logprobs: Vec<Vec<f32>>,
    /// Metrics by name and reduction (PROTOCOL 12.6): `loss:sum`; `tokens:sum`, how many targets there were;
    /// `logprob:mean`, the mean over datums of the mean logprob of a target; `logprob:min`.
    pub metrics: BTreeMap<String, f64>,
}

/// One training run.
#[derive(Clone, Debug)]
pub struct Learner {
    spec: LearnerSpec,
    base: LanguageModel,
    adapter: Arc<Adapter>,
    /// None as long as nothing was added since the last step.
    gradient: Option<LowRank>,
    optimizer: Arc<OptimizerState>,
}

impl Learner {
    /// A fresh run. Its model equals its base model until the first step.
    pub fn new(spec: &LearnerSpec) -> Self {
        let rank = spec.rank.max(1) as usize;
        Self {
            spec: spec.clone(),
            base: LanguageModel::named(&spec.base_model),
            adapter: Arc::new(Adapter::fresh(&spec.base_model, rank, spec.seed)),
            gradient: None,
            optimizer: Arc::default(),
        }
    }

    /// What the run was made with; after [`Learner::from_checkpoint`] what the run of the checkpoint was made with.
    pub fn spec(&self) -> &LearnerSpec {
        &self.spec
    }

    /// The model as it is now. Later steps do not change it; making it costs no copy of the weights.
    pub fn model(&self) -> LanguageModel {
        self.base.with_adapter(self.adapter.clone())
    }

    /// The gradient of the losses gathered since the last step; none if there were none.
    pub fn gradient(&self) -> Option<&LowRank> {
        self.gradient.as_ref()
    }

    /// Computes a loss and its metrics, and changes nothing.
    ///
    /// # Errors
    /// Where the data or the numbers of the loss are not what the loss needs; the caller's fault.
    pub fn forward(&self, data: &[LearnerDatum], loss: &LearnerLoss) -> Result<LearnerOutput, LossError> {
        self.pass(data, &Objective::of(loss)?, None)
    }

    /// Computes a loss and its metrics, and adds its gradient to what the next step will use.
    ///
    /// # Errors
    /// As [`Learner::forward`]; then nothing is added.
    pub fn forward_backward(
        &mut self,
        data: &[LearnerDatum],
        loss: &LearnerLoss,
    ) -> Result<LearnerOutput, LossError> {
        let objective = Objective::of(loss)?;
        let mut gradient = self.gathered();
        let output = self.pass(data, &objective, Some(&mut gradient))?;
        self.gradient = Some(gradient);
        Ok(output)
    }

    /// The logprobs of a datum's targets, in their shape.
    ///
    /// # Errors
    /// Where the targets do not fit the tokens.
    pub fn logprobs(&self, datum: &LearnerDatum) -> Result<Vec<f32>, LossError> {
        datum.check(0)?;
        let pass = Pass::new(&self.base, &self.adapter, std::slice::from_ref(datum));
        Ok(pass.logprobs().pop().unwrap_or_default())
    }

    /// Adds the gradient of any loss, given its gradient with respect to the logprobs of the targets: one number
    /// per target.
    ///
    /// # Errors
    /// Where `gradients` does not fit the targets or holds a number that is not finite; then nothing is added.
    pub fn backward_from(&mut self, data: &[LearnerDatum], gradients: &[Vec<f32>]) -> Result<(), LossError> {
        if data.len() != gradients.len() {
            return Err(LossError::new(format!("{} gradients for {} datums", gradients.len(), data.len())));
        }
        for (index, (datum, gradient)) in data.iter().zip(gradients).enumerate() {
            datum.check(index)?;
            datum.check_cells(index, "the gradient", gradient)?;
        }
        let mut gathered = self.gathered();
        let mut left = gradients;
        for block in blocks(data) {
            let (now, later) = left.split_at(block.len());
            let wide: Vec<Vec<f64>> =
                now.iter().map(|g| g.iter().map(|value| f64::from(*value)).collect()).collect();
            Pass::new(&self.base, &self.adapter, block).backward(&wide, &mut gathered);
            left = later;
        }
        self.gradient = Some(gathered);
        Ok(())
    }

    /// Changes the weights by the gathered gradient, which is zero where nothing was gathered, and clears it.
    /// Returns metrics: `grad_norm:mean`, the global norm before clipping, and `grad_clip:mean`, the factor it was clipped by.
    ///
    /// A gradient so large that its norm overflows changes nothing; `grad_norm:mean` then is the largest number there is.
    pub fn optim_step(&mut self, step: &OptimizerStep) -> BTreeMap<String, f64> {
        let gradient = self.gradient.take().unwrap_or_else(|| LowRank::zeros(self.rank()));
        let weights = &mut Arc::make_mut(&mut self.adapter).weights;
        Arc::make_mut(&mut self.optimizer).step(step, weights, gradient)
    }

    /// Weights and optimizer state as they are now. The gathered gradient is no part of it.
    pub fn checkpoint(&self) -> LearnerCheckpoint {
        LearnerCheckpoint(Arc::new(Contents {
            spec: self.spec.clone(),
            base: self.base.clone(),
            adapter: self.adapter.clone(),
            optimizer: self.optimizer.clone(),
        }))
    }

    /// Takes the weights of a checkpoint, and with `with_optimizer` its optimizer state; without, the optimizer
    /// starts anew. The gathered gradient is dropped.
    ///
    /// # Errors
    /// Where base model or rank differ; then nothing is changed.
    pub fn restore(
        &mut self,
        checkpoint: &LearnerCheckpoint,
        with_optimizer: bool,
    ) -> Result<(), CheckpointMismatch> {
        checkpoint.must_fit(&self.spec)?;
        self.adapter = checkpoint.0.adapter.clone();
        self.optimizer = if with_optimizer { checkpoint.0.optimizer.clone() } else { Arc::default() };
        self.gradient = None;
        Ok(())
    }

    /// A new run that goes on where a checkpoint was made, with its optimizer state or without.
    pub fn from_checkpoint(checkpoint: &LearnerCheckpoint, with_optimizer: bool) -> Self {
        Self {
            spec: checkpoint.0.spec.clone(),
            base: checkpoint.0.base.clone(),
            adapter: checkpoint.0.adapter.clone(),
            gradient: None,
            optimizer: if with_optimizer { checkpoint.0.optimizer.clone() } else { Arc::default() },
        }
    }

    fn rank(&self) -> usize {
        self.adapter.weights().rank()
    }

    /// A copy of what was gathered: it takes the place of the original once all data proved to be good.
    fn gathered(&self) -> LowRank {
        self.gradient.clone().unwrap_or_else(|| LowRank::zeros(self.rank()))
    }

    fn pass(
        &self,
        data: &[LearnerDatum],
        objective: &Objective,
        mut gradient: Option<&mut LowRank>,
    ) -> Result<LearnerOutput, LossError> {
        if data.is_empty() {
            return Err(LossError::new("no data"));
        }
        for (index, datum) in data.iter().enumerate() {
            datum.check(index)?;
            objective.check(index, datum)?;
        }
        let mut loss = 0.0;
        let mut logprobs = Vec::with_capacity(data.len());
        for block in blocks(data) {
            let pass = Pass::new(&self.base, &self.adapter, block);
            let mut slopes = Vec::with_capacity(block.len());
            for (datum, found) in block.iter().zip(pass.logprobs()) {
                let outcome = objective.evaluate(logprobs.len(), datum, &found)?;
                loss += outcome.loss;
                slopes.push(outcome.slopes);
                logprobs.push(found);
            }
            if let Some(gradient) = &mut gradient {
                pass.backward(&slopes, gradient);
            }
        }
        Ok(LearnerOutput { metrics: metrics(loss, &logprobs), logprobs })
    }
}

fn metrics(loss: f64, logprobs: &[Vec<f32>]) -> BTreeMap<String, f64> {
    let tokens: usize = logprobs.iter().map(Vec::len).sum();
    let mean = |values: &Vec<f32>| values.iter().copied().map(f64::from).sum::<f64>() / values.len() as f64;
    let means: f64 = logprobs.iter().map(mean).sum();
    let least = logprobs.iter().flatten().copied().fold(0.0, f32::min);
    BTreeMap::from([
        ("loss:sum".to_owned(), loss),
        ("tokens:sum".to_owned(), tokens as f64),
        ("logprob:mean".to_owned(), means / logprobs.len() as f64),
        ("logprob:min".to_owned(), f64::from(least)),
    ])
}

/// Splits data into runs of at least [`BLOCK`] positions, but for the last.
fn blocks(data: &[LearnerDatum]) -> impl Iterator<Item = &[LearnerDatum]> {
    let mut left = data;
    std::iter::from_fn(move || {
        let mut positions = 0;
        let full = left.iter().position(|datum| {
            positions += datum.tokens.len();
            positions >= BLOCK
        });
        let (block, rest) = left.split_at(full.map_or(left.len(), |last| last + 1));
        left = rest;
        (!block.is_empty()).then_some(block)
    })
}
