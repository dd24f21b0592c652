//! A fake Tinker server to test against, offline and in milliseconds.

mod assertions;
mod behaviour;
mod chaos;
mod control;
mod core;
mod exchange;
mod gate;
mod log;
mod memory;
mod outcome;
mod route;
mod script;
mod server;
mod socket;
mod step;
mod wire;

pub use behaviour::{Behaviour, NoBehaviour};
pub use chaos::{Chaos, ChaosFault};
pub use core::ChaosStrike;
pub use exchange::{PROTOBUF, Received, Reply};
pub use gate::Gate;
pub use script::Script;
pub use server::{FakeServer, Unmet};
pub use socket::SocketServer;
pub use step::Step;

// --- the stateful service and its language model ---

/// What [`FakeServer::new`] stands on.
fn default_behaviour() -> impl Behaviour {
    NoBehaviour
}
