//! Where the tokens of a datum come from (PROTOCOL 12.3).

use std::sync::Arc;

use crate::InvalidInput;

/// A run of tokens and the sampled sequence it was taken from (PROTOCOL 12.3).
///
/// The spans of a datum tile a field: in order and without gaps they cover all its tokens. The ids are those of
/// [`SampledSequence::sequence_id`](crate::SampledSequence::sequence_id).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProvenanceSpan {
    /// Tokens of the prompt of a sequence.
    Prompt {
        /// The sequence.
        sequence_id: Arc<str>,
        /// The first token, counted from the start of the prompt.
        offset: u64,
        /// How many tokens.
        length: u64,
    },
    /// Tokens that were generated for a sequence.
    Sampled {
        /// The sequence.
        sequence_id: Arc<str>,
        /// The first token, counted from the start of the generated tokens.
        offset: u64,
        /// How many tokens.
        length: u64,
    },
}

impl ProvenanceSpan {
    /// `length` tokens of the prompt of a sequence, from `offset`.
    pub fn prompt(sequence_id: impl Into<Arc<str>>, offset: u64, length: u64) -> Self {
        Self::Prompt { sequence_id: sequence_id.into(), offset, length }
    }

    /// `length` generated tokens of a sequence, from `offset`.
    pub fn sampled(sequence_id: impl Into<Arc<str>>, offset: u64, length: u64) -> Self {
        Self::Sampled { sequence_id: sequence_id.into(), offset, length }
    }

    /// The sequence the tokens come from.
    pub fn sequence_id(&self) -> &str {
        match self {
            Self::Prompt { sequence_id, .. } | Self::Sampled { sequence_id, .. } => sequence_id,
        }
    }

    /// The position of the first token.
    pub fn offset(&self) -> u64 {
        match self {
            Self::Prompt { offset, .. } | Self::Sampled { offset, .. } => *offset,
        }
    }

    /// How many tokens.
    pub fn length(&self) -> u64 {
        match self {
            Self::Prompt { length, .. } | Self::Sampled { length, .. } => *length,
        }
    }
}

/// Checks that `spans` are well formed and cover `tokens` tokens; none leaves the sum unchecked.
pub(crate) fn check_tiling(
    field: &'static str,
    spans: &[ProvenanceSpan],
    tokens: Option<u64>,
) -> Result<(), InvalidInput> {
    const LARGEST: u64 = i64::MAX as u64; // the wire has int64
    if spans.iter().any(|span| span.sequence_id().is_empty()) {
        return Err(InvalidInput::new(field, "must name a sequence in every span"));
    }
    if spans.iter().any(|span| span.offset() > LARGEST || span.length() > LARGEST) {
        return Err(InvalidInput::new(field, "must have offsets and lengths of at most 2^63 - 1"));
    }
    let covered = spans.iter().map(ProvenanceSpan::length).fold(0, u64::saturating_add);
    match tokens {
        Some(tokens) if tokens != covered => {
            Err(InvalidInput::new(field, format!("must cover {tokens} tokens, not {covered}")))
        }
        _ => Ok(()),
    }
}
