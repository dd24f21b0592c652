//! What the service remembers, and the rules by which time changes it.
//!
//! Nothing here waits: a caller locks the state, lets it catch up with the clock ([`State::settle`]), looks or
//! changes something, and unlocks. Whoever must wait does so outside, until the instant the state named.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tinkex_types::{ErrorCategory, QueueState};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ServiceOptions;
use super::work::SampleWork;
use crate::model::LanguageModel;

/// Ids per clone of a sampling client (PROTOCOL 15.7).
pub(crate) const CLONE_BLOCK: u64 = 1_000_000_000;

/// The most sessions that are remembered; the oldest are forgotten with their samplers.
const KEEP_SESSIONS: usize = 4096;

pub(crate) struct State {
    pub(crate) sessions: BTreeMap<u64, Session>,
    pub(crate) samplers: HashMap<String, Sampler>,
    pub(crate) promises: BTreeMap<u64, Promise>,
    /// Samples being worked on, by the instant they are ready.
    running: BTreeSet<(Instant, u64)>,
    /// Samples a pause holds back, with the work left.
    held: BTreeMap<u64, Duration>,
    pause: Option<Pause>,
    /// What is to happen to the next samples, in order.
    pub(crate) fates: VecDeque<Fate>,
    pub(crate) limit: Option<Limit>,
    /// Promises whose result was fetched or is not wanted, oldest first.
    retrieved: VecDeque<u64>,
    pub(crate) next_promise: u64,
    pub(crate) next_session: u64,
    pub(crate) client_config: Map<String, Value>,
    pub(crate) dynamic_config: Map<String, Value>,
    pub(crate) checkpoints: BTreeMap<String, String>,
    pub(crate) keys: Option<Vec<String>>,
    pub(crate) latency: Duration,
    pub(crate) hold: Duration,
    pub(crate) metadata_threshold: usize,
    pub(crate) records: Records,
    keep_retrieved: usize,
    keep_promises: usize,
}

/// What is kept for inspection only.
#[derive(Default)]
pub(crate) struct Records {
    pub(crate) limit: usize,
    pub(crate) accepted: u64,
    pub(crate) refused_over_limit: u64,
    pub(crate) most_in_progress: usize,
    pub(crate) cancelled: VecDeque<String>,
    pub(crate) telemetry: VecDeque<Value>,
}

impl Records {
    pub(crate) fn push<T>(limit: usize, list: &mut VecDeque<T>, item: T) {
        list.push_back(item);
        while list.len() > limit {
            list.pop_front();
        }
    }
}

pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) body: Value,
    pub(crate) heartbeats: u64,
    pub(crate) finished: Option<Value>,
}

pub(crate) struct Sampler {
    pub(crate) session: u64,
    pub(crate) base_model: String,
    pub(crate) model_path: Option<String>,
    pub(crate) model: LanguageModel,
    pub(crate) joined: u64,
    /// Used sequence ids: the promise each led to, and a hash of its request; none where the request was rejected.
    pub(crate) used: HashMap<u64, Option<(u64, u64)>>,
    pub(crate) groups: BTreeMap<u64, Group>,
    pub(crate) seq_ids: VecDeque<u64>,
}

/// The samples of one clone of a sampling client: what one `retrieve_futures` poller looks after.
#[derive(Default)]
pub(crate) struct Group {
    /// One more than the highest sequence id used.
    pub(crate) next_seq: Option<u64>,
    pub(crate) cursor: u64,
    /// Finished promises that were not acknowledged yet, by cursor.
    pub(crate) completions: BTreeMap<u64, u64>,
    running: BTreeSet<(Instant, u64)>,
    pub(crate) news: Arc<Notify>,
}

pub(crate) struct Promise {
    pub(crate) work: Arc<SampleWork>,
    pub(crate) sampler: String,
    pub(crate) seq_id: u64,
    pub(crate) fate: Outcome,
    pub(crate) stage: Stage,
    own_pause: Option<Pause>,
    /// The queue state the client was told last.
    told: Option<Queue>,
    retrieved: bool,
    /// Its place among the completions of its group, once it is finished.
    cursor: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Running(Instant),
    Held,
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

/// What is to happen to one of the next samples.
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

#[derive(Clone, Debug)]
struct Pause {
    queue: Queue,
    until: Option<Instant>,
}

impl Pause {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) samples: usize,
    pub(crate) retry_after: Duration,
}

