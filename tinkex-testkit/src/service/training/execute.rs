//! Carrying out the operations of a run that are due, in order, with nothing locked.
//!
//! Whoever needs a result, or wants to look at a run, calls [`Service::work_off`]. It takes the first due operation
//! together with the learner out of the state, [computes](super::compute), and puts the learner back with
//! [what came of it](super::effects). A run whose learner is out is left alone; the others who wait for it are woken
//! when it is back.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::Service;
use super::super::promises::{Outcome, Place, Stage, Work};
use super::super::state::{Records, State};
use super::compute::{Job, Material, Ticket};
use super::decode::{Batch, BatchLoss};
use super::operation::{Creation, Operation};
use super::runs::Phase;

/// How it stands with a promise of a run.
pub(crate) struct Turn {
    pub(crate) model_id: String,
    /// Rung when something other than time may have brought the promise on.
    pub(crate) news: Arc<Notify>,
    /// Whether it is to be carried out now.
    pub(crate) due: bool,
}

impl Service {
    /// How it stands with a promise of a run.
    pub(crate) fn turn_of(&self, number: u64) -> Option<Turn> {
        let state = self.state();
        let promise = state.promises.get(&number)?;
        let Place::Run { model_id, .. } = &promise.place else { return None };
        let run = state.runs.get(model_id)?;
        let due = matches!(promise.stage, Stage::Due(_));
        Some(Turn { model_id: model_id.clone(), news: Arc::clone(&run.news), due })
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
            news = Some(Arc::clone(&done.ticket.news));
            self.state().take_in(done);
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
            if promise.fate != Outcome::Result {
                promise.stage = Stage::Finished;
                match *operation {
                    Operation::Create(_) => self.end_run(model_id),
                    // It may be tried again.
                    Operation::Unload => run.unloaded_by = None,
                    _ => {}
                }
                continue;
            }
            if run.phase == Phase::Over {
                self.fail(number, format!("the model {model_id} is not there any more"));
                continue;
            }
            let session = run.session;
            let material = match self.material(&operation, session) {
                Ok(material) => material,
                Err(problem) => {
                    self.fail(number, problem);
                    if matches!(*operation, Operation::Create(_)) {
                        self.end_run(model_id);
                    }
                    continue;
                }
            };
            let run = self.runs.get_mut(model_id)?;
            run.busy = true;
            let learner = run.learner.take();
            let ticket = Ticket { number, model_id: model_id.to_owned(), news: Arc::clone(&run.news), at };
            return Some(Job { ticket, learner, operation: *operation, material });
        }
    }

    /// What an operation needs beside its learner.
    fn material(&self, operation: &Operation, session: u64) -> Result<Material, String> {
        match operation {
            Operation::Load(load) | Operation::Create(Creation::Loaded { load, .. }) => {
                let checkpoint = self.checkpoints.get(&load.path).cloned();
                let missing = || format!("there is no checkpoint at {}", load.path);
                Ok(Material::Checkpoint(Box::new(checkpoint.ok_or_else(missing)?)))
            }
            Operation::ForwardBackward(Batch { loss: BatchLoss::Custom { loss_id, .. }, .. }) => {
                self.custom_losses.get(loss_id, session).map(Material::Loss)
            }
            _ => Ok(Material::None),
        }
    }
}
