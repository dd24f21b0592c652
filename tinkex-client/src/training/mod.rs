//! Training: the client, and the life of an operation from the call to its result (PROTOCOL 11 to 14).
//!
//! An operation takes its place at the call ([`turns`]), and a task of its own waits for the turn, draws the sequence
//! id ([`sequence`]), submits ([`submission`], in one of two forms: [`wire_format`]), passes the turn on and fetches the
//! result ([`fetch`]). What a failed submission may leave behind is put right in the turns that follow ([`filler`]).

mod batch;
mod builder;
mod call;
mod client;
mod copy;
mod create;
mod dispatch;
mod fetch;
mod filler;
mod from_state;
mod handle;
mod json_operation;
mod load;
mod pass;
mod save;
mod sequence;
mod snapshot;
mod submission;
mod turns;
mod wire_format;

pub(crate) use batch::Batch;
pub use builder::TrainingClientBuilder;
pub(crate) use call::{Call, Operation, refuse, start};
pub(crate) use client::Trainer;
pub use client::TrainingClient;
pub use copy::CopyWeights;
pub(crate) use dispatch::TrainingDispatch;
pub(crate) use fetch::read_json;
pub use from_state::FromStateBuilder;
pub use handle::TrainingHandle;
pub use load::LoadState;
pub use save::{Checkpoint, SamplerCheckpoint, SaveExternalWeights, SaveSamplerWeights, SaveState};
pub(crate) use sequence::SequenceState;
pub use snapshot::SamplingSnapshot;
pub use wire_format::WireFormat;
