//! Feature `tower`: any `tower` service as a [`Transport`](crate::Transport), and any transport as a `tower` service, so
//! that the layers of that ecosystem can stand between this crate and the wire.
//!
//! [`TowerTransport`] makes a transport of a service, [`TransportService`] a service of a transport:
//!
//! ```text
//!   HttpClient ──▶ TowerTransport ──▶ layers ──▶ TransportService ──▶ any Transport
//!   HttpClient ──▶ TowerTransport ──▶ layers ──▶ a client that is a service already
//! ```
//!
//! What the contract of [`Transport`](crate::Transport) forbids, no layer in between may do either: no retries, no
//! redirects to another origin, no credentials. `tinkex_testkit::conformance` tells.

mod body;
mod service;
mod transport;

pub use service::TransportService;
pub use transport::TowerTransport;

/// What `tower` layers fail with.
type BoxError = Box<dyn std::error::Error + Send + Sync>;
