//! The poller without a server: scripted answers in virtual time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod answers;
mod budget;
mod examples;
mod observations;
mod polling;
mod session_polling;
mod shape;
mod steps;
mod support;
