//! What a model reads, as JSON: chunks of text, pictures and sounds (PROTOCOL 21).

use serde::Deserialize;

use super::refusal::Refusal;
use crate::model::END_OF_TEXT;

/// The most positions one picture or sound may stand for.
const MAX_CHUNK_POSITIONS: i64 = 65_536;

#[derive(Deserialize)]
pub(crate) struct Prompt {
    chunks: Vec<Chunk>,
}

/// Any chunk: text has tokens, the others have bytes or a place and perhaps the number of their positions. The type
/// may be missing (PROTOCOL 23).
#[derive(Deserialize)]
struct Chunk {
    tokens: Option<Vec<i32>>,
    data: Option<String>,
    location: Option<String>,
    dmel: Option<String>,
    expected_tokens: Option<i64>,
}

impl Prompt {
    /// All positions, at most `limit`. What is not text stands for as many ends of text as it says it takes, or one.
    pub(crate) fn into_tokens(self, limit: usize) -> Result<Vec<i32>, Refusal> {
        let mut tokens = Vec::new();
        for chunk in self.chunks {
            if let Some(text) = chunk.tokens {
                tokens.extend(text);
            } else if chunk.data.is_some() || chunk.location.is_some() || chunk.dmel.is_some() {
                let positions = chunk.expected_tokens.unwrap_or(1);
                append_positions(&mut tokens, positions).map_err(|detail| Refusal::new(400, detail))?;
            } else {
                return Err(Refusal::new(
                    422,
                    "prompt.chunks: a chunk is neither text nor picture nor sound",
                ));
            }
            within(limit, &tokens).map_err(|detail| Refusal::new(400, detail))?;
        }
        Ok(tokens)
    }
}

/// Adds the positions of a picture or a sound.
pub(crate) fn append_positions(tokens: &mut Vec<i32>, positions: i64) -> Result<(), String> {
    if !(0..=MAX_CHUNK_POSITIONS).contains(&positions) {
        return Err(format!("expected_tokens of {positions} is out of range"));
    }
    tokens.extend(std::iter::repeat_n(END_OF_TEXT, positions as usize));
    Ok(())
}

/// Checked after each chunk, so that a long list of chunks cannot grow without bound.
pub(crate) fn within(limit: usize, tokens: &[i32]) -> Result<(), String> {
    if tokens.len() <= limit {
        return Ok(());
    }
    Err(format!("{} tokens exceed the limit of {limit}", tokens.len()))
}
