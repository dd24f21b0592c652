//! A deterministic byte-level language model: the mind of the fake service.
//!
//! The vocabulary is the 256 byte values, so a token *is* a byte and text needs no tokenizer file. The model is an
//! interpolated n-gram model of order [`ORDER`], counted once from a few kilobytes of prose in this crate, with
//! real probabilities: every byte has a positive one, they sum to one, and everything the service reports
//! (logprobs, alternatives, prompt logprobs) is computed from them.
//!
//! * Byte 0 is the end of a text ([`END_OF_TEXT`]): the corpus is a list of texts without line ends, and every text
//!   is preceded and followed by it. A context shorter than the model's memory is taken for the start of a text.
//! * Tokens outside `0..256` count as their value modulo 256, wherever they appear.
//! * Only the last [`MEMORY`] tokens of a context matter, so the cost of a sample does not depend on its prompt.
//! * Models of different names differ by a small fixed tilt of their log-probabilities, so that a sample shows
//!   which model it came from. A trained model is the same base with an [`Adapter`] on top, which a
//!   [`Learner`](crate::learner::Learner) trains.
//! * All arithmetic is IEEE's basic operations in a fixed order, so equal questions have equal answers to the last
//!   bit, on every machine.
//!
//! ```
//! use tinkex_testkit::model::{GenerationPlan, LanguageModel, Stop};
//!
//! let model = LanguageModel::named("Qwen/Qwen3-8B");
//! let prompt: Vec<i32> = b"The model ".iter().map(|&byte| i32::from(byte)).collect();
//! let plan = GenerationPlan { max_tokens: 16, temperature: 0.0, ..GenerationPlan::default() };
//! let text = model.generate(&prompt, &plan, 0);
//! assert_eq!(text.tokens.len(), text.logprobs.len());
//! assert!(text.logprobs.iter().all(|logprob| *logprob <= 0.0));
//! ```

mod adapter;
mod elementary;
mod generate;
mod language_model;
mod ngram;
mod random;
mod score;

pub use adapter::{ACTIVE_FEATURES, ActiveFeatures, Adapter, FEATURES, LowRank};
pub(crate) use elementary::exp;
pub use generate::{Finish, Generation, GenerationPlan, Stop};
pub use language_model::{Distribution, LanguageModel};
pub(crate) use language_model::{History, logprob, normalise};
pub use ngram::ORDER;
pub use random::SplitMix64;
pub(crate) use random::stable_hash;
pub use score::{PromptQuestions, PromptScores, TargetCells, Targets, TargetsError};

/// Number of tokens a model knows: one for each byte value.
pub const VOCABULARY: usize = 256;

/// How many tokens of a context a model looks at: a base model fewer ([`ORDER`] − 1), its adapter all of them.
pub const MEMORY: usize = 16;

/// The token that ends a text. Sampling stops at it unless the request says otherwise.
pub const END_OF_TEXT: i32 = 0;

/// The byte a token stands for: its value modulo 256, also for negative tokens.
pub fn byte_of(token: i32) -> u8 {
    token.rem_euclid(256) as u8
}
