//! Losses that are computed by the caller (PROTOCOL 13): what a loss is given, what it returns, and losses that come
//! with the crate.

mod logprobs;
mod loss_fn;
pub mod losses;
mod output;
mod targets;

pub use logprobs::Logprobs;
pub use loss_fn::{BoxError, CustomLossFn};
pub use output::CustomLossOutput;
