//! Promises: what was accepted and is to have a result, and how time, pauses and fates bring it there.
//!
//! A sample is ready its latency after its acceptance. The operations of a training run are done one after the
//! other: only the first of its queue is worked on, so that none is ready before an earlier one. An operation whose
//! time is over is *due*; it is carried out outside the lock, by whoever needs it
//! ([`execute`](super::training::execute)).

use std::time::Duration;

use tinkex_types::{ErrorCategory, QueueState};
use tokio::time::Instant;

use super::product::Product;
use super::state::{CLONE_BLOCK, State, group_of};
use super::training::operation::Operation;

/// Retrieved results that are kept for clients that lost the answer have at most so many bytes.
const KEEP_BYTES: usize = 64 * 1024 * 1024;

pub(crate) struct Promise {
    pub(crate) work: Work,
    pub(crate) place: Place,
    pub(crate) fate: Outcome,
    pub(crate) stage: Stage,
    /// When it is ready, where nothing holds it up.
    due: Instant,
    own_pause: Option<Pause>,
    /// The queue state the client was told last.
    told: Option<Queue>,
    retrieved: bool,
    /// Its place among the completions of its group, once it is finished.
    cursor: Option<u64>,
}

/// What a promise stands for.
#[derive(Debug)]
pub(crate) enum Work {
    /// Its result, or what is needed to compute it at any time.
    Product(Product),
    /// An operation of a training run whose turn has not come.
    Ahead(Box<Operation>),
    /// An operation that is being carried out, or that failed.
    Taken,
}

impl Work {
    fn bytes(&self) -> usize {
        match self {
            Self::Product(product) => product.held_bytes(),
            Self::Ahead(_) | Self::Taken => 0,
        }
    }
}

/// Whom a promise belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The samples of one sampling session.
    Sampler { id: String, seq_id: u64 },
    /// The operations of one training run. Creating and unloading it have no sequence id.
    Run { model_id: String, seq_id: Option<u64> },
    /// Nobody: it waits for nothing but its time.
    Alone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Worked on until this instant.
    Running(Instant),
    /// Held back by a pause.
    Held,
    /// Behind earlier operations of its run.
    Queued,
    /// Ready since this instant, but not carried out yet.
    Due(Instant),
    Finished,
    Cancelled,
}

/// How a promise ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Result,
    Failure(ErrorCategory, String),
    Lost,
}

/// What is to happen to one of the next promises.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    Ends(Outcome),
    Paused(Queue, Duration),
}

/// The state of a queue and the server's reason for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    pub(crate) state: QueueState,
    pub(crate) reason: Option<String>,
}

