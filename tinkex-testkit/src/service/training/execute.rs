//! Carrying out the operations of a run that are due, in order, with nothing locked.
//!
//! Whoever needs a result, or wants to look at a run, calls [`Service::work_off`]. It takes the first due operation
//! together with the learner out of the state, computes, and puts the learner back with what came of it. A run
//! whose learner is out is left alone; the others who wait for it are woken when it is back.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use tinkex_types::custom_loss::CustomLoss;
use tinkex_types::{Datum, ErrorCategory};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::Service;
use super::super::product::Product;
use super::super::promises::{Outcome, Place, Stage, Work, after};
use super::super::state::{Records, Sampler, State};
use super::checkpoints::{Checkpoint, CheckpointKind};
use super::decode::{Batch, BatchLoss};
use super::operation::{Creation, Load, Operation, Publish, Save};
use super::output::{DatumOutput, LossOutput};
use super::runs::Phase;
use crate::learner::{Learner, LearnerCheckpoint, LearnerDatum};

/// An operation and all it needs.
struct Job {
    number: u64,
    model_id: String,
    /// When it was due: what its checkpoints are dated by.
    at: Instant,
    learner: Option<Learner>,
    operation: Operation,
    /// What is to be loaded.
    loaded: Option<Checkpoint>,
    /// The uploaded loss that is to be computed.
    loss: Option<Arc<CustomLoss>>,
}

/// What came of a job.
struct Done {
    number: u64,
    model_id: String,
    at: Instant,
    learner: Option<Learner>,
    /// The reason of a failure, which is the user's.
    effect: Result<Effect, String>,
}

enum Effect {
    Created(Option<(Load, Checkpoint)>),
    Computed(Product),
    Stepped(Product),
    Saved(Save, LearnerCheckpoint),
    Published(Publish, LearnerCheckpoint),
    Loaded(Load),
    Unloaded,
}

impl Service {
    /// What is rung when something happens in the run of a promise; never, where it has none.
    pub(crate) fn run_news(&self, number: u64) -> Arc<Notify> {
        let state = self.state();
        let run = match state.promises.get(&number).map(|promise| &promise.place) {
            Some(Place::Run { model_id, .. }) => state.runs.get(model_id),
            _ => None,
        };
        run.map(|run| Arc::clone(&run.news)).unwrap_or_default()
    }

    /// Carries out what is due up to this promise.
    pub(crate) fn work_off_until(&self, number: u64) {
        let model_id = match self.state().promises.get(&number).map(|promise| (promise.stage, &promise.place))
        {
            Some((Stage::Due(_), Place::Run { model_id, .. })) => model_id.clone(),
            _ => return,
        };
        self.work_off(&model_id, Some(number));
    }

    /// Carries out all that is due, in all runs.
    pub(crate) fn work_off_all(&self) {
        let due = |state: &State| -> Vec<String> {
            state.runs.iter().filter(|(_, run)| !run.due.is_empty()).map(|(id, _)| id.clone()).collect()
        };
        let runs = due(&self.state());
        runs.iter().for_each(|model_id| self.work_off(model_id, None));
    }

    /// Carries out what is due in a run, up to a promise or to the end.
    pub(crate) fn work_off(&self, model_id: &str, last: Option<u64>) {
        let mut news = None;
        loop {
            let job = {
                let mut state = self.state();
                let is_due = |number: u64| {
                    state.promises.get(&number).is_some_and(|promise| matches!(promise.stage, Stage::Due(_)))
                };
                if last.is_some_and(|number| !is_due(number)) { None } else { state.next_job(model_id) }
            };
            let Some(job) = job else { break };
            let done = job.run();
            let mut state = self.state();
            state.take_in(done);
            news = state.runs.get(model_id).map(|run| Arc::clone(&run.news));
        }
        if let Some(news) = news {
            news.notify_waiters();
        }
    }
}

