//! What a test can ask the service about training.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::Service;
use super::runs::{Phase, Run};

/// The most gaps that are told.
const MOST_GAPS: usize = 1000;

/// One training run, as the service remembers it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunInfo {
    /// Its model id.
    pub model_id: String,
    /// The id of its session.
    pub session: String,
    /// The base model; empty as long as the run is to be made from a checkpoint.
    pub base_model: String,
    /// The rank of its adapter; 0 as long as the run is to be made from a checkpoint.
    pub rank: u64,
    /// `optimizer_config` (PROTOCOL 11.1).
    pub optimizer: Value,
    /// The sequence ids of accepted operations in order of arrival; the last ones where there were very many.
    pub seq_ids: Vec<u64>,
    /// Sequence ids in the order in which their turn came, of operations that failed too; the last ones where there
    /// were very many.
    pub executed: Vec<u64>,
    /// Sequence ids of requests that were refused and not accepted later, ascending.
    pub refused: Vec<u64>,
    /// Sequence ids of accepted operations that wait for earlier ids, ascending.
    pub waiting: Vec<u64>,
    /// Optimizer steps that were carried out.
    pub steps: u64,
    /// Whether it was unloaded, or its creation failed.
    pub unloaded: bool,
    gaps: Vec<u64>,
}

impl RunInfo {
    /// The ids below the highest used that no request came with, ascending; the first thousand. A server that carries
    /// operations out in order waits for the first of them for ever.
    pub fn gaps(&self) -> Vec<u64> {
        self.gaps.clone()
    }

    /// Whether the operations were carried out in the order of their ids.
    pub fn is_ordered(&self) -> bool {
        self.executed.is_sorted()
    }

    fn of(run: &Run) -> Self {
        Self {
            model_id: run.model_id.clone(),
            session: run.session_id.clone(),
            base_model: run.base_model.clone(),
            rank: run.lora["rank"].as_u64().unwrap_or(0),
            optimizer: run.optimizer.clone(),
            seq_ids: run.order.arrived(),
            executed: run.executed.iter().copied().collect(),
            refused: run.order.refused(),
            waiting: run.order.waiting(),
            steps: run.steps,
            unloaded: run.phase == Phase::Over,
            gaps: run.order.gaps(MOST_GAPS),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "model_id": self.model_id,
            "session_id": self.session,
            "base_model": self.base_model,
            "rank": self.rank,
            "optimizer_config": self.optimizer,
            "seq_ids": self.seq_ids,
            "executed": self.executed,
            "refused": self.refused,
            "waiting": self.waiting,
            "gaps": self.gaps(),
            "steps": self.steps,
            "unloaded": self.unloaded,
        })
    }
}

/// One checkpoint, as the service remembers it.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointInfo {
    /// Its path.
    pub path: String,
    /// The base model.
    pub base_model: String,
    /// `training`, `sampler`, `external`, or `registered` where a test or an option put it there.
    pub kind: &'static str,
    /// The rank of its weights.
    pub rank: u64,
    /// What the save said about it; null for nothing.
    pub user_metadata: Value,
    /// How long it has to live; none for ever.
    pub expires_in: Option<Duration>,
}

impl Service {
    /// All training runs, by model id, caught up with the clock, but for what another thread is just working on.
    pub fn runs(&self) -> Vec<RunInfo> {
        self.work_off_all();
        self.state().runs.values().map(RunInfo::of).collect()
    }

    /// A training run, caught up with the clock, but for what another thread is just working on.
    pub fn run(&self, model_id: &str) -> Option<RunInfo> {
        self.work_off(model_id, None);
        self.state().runs.get(model_id).map(RunInfo::of)
    }

    /// The checkpoint at a path, unless it has expired.
    pub fn checkpoint(&self, path: &str) -> Option<CheckpointInfo> {
        self.work_off_all();
        let state = self.state();
        let checkpoint = state.checkpoints.get(path)?;
        let now = Instant::now();
        Some(CheckpointInfo {
            path: path.to_owned(),
            base_model: checkpoint.base_model.clone(),
            kind: checkpoint.kind.as_str(),
            rank: checkpoint.rank(),
            user_metadata: checkpoint.user_metadata.clone(),
            expires_in: checkpoint.expires.map(|expires| expires.saturating_duration_since(now)),
        })
    }
}