impl State {
    pub(crate) fn new(options: &ServiceOptions) -> Self {
        let mut checkpoints: BTreeMap<String, String> = options.checkpoints.iter().cloned().collect();
        if let Some(base) = options.base_models.first() {
            checkpoints.insert(options.dialect.sampler_paths.path("run-0001", "demo"), base.clone());
        }
        Self {
            sessions: BTreeMap::new(),
            samplers: HashMap::new(),
            promises: BTreeMap::new(),
            running: BTreeSet::new(),
            held: BTreeMap::new(),
            pause: None,
            fates: VecDeque::new(),
            limit: None,
            retrieved: VecDeque::new(),
            next_promise: 1,
            next_session: 1,
            client_config: Map::new(),
            dynamic_config: Map::new(),
            checkpoints,
            keys: options.accepted_keys.clone(),
            latency: options.latency,
            hold: options.hold(),
            metadata_threshold: options.metadata_threshold,
            records: Records { limit: options.keep_records, ..Records::default() },
            keep_retrieved: options.keep_retrieved,
            keep_promises: options.keep_promises.max(1),
        }
    }

    /// Catches up with the clock: a pause that is over lets its samples go, and what is ready is finished.
    pub(crate) fn settle(&mut self, now: Instant) {
        if let Some(until) = self.pause.as_ref().and_then(|pause| pause.until).filter(|until| *until <= now) {
            self.release(until);
        }
        while let Some((ready, number)) = self.running.first().copied().filter(|(ready, _)| *ready <= now) {
            self.running.remove(&(ready, number));
            self.finish(number, ready);
        }
    }

    fn finish(&mut self, number: u64, ready: Instant) {
        let Some(promise) = self.promises.get_mut(&number) else { return };
        promise.stage = Stage::Finished;
        if let Some(group) = group_of(&mut self.samplers, promise) {
            group.running.remove(&(ready, number));
            group.cursor += 1;
            group.completions.insert(group.cursor, number);
            promise.cursor = Some(group.cursor);
        }
    }

    /// Samples that were accepted and are neither finished nor cancelled.
    pub(crate) fn in_progress(&self) -> usize {
        self.running.len() + self.held.len()
    }

    /// The state of the queue all samples are in.
    pub(crate) fn queue(&self) -> Queue {
        self.pause.as_ref().map_or_else(Queue::active, |pause| pause.queue.clone())
    }

    pub(crate) fn pause(&mut self, now: Instant, queue: Queue, length: Option<Duration>) {
        for (ready, number) in std::mem::take(&mut self.running) {
            self.held.insert(number, ready - now);
            if let Some(promise) = self.promises.get_mut(&number) {
                promise.stage = Stage::Held;
                if let Some(group) = group_of(&mut self.samplers, promise) {
                    group.running.remove(&(ready, number));
                }
            }
        }
        self.pause = Some(Pause { queue, until: length.map(|length| after(now, length)) });
    }