impl Queue {
    pub(crate) fn active() -> Self {
        Self { state: QueueState::Active, reason: None }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Pause {
    queue: Queue,
    until: Option<Instant>,
}

impl Pause {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl State {
    /// Catches up with the clock: a pause that is over lets its work go, what is ready is finished or due, and
    /// checkpoints whose time is over are gone.
    pub(crate) fn settle(&mut self, now: Instant) {
        if let Some(until) = self.pause.as_ref().and_then(|pause| pause.until).filter(|until| *until <= now) {
            self.release(until);
        }
        while let Some((ready, number)) = self.running.first().copied().filter(|(ready, _)| *ready <= now) {
            self.running.remove(&(ready, number));
            self.finish(number, ready);
        }
        self.drop_expired(now);
    }

    fn finish(&mut self, number: u64, ready: Instant) {
        let Some(promise) = self.promises.get_mut(&number) else { return };
        match &promise.place {
            Place::Sampler { .. } => {
                self.samples_in_progress -= 1;
                promise.stage = Stage::Finished;
                if let Some(group) = group_of(&mut self.samplers, &promise.place) {
                    group.running.remove(&(ready, number));
                    group.cursor += 1;
                    group.completions.insert(group.cursor, number);
                    promise.cursor = Some(group.cursor);
                }
            }
            Place::Run { model_id, .. } => {
                promise.stage = Stage::Due(ready);
                let model_id = model_id.clone();
                if let Some(run) = self.runs.get_mut(&model_id) {
                    run.queue.pop_front();
                    run.due.push_back(number);
                }
                self.start_first(&model_id, ready);
            }
            Place::Alone => promise.stage = Stage::Finished,
        }
    }

    /// The state of the queue all work is in.
    pub(crate) fn queue(&self) -> Queue {
        self.pause.as_ref().map_or_else(Queue::active, |pause| pause.queue.clone())
    }

    pub(crate) fn pause(&mut self, now: Instant, queue: Queue, length: Option<Duration>) {
        for (ready, number) in std::mem::take(&mut self.running) {
            self.held.insert(number, ready - now);
            if let Some(promise) = self.promises.get_mut(&number) {
                promise.stage = Stage::Held;
                if let Some(group) = group_of(&mut self.samplers, &promise.place) {
                    group.running.remove(&(ready, number));
                }
            }
        }
        self.pause = Some(Pause { queue, until: length.map(|length| after(now, length)) });
    }

    /// Ends a pause; what it held goes on from `at` with the work it had left.
    pub(crate) fn release(&mut self, at: Instant) {
        self.pause = None;
        for (number, left) in std::mem::take(&mut self.held) {
            self.run(number, after(at, left));
        }
    }

    fn run(&mut self, number: u64, ready: Instant) {
        let Some(promise) = self.promises.get_mut(&number) else { return };
        promise.stage = Stage::Running(ready);
        self.running.insert((ready, number));
        if let Some(group) = group_of(&mut self.samplers, &promise.place) {
            group.running.insert((ready, number));
        }
    }

    /// Begins the work on a promise, or has it wait for the end of the pause.
    fn start(&mut self, number: u64, now: Instant) {
        let Some(promise) = self.promises.get_mut(&number) else { return };
        let ready = promise.due.max(now);
        if self.pause.is_some() {
            promise.stage = Stage::Held;
            self.held.insert(number, ready - now);
        } else {
            self.run(number, ready);
        }
    }

    /// Begins the work on the first operation in the queue of a run, unless that has been done.
    pub(crate) fn start_first(&mut self, model_id: &str, now: Instant) {
        let Some(run) = self.runs.get_mut(model_id) else { return };
        while let Some(number) = run.queue.front().copied() {
            match self.promises.get(&number).map(|promise| promise.stage) {
                Some(Stage::Queued) => return self.start(number, now),
                Some(_) => return,
                // It was forgotten before its turn came.
                None => run.queue.pop_front(),
            };
        }
    }

    /// Takes in a promise; its number. What belongs to a run has its place in the queue given by the run.
    pub(crate) fn accept(&mut self, now: Instant, place: Place, work: Work) -> u64 {
        let number = self.next_promise;
        self.next_promise += 1;
        let mut effort = self.latency;
        let (mut own_pause, mut fate) = (None, Outcome::Result);
        match self.fates.pop_front() {
            None => {}
            Some(Fate::Ends(outcome)) => fate = outcome,
            Some(Fate::Paused(queue, length)) => {
                effort = effort.saturating_add(length);
                own_pause = Some(Pause { queue, until: Some(after(now, length)) });
            }
        }
        let due = after(now, effort);
        let waits = matches!(place, Place::Run { .. });
        let promise = Promise {
            work,
            place,
            fate,
            stage: Stage::Queued,
            due,
            own_pause,
            told: None,
            retrieved: false,
            cursor: None,
        };
        self.promises.insert(number, promise);
        if !waits {
            self.start(number, now);
        }
        if self.promises.len() > self.keep_promises
            && let Some(oldest) = self.promises.keys().next().copied()
        {
            self.forget(oldest);
        }
        number
    }

    /// Takes in a sample; the number of its promise.
    pub(crate) fn accept_sample(
        &mut self,
        now: Instant,
        id: &str,
        seq_id: u64,
        body_hash: u64,
        product: Product,
    ) -> u64 {
        self.samples_in_progress += 1;
        self.records.accepted += 1;
        self.records.most_in_progress = self.records.most_in_progress.max(self.samples_in_progress);
        // Noted with the number to come, so that the group is there when the work begins.
        self.note_seq_id(id, seq_id, Some((self.next_promise, body_hash)));
        let place = Place::Sampler { id: id.to_owned(), seq_id };
        let number = self.accept(now, place, Work::Product(product));
        if let Some(group) = self.samplers.get(id).and_then(|s| s.groups.get(&(seq_id / CLONE_BLOCK))) {
            group.news.notify_waiters();
        }
        number
    }

    /// Calls a sample off, where it is still in progress. Training goes on: its order must not have holes.
    pub(crate) fn cancel(&mut self, number: u64) {
        let is_sample = |promise: &Promise| matches!(promise.place, Place::Sampler { .. });
        if self.promises.get(&number).is_some_and(is_sample) && self.stop_work(number) {
            self.mark_retrieved(number);
        }
    }

    /// Takes a promise out of the work; whether it was in it.
    fn stop_work(&mut self, number: u64) -> bool {
        let Some(promise) = self.promises.get_mut(&number) else { return false };
        match promise.stage {
            Stage::Finished | Stage::Cancelled => return false,
            Stage::Queued | Stage::Due(_) => {}
            Stage::Held => {
                self.held.remove(&number);
            }
            Stage::Running(ready) => {
                self.running.remove(&(ready, number));
                if let Some(group) = group_of(&mut self.samplers, &promise.place) {
                    group.running.remove(&(ready, number));
                }
            }
        }
        if matches!(promise.place, Place::Sampler { .. }) {
            self.samples_in_progress -= 1;
        }
        promise.stage = Stage::Cancelled;
        true
    }

    /// Ends a promise of a training run.
    pub(crate) fn conclude(&mut self, number: u64, result: Result<Product, Outcome>) {
        let Some(promise) = self.promises.get_mut(&number) else { return };
        promise.stage = Stage::Finished;
        match result {
            Ok(product) => promise.work = Work::Product(product),
            Err(outcome) => promise.fate = outcome,
        }
    }

    /// Notes that nobody needs a result any more; it is kept a while for a client that lost the answer.
    pub(crate) fn mark_retrieved(&mut self, number: u64) {
        let bytes = match self.promises.get_mut(&number) {
            Some(promise) if !promise.retrieved => {
                promise.retrieved = true;
                promise.work.bytes()
            }
            _ => return,
        };
        self.retrieved.push_back((number, bytes));
        self.retrieved_bytes += bytes;
        while (self.retrieved.len() > self.keep_retrieved || self.retrieved_bytes > KEEP_BYTES)
            && let Some((oldest, bytes)) = self.retrieved.pop_front()
        {
            self.retrieved_bytes -= bytes;
            self.forget(oldest);
        }
    }

    /// Drops a promise and all traces of it, but for the sequence id of a training operation: that stays used. An
    /// operation that was not carried out yet never is.
    pub(crate) fn forget(&mut self, number: u64) {
        self.stop_work(number);
        let Some(promise) = self.promises.remove(&number) else { return };
        match &promise.place {
            Place::Sampler { id, seq_id } => {
                let Some(sampler) = self.samplers.get_mut(id) else { return };
                sampler.used.remove(seq_id);
                let group = sampler.groups.get_mut(&(seq_id / CLONE_BLOCK));
                if let (Some(group), Some(cursor)) = (group, promise.cursor) {
                    group.completions.remove(&cursor);
                }
            }
            Place::Run { model_id, .. } => self.start_first(model_id, Instant::now()),
            Place::Alone => {}
        }
    }

    /// When a promise is ready, as far as that is known.
    pub(crate) fn ready_at(&self, number: u64) -> Option<Instant> {
        let promise = self.promises.get(&number)?;
        let pause_ends = || self.pause.as_ref()?.until;
        match (promise.stage, &promise.place) {
            (Stage::Running(ready), _) => Some(ready),
            (Stage::Queued, Place::Run { model_id, .. }) => {
                let first = self.runs.get(model_id)?.queue.front()?;
                match self.promises.get(first)?.stage {
                    Stage::Running(ready) => Some(ready.max(promise.due)),
                    _ => pause_ends(),
                }
            }
            // Somebody is carrying it out, and will say so.
            (Stage::Due(_), _) => None,
            _ => pause_ends(),
        }
    }

    /// When the next promise of a clone may be ready, as far as that is known.
    pub(crate) fn next_ready(&self, sampler: &str, clone: u64) -> Option<Instant> {
        let group = self.samplers.get(sampler)?.groups.get(&clone)?;
        let first = group.running.first().map(|(ready, _)| *ready);
        first.into_iter().chain(self.pause.as_ref().and_then(|pause| pause.until)).min()
    }

    /// The state of the queue a pending promise is in.
    pub(crate) fn queue_of(&self, number: u64, now: Instant) -> Queue {
        let own = self.promises.get(&number).and_then(|promise| promise.own_pause.as_ref());
        match own.filter(|pause| !pause.is_over(now)) {
            Some(pause) => pause.queue.clone(),
            None => self.queue(),
        }
    }

    /// Whether the state of the queue is a pause the client of this promise was not told of. An active queue is never
    /// news, but after it the same pause is.
    pub(crate) fn is_news(&mut self, number: u64, queue: &Queue) -> bool {
        let Some(promise) = self.promises.get_mut(&number) else { return false };
        if queue.state.is_active() {
            promise.told = None;
            return false;
        }
        promise.told.as_ref() != Some(queue)
    }

    pub(crate) fn note_told(&mut self, number: u64, queue: &Queue) {
        if let Some(promise) = self.promises.get_mut(&number) {
            promise.told = Some(queue.clone());
        }
    }
}

/// A later instant. Lengths beyond any run are cut, since the clock cannot hold them.
pub(crate) fn after(start: Instant, length: Duration) -> Instant {
    const BEYOND_ANY_RUN: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
    start + length.min(BEYOND_ANY_RUN)
}
