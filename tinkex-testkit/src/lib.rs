//! tinkex-testkit

mod behaviour;
mod exchange;

pub use behaviour::{Behaviour, NoBehaviour};
pub use exchange::{PROTOBUF, Received, Reply};

// --- the stateful service and its language model ---
pub mod model;
pub mod service;
