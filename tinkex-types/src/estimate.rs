//! How many bytes a request is taken to weigh, for the dispatch budgets (PROTOCOL 12.5, 15.4).

use crate::{Chunk, ModelInput};

/// Estimated bytes per prompt token of a sampling request.
pub const SAMPLE_BYTES_PER_TOKEN: u64 = 10;

impl ModelInput {
    /// The weight of the prompt in a sampling request: 10 bytes a token, raw bytes of images and audio, characters
    /// of an asset's location.
    pub fn sample_bytes(&self) -> u64 {
        self.chunks()
            .iter()
            .map(|chunk| match chunk {
                Chunk::EncodedText { tokens } => SAMPLE_BYTES_PER_TOKEN.saturating_mul(tokens.len() as u64),
                Chunk::Image(image) => image.data.len() as u64,
                Chunk::Audio(audio) => audio.dmel.len() as u64,
                Chunk::ImageAssetPointer(pointer) => pointer.location.chars().count() as u64,
            })
            .fold(0, u64::saturating_add)
    }
}