    /// Ends a pause; the samples it held go on from `at` with the work they had left.
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
        if let Some(group) = group_of(&mut self.samplers, promise) {
            group.running.insert((ready, number));
        }
    }

    /// Takes in a sample; the number of its promise.
    pub(crate) fn accept(
        &mut self,
        now: Instant,
        sampler: &str,
        seq_id: u64,
        body_hash: u64,
        work: SampleWork,
    ) -> u64 {
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
        let promise = Promise {
            work: Arc::new(work),
            sampler: sampler.to_owned(),
            seq_id,
            fate,
            stage: Stage::Held,
            own_pause,
            told: None,
            retrieved: false,
            cursor: None,
        };
        self.promises.insert(number, promise);
        self.note_seq_id(sampler, seq_id, Some((number, body_hash)));
        if self.pause.is_some() {
            self.held.insert(number, effort);
        } else {
            self.run(number, after(now, effort));
        }
        if let Some(group) = self.samplers.get(sampler).and_then(|s| s.groups.get(&(seq_id / CLONE_BLOCK))) {
            group.news.notify_waiters();
        }
        self.records.accepted += 1;
        self.records.most_in_progress = self.records.most_in_progress.max(self.in_progress());
        if self.promises.len() > self.keep_promises
            && let Some(oldest) = self.promises.keys().next().copied()
        {
            self.forget(oldest);
        }
        number
    }

    /// Writes down that a sequence id was used.
    pub(crate) fn note_seq_id(&mut self, sampler: &str, seq_id: u64, by: Option<(u64, u64)>) {
        let limit = self.records.limit;
        let Some(sampler) = self.samplers.get_mut(sampler) else { return };
        sampler.used.insert(seq_id, by);
        if by.is_some() {
            Records::push(limit, &mut sampler.seq_ids, seq_id);
        }
        let group = sampler.groups.entry(seq_id / CLONE_BLOCK).or_default();
        group.next_seq = Some(group.next_seq.map_or(seq_id + 1, |next| next.max(seq_id + 1)));
    }

    /// Calls a sample off, where it is still in progress.
    pub(crate) fn cancel(&mut self, number: u64) {
        if self.stop_work(number) {
            self.mark_retrieved(number);
        }
    }

    /// Takes a sample out of the work; whether it was in it.
    fn stop_work(&mut self, number: u64) -> bool {
        let Some(promise) = self.promises.get_mut(&number) else { return false };
        match promise.stage {
            Stage::Finished | Stage::Cancelled => return false,
            Stage::Held => {
                self.held.remove(&number);
            }
            Stage::Running(ready) => {
                self.running.remove(&(ready, number));
                if let Some(group) = group_of(&mut self.samplers, promise) {
                    group.running.remove(&(ready, number));
                }
            }
        }
        promise.stage = Stage::Cancelled;
        true
    }

    /// Notes that nobody needs a result any more; it is kept a while for a client that lost the answer.
    pub(crate) fn mark_retrieved(&mut self, number: u64) {
        match self.promises.get_mut(&number) {
            Some(promise) if !promise.retrieved => promise.retrieved = true,
            _ => return,
        }
        self.retrieved.push_back(number);
        while self.retrieved.len() > self.keep_retrieved
            && let Some(oldest) = self.retrieved.pop_front()
        {
            self.forget(oldest);
        }
    }

    /// Drops a promise and all traces of it.
    pub(crate) fn forget(&mut self, number: u64) {
        self.stop_work(number);
        let Some(promise) = self.promises.remove(&number) else { return };
        if let Some(sampler) = self.samplers.get_mut(&promise.sampler) {
            sampler.used.remove(&promise.seq_id);
            let group = sampler.groups.get_mut(&(promise.seq_id / CLONE_BLOCK));
            if let (Some(group), Some(cursor)) = (group, promise.cursor) {
                group.completions.remove(&cursor);
            }
        }
    }

    /// When a promise is ready, as far as that is known.
    pub(crate) fn ready_at(&self, number: u64) -> Option<Instant> {
        match self.promises.get(&number)?.stage {
            Stage::Running(ready) => Some(ready),
            _ => self.pause.as_ref()?.until,
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

    /// The session of this id.
    pub(crate) fn session_mut(&mut self, id: &str) -> Option<&mut Session> {
        self.sessions.values_mut().find(|session| session.id == id)
    }

    /// Adds a session; the oldest is forgotten where there are too many.
    pub(crate) fn add_session(&mut self, session: Session) {
        self.sessions.insert(self.next_session, session);
        self.next_session += 1;
        while self.sessions.len() > KEEP_SESSIONS
            && let Some((oldest, _)) = self.sessions.pop_first()
        {
            self.samplers.retain(|_, sampler| sampler.session != oldest);
        }
    }
}

impl Queue {
    pub(crate) fn active() -> Self {
        Self { state: QueueState::Active, reason: None }
    }
}

/// A later instant. Lengths beyond any run are cut, since the clock cannot hold them.
pub(crate) fn after(start: Instant, length: Duration) -> Instant {
    const BEYOND_ANY_RUN: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
    start + length.min(BEYOND_ANY_RUN)
}

fn group_of<'a>(samplers: &'a mut HashMap<String, Sampler>, promise: &Promise) -> Option<&'a mut Group> {
    samplers.get_mut(&promise.sampler)?.groups.get_mut(&(promise.seq_id / CLONE_BLOCK))
}
