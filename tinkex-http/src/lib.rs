//! A retrying, swappable HTTP layer.

mod body;
mod call_class;
mod transport;
mod transport_error;

pub use body::Body;
pub use call_class::CallClass;
pub use transport::{SharedTransport, Transport};
pub use transport_error::{TransportError, TransportErrorKind};
