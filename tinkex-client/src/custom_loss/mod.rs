//! Losses that are not built into the server (PROTOCOL 13): computed here from log-probabilities, or described as a
//! graph that the server, or else this crate, evaluates.

mod any;
mod create;
mod handle;
mod logprobs;
mod loss_fn;
pub mod losses;
mod output;
mod passes;
mod registry;
mod targets;
mod two_passes;

pub use any::AnyCustomLoss;
pub use handle::CustomLossHandle;
pub use logprobs::Logprobs;
pub use loss_fn::{BoxError, CustomLossFn};
pub use output::CustomLossOutput;
pub(crate) use registry::CustomLosses;
