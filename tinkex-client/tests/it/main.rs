//! The client from outside, over the testkit's in-memory server in virtual time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in helpers, a failed step is a failed test

mod capture;
mod dialects;
mod environment;
mod golden;
mod harness;
mod inputs;
mod session;
#[cfg(feature = "tokenizers")]
mod tokenizer;
mod workflow;
