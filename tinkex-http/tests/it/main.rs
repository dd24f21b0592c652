//! Integration tests of the HTTP layer. Everything but `sockets` and `http2` runs in memory, in virtual time. TLS and
//! proxies have a binary of their own, `tests/tls`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in helpers, a failed step is a failed test

mod auth;
mod base_url;
mod bodies;
mod budget;
mod capture;
mod classification;
mod deadlines;
mod edge;
#[cfg(feature = "reqwest")]
mod examples;
mod first_contact;
mod gate;
mod golden;
#[cfg(feature = "reqwest")]
mod http2;
mod metrics;
mod pipeline;
mod redirects;
mod replay;
mod retry_delay;
mod secrets;
#[cfg(feature = "reqwest")]
mod sockets;
mod stopping;
mod support;
#[cfg(feature = "tower")]
mod tower;
mod trace_context;
