//! A retrying, swappable HTTP layer for the Tinker API, usable alone for any JSON service.
//!
//! [`HttpClient`] is a fixed pipeline around a [`Transport`]: it encodes a request once, makes attempts under one
//! deadline each, decides by one table which failures are worth another attempt ([`decide`]), waits as the server's
//! hint or the backoff says, shares a [`BackoffGate`] and a [`RetryBudget`] with other clients, and decodes the answer.
//! Nothing above it repeats a call, and nothing below it does.
//!
//! The transport is a seam of one method. `ReqwestTransport` (feature `reqwest`, on by default) is ready-made;
//! implement [`Transport`] to bring another HTTP stack. Feature `rustls` adds TLS, feature `zstd` zstd bodies,
//! feature `tower` makes transports of `tower` services and the other way round.
//!
//! ```
//! use bytes::Bytes;
//! use tinkex_http::{ApiRequest, Body, HttpClient, SharedTransport, Transport, TransportError};
//!
//! struct Canned;
//!
//! impl Transport for Canned {
//!     async fn call(&self, _: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
//!         Ok(http::Response::new(Body::full(r#"{"status":"ok"}"#)))
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let client = HttpClient::builder("https://api.example".parse()?, SharedTransport::new(Canned)).build()?;
//! let response = client.send(&ApiRequest::get("healthz", "/healthz")).await?;
//! let health: serde_json::Value = response.json()?;
//! assert_eq!(health["status"], "ok");
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod addresses;
mod attempt;
mod attempt_metrics;
mod attempt_span;
mod auth;
mod backoff;
mod base_url;
mod billing;
mod body;
mod budget;
mod builder;
mod call;
mod call_class;
mod classify;
mod client;
mod content_encoding;
mod credential_shape;
mod deprecation;
mod edge;
mod error;
mod first_contact;
mod gate;
mod headers;
mod idempotency;
mod jitter;
mod policy;
mod progress;
mod redact;
mod replay;
mod request;
#[cfg(feature = "reqwest")]
mod reqwest_transport;
mod response;
mod retry_after;
mod retry_log;
#[cfg(feature = "tower")]
mod tower;
mod trace_context;
mod transport;
mod transport_error;
mod uuid;
mod wall_clock;

// What stands in the signatures of this crate, so that its users need name no other.
pub use bytes;
pub use http;
pub use secrecy;
pub use tinkex_types::{ErrorCategory, InvalidInput};

pub use auth::{ApiKey, AuthError, AuthProvider, CredentialFuture, NoAuth};
pub use backoff::Backoff;
pub use base_url::BaseUrl;
pub use body::Body;
pub use budget::RetryBudget;
pub use builder::HttpClientBuilder;
pub use call_class::CallClass;
pub use classify::{Evidence, RetryCause, Verdict, decide};
pub use client::{HttpClient, StopSignal};
pub use error::{Delivery, HttpError, HttpErrorKind};
pub use gate::{Admission, AttemptGate, AttemptPermit, BackoffGate, GateKey, Refusal, Ruling};
pub use jitter::Jitter;
pub use policy::RetryPolicy;
pub use redact::{REDACTED, scrub_credentials, shown_headers};
pub use request::ApiRequest;
#[cfg(feature = "reqwest")]
pub use reqwest_transport::{HttpVersionPolicy, ReqwestTransport, ReqwestTransportBuilder};
pub use response::ApiResponse;
pub use retry_after::{LONGEST_HINT, retry_after};
#[cfg(feature = "tower")]
pub use tower::{TowerTransport, TransportService};
pub use trace_context::TraceContext;
pub use transport::{SharedTransport, Transport};
pub use transport_error::{TransportError, TransportErrorKind};
pub use uuid::random_uuid;
pub use wall_clock::WallClock;
