//! Prompts.

use serde::{Deserialize, Serialize};

use crate::{
    AudioChunk, Chunk, ImageAssetPointerChunk, ImageChunk, InvalidInput, Tokenizer, TokenizerError, Tokens,
    token_text,
};

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

    /// Writes what `Serialize` says as JSON, with the tokens of text chunks by the faster writer.
    pub(crate) fn write_json(&self, text: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        text.extend_from_slice(b"{\"chunks\":[");
        for (n, chunk) in self.chunks.iter().enumerate() {
            if n > 0 {
                text.push(b',');
            }
            match chunk {
                Chunk::EncodedText { tokens } => {
                    text.extend_from_slice(b"{\"type\":\"encoded_text\",\"tokens\":");
                    token_text::write(text, tokens);
                    text.push(b'}');
                }
                other => serde_json::to_writer(&mut *text, other)?,
            }
        }
        text.extend_from_slice(b"]}");
        Ok(())
    }

    /// Checks what can be known of the chunks before sending; `field` is what errors call the input.
    pub(crate) fn check_chunks(&self, field: &'static str) -> Result<(), InvalidInput> {
        for chunk in &self.chunks {
            match chunk {
                // A fold over the signs takes many tokens at a time; a search takes one.
                Chunk::EncodedText { tokens } if tokens.iter().fold(0, |signs, token| signs | token) < 0 => {
                    if let Some(token) = tokens.iter().find(|t| **t < 0) {
                        let problem = format!("must not contain the negative token {token}");
                        return Err(InvalidInput::new(field, problem));
                    }
                }
                Chunk::Image(image) if image.data.is_empty() => {
                    return Err(InvalidInput::new(field, "must not contain an image without bytes"));
                }
                Chunk::ImageAssetPointer(pointer) if pointer.location.trim().is_empty() => {
                    return Err(InvalidInput::new(
                        field,
                        "must not contain an image asset without a location",
                    ));
                }
                Chunk::Audio(audio) if audio.shape().is_none() => {
                    return Err(InvalidInput::new(field, "contains audio whose DMel header is malformed"));
                }
                _ => {}
            }
        }
        Ok(())
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
