//! What the service remembers of a training run.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::promises::{Place, Work};
use super::super::state::State;
use super::operation::Operation;
use super::order::Order;
use crate::learner::Learner;
use crate::model::LanguageModel;

/// One training run.
pub(crate) struct Run {
    pub(crate) session: u64,
    pub(crate) session_id: String,
    pub(crate) model_id: String,
    /// The promise of its creation, and a hash of the request: what a repeated request gets.
    pub(crate) created_by: (u64, u64),
    pub(crate) unloaded_by: Option<u64>,
    pub(crate) phase: Phase,
    /// Known from the creation on; that of a checkpoint once it is loaded.
    pub(crate) base_model: String,
    pub(crate) lora: Value,
    pub(crate) optimizer: Value,
    /// Out while an operation is carried out, and before and after the life of the run.
    pub(crate) learner: Option<Learner>,
    pub(crate) busy: bool,
    pub(crate) order: Order,
    /// Promises whose time is not over, in the order in which they are to be carried out.
    pub(crate) queue: VecDeque<u64>,
    /// Promises to be carried out now, in order.
    pub(crate) due: VecDeque<u64>,
    /// Sequence ids in the order in which their turn came; the last ones where there were very many.
    pub(crate) executed: VecDeque<u64>,
    pub(crate) steps: u64,
    /// Paths of accepted saves.
    pub(crate) names: std::collections::HashSet<String>,
    /// What samplers that follow the run sample from.
    pub(crate) published: Option<LanguageModel>,
    /// Rung when promises of this run may have become due or finished by something other than time.
    pub(crate) news: Arc<Notify>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its creation is not done.
    Coming,
    Alive,
    /// Unloaded, or its creation failed.
    Over,
}

impl State {
    /// Gives an accepted operation of a run its promise. `seq_id` orders it; without one it comes after all that
    /// are in the queue.
    pub(crate) fn enqueue(
        &mut self,
        now: Instant,
        model_id: &str,
        ordered: Option<(u64, u64)>,
        operation: Operation,
    ) -> u64 {
        let place = Place::Run { model_id: model_id.to_owned(), seq_id: ordered.map(|(seq_id, _)| seq_id) };
        let number = self.accept(now, place, Work::Ahead(Box::new(operation)));
        if let Some(run) = self.runs.get_mut(model_id) {
            let turns = match ordered {
                Some((seq_id, hash)) => run.order.accept(seq_id, hash, number),
                None => vec![number],
            };
            self.begin(now, model_id, turns);
        }
        number
    }

    /// Notes that a request with this id was refused.
    pub(crate) fn refuse_seq_id(&mut self, now: Instant, model_id: &str, seq_id: u64) {
        if let Some(run) = self.runs.get_mut(model_id) {
            let turns = run.order.refuse(seq_id);
            self.begin(now, model_id, turns);
        }
    }

    fn begin(&mut self, now: Instant, model_id: &str, turns: Vec<u64>) {
        let Some(run) = self.runs.get_mut(model_id) else { return };
        run.queue.extend(turns);
        run.news.notify_waiters();
        self.start_first(model_id, now);
    }
}
