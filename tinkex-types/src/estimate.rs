//! How many bytes a request is taken to weigh, for chunking and the dispatch budgets (PROTOCOL 12.5, 15.4).

use crate::{Chunk, DType, Datum, ModelInput, TensorData};

/// Estimated bytes per prompt token of a sampling request.
pub const SAMPLE_BYTES_PER_TOKEN: u64 = 10;

/// Estimated bytes per token of a training request.
const TRAINING_BYTES_PER_TOKEN: u64 = 4;

fn sum(parts: impl Iterator<Item = u64>) -> u64 {
    parts.fold(0, u64::saturating_add)
}

impl ModelInput {
    /// The weight of the prompt in a sampling request: 10 bytes a token, raw bytes of images and audio, characters
    /// of an asset's location.
    pub fn sample_bytes(&self) -> u64 {
        self.estimated_bytes(SAMPLE_BYTES_PER_TOKEN)
    }

    fn estimated_bytes(&self, per_token: u64) -> u64 {
        sum(self.chunks().iter().map(|chunk| match chunk {
            Chunk::EncodedText { tokens } => per_token.saturating_mul(tokens.len() as u64),
            Chunk::Image(image) => image.data.len() as u64,
            Chunk::Audio(audio) => audio.dmel.len() as u64,
            Chunk::ImageAssetPointer(pointer) => pointer.location.chars().count() as u64,
        }))
    }
}

impl TensorData {
    /// The weight of the tensor in a training request: 4 bytes a float, 8 an integer and a CSR index.
    pub fn estimated_bytes(&self) -> u64 {
        let element = match self.dtype() {
            DType::Float32 => 4,
            DType::Int64 => 8,
        };
        let indices = self.csr().map_or(0, |csr| csr.crow.len() + csr.col.len()) as u64;
        (self.values().len() as u64).saturating_mul(element).saturating_add(indices.saturating_mul(8))
    }
}

impl Datum {
    /// The weight of the example in a training request: 4 bytes a token, raw bytes of images and audio, characters of
    /// an asset's location, and its tensors (PROTOCOL 12.5).
    pub fn estimated_bytes(&self) -> u64 {
        let tensors = sum(self.loss_fn_inputs.values().map(TensorData::estimated_bytes));
        self.model_input.estimated_bytes(TRAINING_BYTES_PER_TOKEN).saturating_add(tensors)
    }
}
