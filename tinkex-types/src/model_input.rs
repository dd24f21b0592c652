//! Prompts.

use serde::{Deserialize, Serialize};

use crate::{AudioChunk, Chunk, ImageAssetPointerChunk, ImageChunk, Tokenizer, TokenizerError, Tokens};

/// What a model reads: chunks of text, images and audio, in order. Cloning shares the buffers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelInput {
    chunks: Vec<Chunk>,
}

impl ModelInput {
    /// A prompt of the given chunks.
    pub fn new(chunks: Vec<Chunk>) -> Self {
        Self { chunks }
    }

    /// A prompt of token ids.
    pub fn from_ints(tokens: impl Into<Tokens>) -> Self {
        Self::new(vec![Chunk::text(tokens)])
    }

    /// A prompt of text, encoded with `tokenizer` (S1-19).
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn from_text(text: &str, tokenizer: &(impl Tokenizer + ?Sized)) -> Result<Self, TokenizerError> {
        tokenizer.encode(text).map(Self::from_ints)
    }

    /// Adds tokens, as a chunk of their own.
    #[must_use]
    pub fn with_tokens(mut self, tokens: impl Into<Tokens>) -> Self {
        self.chunks.push(Chunk::text(tokens));
        self
    }

    /// Adds an image.
    #[must_use]
    pub fn with_image(mut self, image: ImageChunk) -> Self {
        self.chunks.push(Chunk::Image(image));
        self
    }

    /// Adds an image that the service already holds.
    #[must_use]
    pub fn with_image_asset(mut self, pointer: ImageAssetPointerChunk) -> Self {
        self.chunks.push(Chunk::ImageAssetPointer(pointer));
        self
    }

    /// Adds audio.
    #[must_use]
    pub fn with_audio(mut self, audio: AudioChunk) -> Self {
        self.chunks.push(Chunk::Audio(audio));
        self
    }

    /// The chunks, in order.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// The number of context positions; none where an image states no expected tokens.
    pub fn token_count(&self) -> Option<usize> {
        self.chunks.iter().try_fold(0usize, |sum, chunk| sum.checked_add(chunk.token_count()?))
    }

    /// The token ids of the text chunks, in order; images and audio have none.
    pub fn tokens(&self) -> impl Iterator<Item = i32> + '_ {
        self.chunks
            .iter()
            .flat_map(|chunk| match chunk {
                Chunk::EncodedText { tokens } => tokens.as_slice(),
                _ => &[],
            })
            .copied()
    }

    /// True where there is nothing to read: no chunk, or only text chunks without tokens.
    pub fn is_empty(&self) -> bool {
        self.chunks.iter().all(|chunk| matches!(chunk, Chunk::EncodedText { tokens } if tokens.is_empty()))
    }
}

impl From<Vec<i32>> for ModelInput {
    fn from(tokens: Vec<i32>) -> Self {
        Self::from_ints(tokens)
    }
}
