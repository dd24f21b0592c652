//! Tests of the fake server: both faces, scripts, gates, log, chaos, control routes, the program, and the
//! conformance suite for transports.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in helpers, a failed step is a failed test

mod assertions;
mod carried;
mod chaos;
mod client;
mod conformance;
mod control;
mod gates;
mod http2;
mod log;
mod memory;
mod plain;
mod program;
mod script;
mod socket;
