//! Integration tests of the HTTP layer. Everything but `sockets` runs in memory, in virtual time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in helpers, a failed step is a failed test

mod auth;
mod base_url;
mod bodies;
mod budget;
mod capture;
mod classification;
mod deadlines;
#[cfg(feature = "reqwest")]
mod examples;
mod gate;
mod golden;
mod pipeline;
mod redirects;
mod replay;
mod retry_delay;
mod secrets;
#[cfg(feature = "reqwest")]
mod sockets;
mod stopping;
mod support;
