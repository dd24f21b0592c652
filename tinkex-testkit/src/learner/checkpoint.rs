//! Checkpoints of a run: weights and optimizer state at one moment.

use std::sync::Arc;

use super::LearnerSpec;
use super::optimizer::OptimizerState;
use crate::model::{Adapter, FEATURES, LanguageModel, VOCABULARY};

/// Weights and optimizer state of a run at one moment. Cheap to make and to clone: it shares them with the run until
/// the run's next step.
#[derive(Clone, Debug)]
pub struct LearnerCheckpoint(pub(crate) Arc<Contents>);

#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) spec: LearnerSpec,
    pub(crate) base: LanguageModel,
    pub(crate) adapter: Arc<Adapter>,
    pub(crate) optimizer: Arc<OptimizerState>,
}

/// A checkpoint of a run with another base model or another rank.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the checkpoint is of {:?} with rank {}, the run of {:?} with rank {}",
    .checkpoint.base_model, .checkpoint.rank, .run.base_model, .run.rank
)]
pub struct CheckpointMismatch {
    checkpoint: LearnerSpec,
    run: LearnerSpec,
}

impl LearnerCheckpoint {
    /// What the run was made with.
    pub fn spec(&self) -> &LearnerSpec {
        &self.0.spec
    }

    /// The model with the weights of the checkpoint.
    pub fn model(&self) -> LanguageModel {
        self.0.base.with_adapter(self.0.adapter.clone())
    }

    /// Bytes of the weights and of the optimizer state.
    pub fn size_bytes(&self) -> u64 {
        self.weights_size_bytes() + self.0.optimizer.size_bytes()
    }

    /// Bytes of the weights alone: what a sampler needs.
    pub fn weights_size_bytes(&self) -> u64 {
        self.0.adapter.weights().size_bytes()
    }

    /// The weights as a file in the safetensors format: `lora_A.weight` of shape `[rank, features]` and
    /// `lora_B.weight` of shape `[vocabulary, rank]`, both float32; base model and rank are in its metadata. Equal
    /// weights give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let weights = self.0.adapter.weights();
        let rank = weights.rank();
        let (a_bytes, all_bytes) = (4 * rank * FEATURES, 4 * rank * (FEATURES + VOCABULARY));
        let mut header = serde_json::json!({
            "__metadata__": {"base_model": self.0.spec.base_model, "rank": rank.to_string()},
            "lora_A.weight": {"dtype": "F32", "shape": [rank, FEATURES], "data_offsets": [0, a_bytes]},
            "lora_B.weight": {"dtype": "F32", "shape": [VOCABULARY, rank], "data_offsets": [a_bytes, all_bytes]},
        })
        .to_string();
        // The format wants the numbers at a multiple of eight; spaces do not matter to JSON.
        header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
        let mut bytes = Vec::with_capacity(8 + header.len() + all_bytes);
        bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
        bytes.extend_from_slice(header.as_bytes());
        let a = (0..rank).flat_map(|k| weights.a().iter().skip(k).step_by(rank));
        let b = (0..VOCABULARY).flat_map(|byte| weights.b().iter().map(move |column| &column[byte]));
        a.chain(b).for_each(|weight| bytes.extend_from_slice(&weight.to_le_bytes()));
        bytes
    }

    pub(crate) fn must_fit(&self, run: &LearnerSpec) -> Result<(), CheckpointMismatch> {
        if (&self.0.spec.base_model, self.0.spec.rank.max(1)) == (&run.base_model, run.rank.max(1)) {
            return Ok(());
        }
        Err(CheckpointMismatch { checkpoint: self.0.spec.clone(), run: run.clone() })
    }
}
