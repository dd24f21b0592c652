//! The wire types of the Tinker API, without I/O.

mod error_category;
mod observer;
pub mod proto;
mod queue_state;
mod request_type;

pub use error_category::ErrorCategory;
pub use observer::{ClientKind, QueueStateChange, QueueStateObserver};
pub use queue_state::QueueState;
pub use request_type::RequestType;
