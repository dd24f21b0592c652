//! Sampling: the client, and the life of a sample from the call to its result (PROTOCOL 15).

mod builder;
mod client;
mod handle;
mod lifecycle;
mod model_path;
mod progress;
mod progress_line;
mod result;
mod sequence;

pub use builder::SamplingClientBuilder;
pub(crate) use builder::{SamplerOptions, StuckDetection, open};
pub(crate) use client::Sampler;
pub use client::{SampleOptions, SamplingClient};
pub use handle::SampleHandle;
pub use model_path::ModelPath;
pub(crate) use sequence::SequenceIds;
