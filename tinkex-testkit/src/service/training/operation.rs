//! The operations of a training run, read and checked.

use std::time::Duration;

use serde_json::Value;

use super::checkpoints::CheckpointKind;
use super::decode::Batch;
use crate::learner::{LearnerSpec, OptimizerStep};

/// One operation of a run.
#[derive(Debug)]
pub(crate) enum Operation {
    /// The first of every run.
    Create(Creation),
    ForwardBackward(Batch),
    OptimStep(OptimizerStep),
    Save(Save),
    Publish(Publish),
    Load(Load),
    /// The last of a run.
    Unload,
    /// An accepted request that turned out not to be possible: it fails in its turn, for this reason.
    Broken(String),
}

/// How a run begins.
#[derive(Debug)]
pub(crate) enum Creation {
    Untrained(LearnerSpec),
    /// From a checkpoint. The base model that was named beside it must be the checkpoint's.
    Loaded {
        load: Load,
        base_model: Option<String>,
    },
}

/// A named save.
#[derive(Debug)]
pub(crate) struct Save {
    pub(crate) kind: CheckpointKind,
    pub(crate) path: String,
    /// The type of the answer.
    pub(crate) answer: &'static str,
    pub(crate) overwrite: bool,
    pub(crate) ttl: Option<Duration>,
    pub(crate) user_metadata: Value,
    /// Whether the samplers that follow the run get these weights.
    pub(crate) inflight: bool,
}

/// An unnamed save for sampling: it makes a sampling session.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) sampler: String,
    pub(crate) inflight: bool,
}

#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) path: String,
    pub(crate) optimizer: bool,
    /// Whether the path is answered in the form `sessions/…`.
    pub(crate) session_paths: bool,
}
