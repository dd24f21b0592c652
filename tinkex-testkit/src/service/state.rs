//! What the service remembers.
//!
//! Nothing here waits: a caller locks the state, lets it catch up with the clock ([`State::settle`]), looks or
//! changes something, and unlocks. Whoever must wait does so outside, until the instant the state named.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ServiceOptions;
use super::promises::{Fate, Pause, Place, Promise};
use super::refusal::Refusal;
use super::tokens::Tokens;
use super::training::checkpoints::{Checkpoint, Checkpoints};
use super::training::custom_losses::CustomLosses;
use super::training::runs::Run;
use crate::model::LanguageModel;

/// Ids per clone of a sampling client (PROTOCOL 15.7).
pub(crate) const CLONE_BLOCK: u64 = 1_000_000_000;

/// The most sessions that are remembered; the oldest are forgotten with their samplers and runs.
const KEEP_SESSIONS: usize = 4096;

pub(crate) struct State {
    pub(crate) sessions: BTreeMap<u64, Session>,
    pub(crate) samplers: HashMap<String, Sampler>,
    /// Training runs, by model id.
    pub(crate) runs: BTreeMap<String, Run>,
    pub(crate) promises: BTreeMap<u64, Promise>,
    /// What is being worked on, by the instant it is ready.
    pub(crate) running: BTreeSet<(Instant, u64)>,
    /// What a pause holds back, with the work left.
    pub(crate) held: BTreeMap<u64, Duration>,
    pub(crate) pause: Option<Pause>,
    /// What is to happen to the next promises, in order.
    pub(crate) fates: VecDeque<Fate>,
    pub(crate) limit: Option<Limit>,
    /// Samples that were accepted and are neither finished nor cancelled.
    pub(crate) samples_in_progress: usize,
    /// Promises whose result was fetched or is not wanted and the bytes it takes, oldest first.
    pub(crate) retrieved: VecDeque<(u64, usize)>,
    pub(crate) retrieved_bytes: usize,
    pub(crate) next_promise: u64,
    pub(crate) next_session: u64,
    pub(crate) client_config: Map<String, Value>,
    pub(crate) dynamic_config: Map<String, Value>,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) custom_losses: CustomLosses,
    pub(crate) keys: Option<Vec<String>>,
    pub(crate) tokens: Tokens,
    /// What loading and copying weights needs, where anything (PROTOCOL 14).
    pub(crate) weights_access_token: Option<String>,
    pub(crate) latency: Duration,
    pub(crate) hold: Duration,
    pub(crate) metadata_threshold: usize,
    pub(crate) records: Records,
    pub(crate) keep_retrieved: usize,
    pub(crate) keep_promises: usize,
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
    /// The run whose weights of kind `inflight` it follows, from their first publication on.
    pub(crate) follows: Option<String>,
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
    pub(crate) running: BTreeSet<(Instant, u64)>,
    pub(crate) news: Arc<Notify>,
}

impl Sampler {
    pub(crate) fn new(
        session: u64,
        base_model: String,
        model_path: Option<String>,
        model: LanguageModel,
    ) -> Self {
        Self {
            session,
            base_model,
            model_path,
            model,
            follows: None,
            joined: 0,
            used: HashMap::new(),
            groups: BTreeMap::new(),
            seq_ids: VecDeque::new(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) samples: usize,
    pub(crate) retry_after: Duration,
}

impl State {
    pub(crate) fn new(options: &ServiceOptions) -> Self {
        let mut checkpoints = Checkpoints::default();
        for (path, base) in &options.checkpoints {
            checkpoints.insert(path, Checkpoint::registered(base));
        }
        if let Some(base) = options.base_models.first() {
            let demo = options.dialect.sampler_paths.path("run-0001", "demo");
            checkpoints.insert(&demo, Checkpoint::registered(base));
        }
        Self {
            sessions: BTreeMap::new(),
            samplers: HashMap::new(),
            runs: BTreeMap::new(),
            promises: BTreeMap::new(),
            running: BTreeSet::new(),
            held: BTreeMap::new(),
            pause: None,
            fates: VecDeque::new(),
            limit: None,
            samples_in_progress: 0,
            retrieved: VecDeque::new(),
            retrieved_bytes: 0,
            next_promise: 1,
            next_session: 1,
            client_config: Map::new(),
            dynamic_config: Map::new(),
            checkpoints,
            custom_losses: CustomLosses::default(),
            keys: options.accepted_keys.clone(),
            tokens: Tokens::new(options.clock.clone()),
            weights_access_token: options.weights_access_token.clone(),
            latency: options.latency,
            hold: options.hold(),
            metadata_threshold: options.metadata_threshold,
            records: Records { limit: options.keep_records, ..Records::default() },
            keep_retrieved: options.keep_retrieved,
            keep_promises: options.keep_promises.max(1),
        }
    }

    /// Writes down that a sequence id of a sampling session was used.
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
            self.runs.retain(|_, run| run.session != oldest);
            self.custom_losses.forget_session(oldest);
        }
    }

    /// The number of a session that is not finished.
    pub(crate) fn open_session(&self, id: &str) -> Result<u64, Refusal> {
        match self.sessions.iter().find(|(_, session)| session.id == id) {
            None => Err(Refusal::new(404, format!("unknown session {id}"))),
            Some((_, session)) if session.finished.is_some() => {
                Err(Refusal::new(400, format!("session {id} is finished")))
            }
            Some((number, _)) => Ok(*number),
        }
    }
}

/// The samples a promise is among, where it is a sample.
pub(crate) fn group_of<'a>(
    samplers: &'a mut HashMap<String, Sampler>,
    place: &Place,
) -> Option<&'a mut Group> {
    let Place::Sampler { id, seq_id } = place else { return None };
    samplers.get_mut(id)?.groups.get_mut(&(seq_id / CLONE_BLOCK))
}
