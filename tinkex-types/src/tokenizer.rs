//! The tokenizer seam and the smallest tokenizer there is.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

/// Turns text into tokens and back. The client's `tokenizers` feature brings one that loads Hugging Face files.
pub trait Tokenizer: Send + Sync {
    /// The tokens of `text`.
    ///
    /// # Errors
    /// Where the text cannot be encoded.
    fn encode(&self, text: &str) -> Result<Vec<i32>, TokenizerError>;

    /// The text of `tokens`. Bytes that are not UTF-8 come out as replacement characters.
    ///
    /// # Errors
    /// Where a token is not in the vocabulary.
    fn decode(&self, tokens: &[i32]) -> Result<String, TokenizerError>;

    /// The special tokens, where the tokenizer knows them.
    fn special_tokens(&self) -> SpecialTokens {
        SpecialTokens::default()
    }
}

/// Ids of special tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpecialTokens {
    /// Beginning of sequence.
    pub bos: Option<i32>,
    /// End of sequence.
    pub eos: Option<i32>,
    /// Padding.
    pub pad: Option<i32>,
}

impl SpecialTokens {
    /// The given ids.
    pub fn new(bos: Option<i32>, eos: Option<i32>, pad: Option<i32>) -> Self {
        Self { bos, eos, pad }
    }
}

/// What a tokenizer could not do.
#[derive(Debug)]
pub struct TokenizerError {
    message: Cow<'static, str>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl TokenizerError {
    /// An error without a cause.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for TokenizerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for TokenizerError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

/// One token per byte, 0 to 255; end of sequence is 0. The vocabulary of the testkit's language model.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByteTokenizer;

impl Tokenizer for ByteTokenizer {
    fn encode(&self, text: &str) -> Result<Vec<i32>, TokenizerError> {
        Ok(text.bytes().map(i32::from).collect())
    }

    fn decode(&self, tokens: &[i32]) -> Result<String, TokenizerError> {
        let bytes: Result<Vec<u8>, _> = tokens
            .iter()
            .map(|token| {
                u8::try_from(*token).map_err(|_| TokenizerError::new(format!("{token} is not a byte")))
            })
            .collect();
        Ok(String::from_utf8_lossy(&bytes?).into_owned())
    }

    fn special_tokens(&self) -> SpecialTokens {
        SpecialTokens::new(None, Some(0), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back() {
        let tokens = ByteTokenizer.encode("Grüß Gott").unwrap();
        assert_eq!(ByteTokenizer.decode(&tokens).unwrap(), "Grüß Gott");
        assert_eq!(ByteTokenizer.decode(&[256]).unwrap_err().to_string(), "256 is not a byte");
    }
}