impl State {
    /// The next operation of a run that is due and possible. Those that come before it and are not are ended.
    fn next_job(&mut self, model_id: &str) -> Option<Job> {
        let limit = self.records.limit;
        loop {
            let run = self.runs.get_mut(model_id).filter(|run| !run.busy)?;
            let number = run.due.pop_front()?;
            let Some(promise) = self.promises.get_mut(&number) else { continue };
            if let Place::Run { seq_id: Some(seq_id), .. } = promise.place {
                Records::push(limit, &mut run.executed, seq_id);
            }
            let Work::Ahead(operation) = std::mem::replace(&mut promise.work, Work::Taken) else { continue };
            let at = match promise.stage {
                Stage::Due(at) => at,
                _ => Instant::now(),
            };
            let is_creation = matches!(*operation, Operation::Create(_));
            if promise.fate != Outcome::Result {
                promise.stage = Stage::Finished;
                if is_creation {
                    run.phase = Phase::Over;
                }
                continue;
            }
            if run.phase == Phase::Over {
                self.fail(number, format!("the model {model_id} is not there any more"));
                continue;
            }
            let path = match &*operation {
                Operation::Load(load) | Operation::Create(Creation::Loaded { load, .. }) => Some(&load.path),
                _ => None,
            };
            let loaded = match path.map(|path| (path, self.checkpoints.get(path))) {
                Some((path, None)) => {
                    let problem = format!("there is no checkpoint at {path}");
                    self.fail(number, problem);
                    if is_creation {
                        self.end_run(model_id);
                    }
                    continue;
                }
                Some((_, checkpoint)) => checkpoint.cloned(),
                None => None,
            };
            let loss = match &*operation {
                Operation::ForwardBackward(Batch { loss: BatchLoss::Custom { loss_id, .. }, .. }) => {
                    Some(self.custom_losses.get(loss_id, run.session))
                }
                _ => None,
            };
            let loss = match loss.transpose() {
                Ok(loss) => loss,
                Err(problem) => {
                    self.fail(number, problem);
                    continue;
                }
            };
            run.busy = true;
            let learner = run.learner.take();
            return Some(Job {
                number,
                model_id: model_id.to_owned(),
                at,
                learner,
                operation: *operation,
                loaded,
                loss,
            });
        }
    }

    /// Puts the learner back and gives the promise its end.
    fn take_in(&mut self, done: Done) {
        let Done { number, model_id, at, learner, effect } = done;
        let Some(run) = self.runs.get_mut(&model_id) else { return };
        run.busy = false;
        run.learner = learner;
        let product = match effect {
            Ok(Effect::Computed(product)) => Ok(product),
            Ok(Effect::Stepped(product)) => {
                run.steps += 1;
                Ok(product)
            }
            Ok(Effect::Created(source)) => {
                run.phase = Phase::Alive;
                let mut answer = json!({ "type": "create_model", "model_id": model_id });
                if let Some((load, checkpoint)) = source {
                    answer["type"] = json!("load_weights");
                    answer["path"] = json!(load.path);
                    run.base_model = checkpoint.base_model;
                    run.lora = checkpoint.lora.unwrap_or_default();
                    if run.optimizer.is_null() {
                        run.optimizer = checkpoint.optimizer;
                    }
                }
                Ok(Product::plain(answer))
            }
            Ok(Effect::Loaded(load)) => {
                let path = match load.session_paths {
                    true => load.path.replace("tinker://", "sessions/"),
                    false => load.path,
                };
                Ok(Product::plain(json!({ "type": "load_weights", "path": path, "model_id": model_id })))
            }
            Ok(Effect::Saved(save, weights)) => self.keep(&model_id, at, save, weights),
            Ok(Effect::Published(publish, weights)) => self.publish(&model_id, publish, &weights),
            Ok(Effect::Unloaded) => {
                self.end_run(&model_id);
                Ok(Product::plain(json!({ "type": "unload_model", "model_id": model_id })))
            }
            Err(problem) => {
                if run.phase == Phase::Coming {
                    self.end_run(&model_id);
                }
                Err(problem)
            }
        };
        match product {
            Ok(product) => self.conclude(number, Ok(product)),
            Err(problem) => self.fail(number, problem),
        }
    }

    fn fail(&mut self, number: u64, problem: String) {
        self.conclude(number, Err(Outcome::Failure(ErrorCategory::User, problem)));
    }

    /// Ends the life of a run; operations that still wait for earlier ones come to their turn, and fail.
    fn end_run(&mut self, model_id: &str) {
        let Some(run) = self.runs.get_mut(model_id) else { return };
        run.phase = Phase::Over;
        run.learner = None;
        let waiting = run.order.abandon();
        run.queue.extend(waiting);
        self.start_first(model_id, Instant::now());
    }

    /// Files a named save.
    fn keep(
        &mut self,
        model_id: &str,
        at: Instant,
        save: Save,
        weights: LearnerCheckpoint,
    ) -> Result<Product, String> {
        if !save.overwrite && self.checkpoints.get(&save.path).is_some() {
            return Err(format!("there is a checkpoint at {} already", save.path));
        }
        let Some(run) = self.runs.get_mut(model_id) else { return Err(format!("unknown model {model_id}")) };
        let mut answer = json!({ "type": save.answer, "path": save.path });
        if save.kind == CheckpointKind::External {
            answer["size_bytes"] = json!(weights.weights_size_bytes());
        }
        if save.inflight {
            run.published = Some(weights.model());
        }
        let checkpoint = Checkpoint {
            base_model: run.base_model.clone(),
            kind: save.kind,
            weights: Some(weights),
            lora: Some(run.lora.clone()),
            optimizer: run.optimizer.clone(),
            user_metadata: save.user_metadata,
            expires: save.ttl.map(|ttl| after(at, ttl)),
        };
        self.checkpoints.insert(&save.path, checkpoint);
        Ok(Product::plain(answer))
    }

