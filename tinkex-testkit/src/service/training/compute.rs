//! The computation of one operation, with nothing locked.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use tinkex_types::Datum;
use tinkex_types::custom_loss::CustomLoss;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::product::Product;
use super::checkpoints::Checkpoint;
use super::decode::{Batch, BatchLoss};
use super::operation::{Creation, Load, Operation, Publish, Save};
use super::output::{DatumOutput, LossOutput};
use crate::learner::{Learner, LearnerCheckpoint, LearnerDatum};

/// An operation and all it needs.
pub(crate) struct Job {
    pub(crate) ticket: Ticket,
    pub(crate) learner: Option<Learner>,
    pub(crate) operation: Operation,
    pub(crate) material: Material,
}

/// Whose operation it is.
pub(crate) struct Ticket {
    /// Its promise.
    pub(crate) number: u64,
    pub(crate) model_id: String,
    /// By which the run is known again, were it forgotten meanwhile and made anew.
    pub(crate) news: Arc<Notify>,
    /// When it was due: what its checkpoints are dated by.
    pub(crate) at: Instant,
}

/// What an operation needs beside its learner.
pub(crate) enum Material {
    None,
    /// What is to be loaded.
    Checkpoint(Box<Checkpoint>),
    /// The uploaded loss that is to be computed.
    Loss(Arc<CustomLoss>),
}

/// What came of a job.
pub(crate) struct Done {
    pub(crate) ticket: Ticket,
    pub(crate) learner: Option<Learner>,
    /// The reason of a failure is the user's fault.
    pub(crate) effect: Result<Effect, String>,
}

pub(crate) enum Effect {
    Created(Option<(Load, Checkpoint)>),
    Computed(Product),
    Stepped(Product),
    Saved(Save, LearnerCheckpoint),
    Published(Publish, LearnerCheckpoint),
    Loaded(Load),
    Unloaded,
}

impl Job {
    pub(crate) fn run(self) -> Done {
        let Self { ticket, mut learner, operation, material } = self;
        let effect = match operation {
            Operation::Create(creation) => create(creation, material).map(|(made, source)| {
                learner = Some(made);
                Effect::Created(source)
            }),
            Operation::Broken(problem) => Err(problem),
            Operation::Unload => Ok(Effect::Unloaded),
            operation => match &mut learner {
                Some(learner) => work(learner, operation, material),
                None => Err(format!("the model {} is not there any more", ticket.model_id)),
            },
        };
        Done { ticket, learner, effect }
    }
}

/// The learner of a new run, and what it was loaded from.
fn create(creation: Creation, material: Material) -> Result<(Learner, Option<(Load, Checkpoint)>), String> {
    match (creation, material) {
        (Creation::Untrained(spec), _) => Ok((Learner::new(&spec), None)),
        (Creation::Loaded { load, base_model }, Material::Checkpoint(checkpoint)) => {
            if let Some(wanted) = base_model.filter(|wanted| *wanted != checkpoint.base_model) {
                return Err(format!("{} is of {:?}, not of {wanted:?}", load.path, checkpoint.base_model));
            }
            let weights = training_state(&load, &checkpoint)?;
            Ok((Learner::from_checkpoint(&weights, load.optimizer), Some((load, *checkpoint))))
        }
        (Creation::Loaded { load, .. }, _) => Err(format!("there is no checkpoint at {}", load.path)),
    }
}

fn work(learner: &mut Learner, operation: Operation, material: Material) -> Result<Effect, String> {
    match (operation, material) {
        (Operation::ForwardBackward(batch), material) => pass(learner, batch, material).map(Effect::Computed),
        (Operation::OptimStep(step), _) => {
            let metrics = learner.optim_step(&step);
            Ok(Effect::Stepped(Product::plain(json!({ "type": "optim_step", "metrics": metrics }))))
        }
        (Operation::Save(save), _) => Ok(Effect::Saved(save, learner.checkpoint())),
        (Operation::Publish(publish), _) => Ok(Effect::Published(publish, learner.checkpoint())),
        (Operation::Load(load), Material::Checkpoint(checkpoint)) => {
            let weights = training_state(&load, &checkpoint)?;
            learner.restore(&weights, load.optimizer).map_err(|error| error.to_string())?;
            Ok(Effect::Loaded(load))
        }
        (operation, _) => Err(format!("{operation:?} is not possible here")),
    }
}

fn training_state(load: &Load, checkpoint: &Checkpoint) -> Result<LearnerCheckpoint, String> {
    let kind = checkpoint.kind.as_str();
    checkpoint.training_state().ok_or_else(|| {
        format!("{} is a {kind} checkpoint; training goes on from what save_weights made", load.path)
    })
}

fn pass(learner: &mut Learner, batch: Batch, material: Material) -> Result<Product, String> {
    let Batch { data, columns, loss, forward_only } = batch;
    let (logprobs, metrics) = match (&loss, material) {
        (BatchLoss::Builtin(loss), _) => {
            let output = match forward_only {
                true => learner.forward(&data, loss),
                false => learner.forward_backward(&data, loss),
            };
            let output = output.map_err(|error| error.to_string())?;
            (output.logprobs, output.metrics)
        }
        (BatchLoss::Custom { data: inputs, .. }, Material::Loss(loss)) => {
            custom_pass(learner, &data, inputs, &loss, forward_only)?
        }
        (BatchLoss::Custom { loss_id, .. }, _) => return Err(format!("unknown loss_id {loss_id:?}")),
    };
    let outputs = logprobs.into_iter().zip(columns);
    let data = outputs.map(|(logprobs, columns)| DatumOutput { logprobs, columns }).collect();
    Ok(Product::Loss(Arc::new(LossOutput::new(data, metrics))))
}

type Passed = (Vec<Vec<f32>>, BTreeMap<String, f64>);

/// An uploaded loss of the logprobs, and its gradient through them.
fn custom_pass(
    learner: &mut Learner,
    data: &[LearnerDatum],
    inputs: &[Datum],
    loss: &CustomLoss,
    forward_only: bool,
) -> Result<Passed, String> {
    if data.is_empty() {
        return Err("no data".into());
    }
    let logprobs = data.iter().map(|datum| learner.logprobs(datum)).collect::<Result<Vec<_>, _>>();
    let logprobs = logprobs.map_err(|error| error.to_string())?;
    let slices: Vec<&[f32]> = logprobs.iter().map(Vec::as_slice).collect();
    let outcome = loss.evaluate_data(inputs, &slices).map_err(|error| error.to_string())?;
    if !forward_only {
        learner.backward_from(data, &outcome.gradients).map_err(|error| error.to_string())?;
    }
    let mut metrics = outcome.metrics;
    metrics.insert("loss:sum".to_owned(), outcome.loss);
    Ok((logprobs, metrics))
}
