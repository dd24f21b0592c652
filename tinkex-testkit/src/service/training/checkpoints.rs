//! Saved weights by path, until they expire (PROTOCOL 14).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tokio::time::Instant;

use super::super::Service;
use super::super::state::State;
use crate::learner::{Learner, LearnerCheckpoint, LearnerSpec};
use crate::model::LanguageModel;

/// The rank a run gets that is made from a checkpoint without weights.
const DEFAULT_RANK: usize = 32;

/// What is at a path.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) base_model: String,
    pub(crate) kind: CheckpointKind,
    /// None where only the path was registered.
    pub(crate) weights: Option<LearnerCheckpoint>,
    /// `lora_config` of its run, where that is known.
    pub(crate) lora: Option<Value>,
    pub(crate) optimizer: Value,
    pub(crate) user_metadata: Value,
    pub(crate) expires: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckpointKind {
    /// Good for everything: nobody knows what it is.
    Registered,
    Training,
    Sampler,
    External,
}

impl CheckpointKind {
    /// The wire word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Training => "training",
            Self::Sampler => "sampler",
            Self::External => "external",
        }
    }
}

impl Checkpoint {
    /// A path and no more.
    pub(crate) fn registered(base_model: &str) -> Self {
        Self {
            base_model: base_model.to_owned(),
            kind: CheckpointKind::Registered,
            weights: None,
            lora: None,
            optimizer: serde_json::json!({ "type": "adamw" }),
            user_metadata: Value::Null,
            expires: None,
        }
    }

    /// The model a sampler of this path has; none where nothing may be sampled from it.
    pub(crate) fn sampled_model(&self, path: &str) -> Option<LanguageModel> {
        match (self.kind, &self.weights) {
            (CheckpointKind::Training | CheckpointKind::External, _) => None,
            (_, Some(weights)) => Some(weights.model()),
            (_, None) => Some(LanguageModel::named(path)),
        }
    }

    /// The weights to train on from; none where it holds no training state.
    pub(crate) fn training_state(&self) -> Option<LearnerCheckpoint> {
        match self.kind {
            CheckpointKind::Sampler | CheckpointKind::External => None,
            CheckpointKind::Training => self.weights.clone(),
            CheckpointKind::Registered => {
                let spec =
                    LearnerSpec { base_model: self.base_model.clone(), rank: DEFAULT_RANK as u32, seed: 0 };
                Some(Learner::new(&spec).checkpoint())
            }
        }
    }

    pub(crate) fn rank(&self) -> u64 {
        self.weights.as_ref().map_or(DEFAULT_RANK as u64, |weights| u64::from(weights.spec().rank))
    }
}

/// All checkpoints that have not expired.
#[derive(Default)]
pub(crate) struct Checkpoints {
    by_path: BTreeMap<String, Checkpoint>,
    expiries: BTreeSet<(Instant, String)>,
    /// How many copies were made without a key to tell them by.
    pub(crate) copies: u64,
}

impl Checkpoints {
    pub(crate) fn get(&self, path: &str) -> Option<&Checkpoint> {
        self.by_path.get(path)
    }

    /// Puts a checkpoint at a path, in place of what was there.
    pub(crate) fn insert(&mut self, path: &str, checkpoint: Checkpoint) {
        let expires = checkpoint.expires;
        let before = self.by_path.insert(path.to_owned(), checkpoint);
        if let Some(old) = before.and_then(|before| before.expires) {
            self.expiries.remove(&(old, path.to_owned()));
        }
        if let Some(expires) = expires {
            self.expiries.insert((expires, path.to_owned()));
        }
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.by_path.keys().cloned().collect()
    }
}

impl Service {
    /// Carries out what is due where there is nothing at a path yet: a save may be among it.
    pub(crate) fn await_checkpoint(&self, path: &str) {
        let missing = self.state().checkpoints.get(path).is_none();
        if missing {
            self.work_off_all();
        }
    }
}

impl State {
    pub(crate) fn drop_expired(&mut self, now: Instant) {
        let checkpoints = &mut self.checkpoints;
        while checkpoints.expiries.first().is_some_and(|(expires, _)| *expires <= now)
            && let Some((_, path)) = checkpoints.expiries.pop_first()
        {
            checkpoints.by_path.remove(&path);
        }
    }
}