    /// Makes the sampling session of an unnamed save.
    fn publish(
        &mut self,
        model_id: &str,
        publish: Publish,
        weights: &LearnerCheckpoint,
    ) -> Result<Product, String> {
        if self.samplers.contains_key(&publish.sampler) {
            return Err(format!("the number of sampling session {} was used before", publish.sampler));
        }
        let Some(run) = self.runs.get_mut(model_id) else { return Err(format!("unknown model {model_id}")) };
        let mut sampler = Sampler::new(run.session, run.base_model.clone(), None, weights.model());
        if publish.inflight {
            run.published = Some(weights.model());
            sampler.follows = Some(model_id.to_owned());
        }
        let answer = json!({ "type": "save_weights_for_sampler", "sampling_session_id": publish.sampler });
        self.samplers.insert(publish.sampler, sampler);
        Ok(Product::plain(answer))
    }
}

impl Job {
    fn run(self) -> Done {
        let Self { number, model_id, at, mut learner, operation, loaded, loss } = self;
        let effect = match operation {
            Operation::Create(creation) => create(creation, loaded).map(|(made, source)| {
                learner = Some(made);
                Effect::Created(source)
            }),
            Operation::Broken(problem) => Err(problem),
            Operation::Unload => Ok(Effect::Unloaded),
            operation => match &mut learner {
                Some(learner) => work(learner, operation, loaded, loss),
                None => Err(format!("the model {model_id} is not there any more")),
            },
        };
        Done { number, model_id, at, learner, effect }
    }
}

type Created = (Learner, Option<(Load, Checkpoint)>);

fn create(creation: Creation, loaded: Option<Checkpoint>) -> Result<Created, String> {
    match (creation, loaded) {
        (Creation::Untrained(spec), _) => Ok((Learner::new(&spec), None)),
        (Creation::Loaded { load, base_model }, Some(checkpoint)) => {
            if let Some(wanted) = base_model.filter(|wanted| *wanted != checkpoint.base_model) {
                return Err(format!("{} is of {:?}, not of {wanted:?}", load.path, checkpoint.base_model));
            }
            let weights = training_state(&load, &checkpoint)?;
            Ok((Learner::from_checkpoint(&weights, load.optimizer), Some((load, checkpoint))))
        }
        (Creation::Loaded { load, .. }, None) => Err(format!("there is no checkpoint at {}", load.path)),
    }
}

fn work(
    learner: &mut Learner,
    operation: Operation,
    loaded: Option<Checkpoint>,
    loss: Option<Arc<CustomLoss>>,
) -> Result<Effect, String> {
    match (operation, loaded) {
        (Operation::ForwardBackward(batch), _) => pass(learner, batch, loss).map(Effect::Computed),
        (Operation::OptimStep(step), _) => {
            let metrics = learner.optim_step(&step);
            Ok(Effect::Stepped(Product::plain(json!({ "type": "optim_step", "metrics": metrics }))))
        }
        (Operation::Save(save), _) => Ok(Effect::Saved(save, learner.checkpoint())),
        (Operation::Publish(publish), _) => Ok(Effect::Published(publish, learner.checkpoint())),
        (Operation::Load(load), Some(checkpoint)) => {
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

fn pass(learner: &mut Learner, batch: Batch, uploaded: Option<Arc<CustomLoss>>) -> Result<Product, String> {
    let Batch { data, columns, loss, forward_only } = batch;
    let (logprobs, metrics) = match (&loss, uploaded) {
        (BatchLoss::Builtin(loss), _) => {
            let output = match forward_only {
                true => learner.forward(&data, loss),
                false => learner.forward_backward(&data, loss),
            };
            let output = output.map_err(|error| error.to_string())?;
            (output.logprobs, output.metrics)
        }
        (BatchLoss::Custom { data: inputs, .. }, Some(loss)) => {
            custom_pass(learner, &data, inputs, &loss, forward_only)?
        }
        (BatchLoss::Custom { loss_id, .. }, None) => return Err(format!("unknown loss_id {loss_id:?}")),
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
