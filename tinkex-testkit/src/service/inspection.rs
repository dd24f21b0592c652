//! What a test can ask the service about.

use serde_json::{Value, json};
use tinkex_types::QueueState;

use super::{RunInfo, Service};

/// One session, as the service remembers it.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionInfo {
    /// Its id.
    pub id: String,
    /// The body of `create_session`.
    pub request: Value,
    /// How many heartbeats came.
    pub heartbeats: u64,
    /// The body of `finish`, once it came.
    pub finished: Option<Value>,
    /// The ids of its sampling sessions, in alphabetical order.
    pub samplers: Vec<String>,
}

/// One sampling session, as the service remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamplerInfo {
    /// The base model.
    pub base_model: String,
    /// The path it was made from, where it was.
    pub model_path: Option<String>,
    /// How many clones have joined.
    pub joined: u64,
    /// The sequence ids of accepted samples, in order of arrival; the last ones where there were very many.
    pub seq_ids: Vec<u64>,
}

impl Service {
    /// All sessions, oldest first.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        let state = self.state();
        let samplers = |number: u64| {
            let own = state.samplers.iter().filter(|(_, sampler)| sampler.session == number);
            let mut ids: Vec<String> = own.map(|(id, _)| id.clone()).collect();
            ids.sort();
            ids
        };
        let info = |(number, session): (&u64, &super::state::Session)| SessionInfo {
            id: session.id.clone(),
            request: session.body.clone(),
            heartbeats: session.heartbeats,
            finished: session.finished.clone(),
            samplers: samplers(*number),
        };
        state.sessions.iter().map(info).collect()
    }

    /// How many heartbeats a session sent; 0 where it is unknown.
    pub fn heartbeats(&self, session: &str) -> u64 {
        self.state().session_mut(session).map_or(0, |session| session.heartbeats)
    }

    /// A sampling session.
    pub fn sampler(&self, id: &str) -> Option<SamplerInfo> {
        let state = self.state();
        let sampler = state.samplers.get(id)?;
        Some(SamplerInfo {
            base_model: sampler.base_model.clone(),
            model_path: sampler.model_path.clone(),
            joined: sampler.joined,
            seq_ids: sampler.seq_ids.iter().copied().collect(),
        })
    }

    /// The sequence ids of the accepted samples of a sampling session, in order of arrival.
    pub fn seq_ids(&self, sampler: &str) -> Vec<u64> {
        self.sampler(sampler).map(|info| info.seq_ids).unwrap_or_default()
    }

    /// How many samples were accepted; a repeated request does not count again.
    pub fn samples_accepted(&self) -> u64 {
        self.state().records.accepted
    }

    /// How many samples were answered with 429.
    pub fn samples_refused(&self) -> u64 {
        self.state().records.refused_over_limit
    }

    /// Samples accepted and neither finished nor cancelled.
    pub fn in_progress(&self) -> usize {
        self.state().samples_in_progress
    }

    /// The most samples that were ever in progress together.
    pub fn most_in_progress(&self) -> usize {
        self.state().records.most_in_progress
    }

    /// Promises that are remembered, finished ones included.
    pub fn promises(&self) -> usize {
        self.state().promises.len()
    }

    /// The request ids that `cancel_future` came for, in order.
    pub fn cancelled(&self) -> Vec<String> {
        self.state().records.cancelled.iter().cloned().collect()
    }

    /// The telemetry events that came, in order.
    pub fn telemetry_events(&self) -> Vec<Value> {
        self.state().records.telemetry.iter().cloned().collect()
    }

    /// The state of the queue all samples are in.
    pub fn queue_state(&self) -> QueueState {
        self.state().queue().state
    }

    /// The paths of all checkpoints that have not expired, in alphabetical order.
    pub fn checkpoints(&self) -> Vec<String> {
        self.work_off_all();
        self.state().checkpoints.paths()
    }

    /// All of it as JSON, as the control command `state` tells it.
    pub(crate) fn snapshot(&self) -> Value {
        let sessions: Vec<Value> = self
            .sessions()
            .into_iter()
            .map(|session| {
                let samplers: Vec<Value> = session
                    .samplers
                    .iter()
                    .filter_map(|id| {
                        let sampler = self.sampler(id)?;
                        Some(json!({
                            "sampling_session_id": id,
                            "base_model": sampler.base_model,
                            "model_path": sampler.model_path,
                            "joined": sampler.joined,
                            "seq_ids": sampler.seq_ids,
                        }))
                    })
                    .collect();
                json!({
                    "session_id": session.id,
                    "request": session.request,
                    "heartbeats": session.heartbeats,
                    "finished": session.finished,
                    "samplers": samplers,
                })
            })
            .collect();
        json!({
            "dialect": self.dialect().name,
            "sessions": sessions,
            "samples_accepted": self.samples_accepted(),
            "samples_refused": self.samples_refused(),
            "in_progress": self.in_progress(),
            "most_in_progress": self.most_in_progress(),
            "promises": self.promises(),
            "cancelled": self.cancelled(),
            "telemetry_events": self.telemetry_events(),
            "queue_state": self.queue_state().as_str(),
            "runs": self.runs().iter().map(RunInfo::to_json).collect::<Vec<_>>(),
            "checkpoints": self.checkpoints(),
        })
    }
}
