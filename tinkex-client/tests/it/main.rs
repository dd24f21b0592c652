//! The client from outside, over the testkit's in-memory server in virtual time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in helpers, a failed step is a failed test

mod cancellation;
mod concurrency;
mod configuration;
mod credentials;
mod custom_loss;
mod dialects;
mod environment;
mod error_recovery;
mod examples;
mod footprint;
mod golden;
mod harness;
mod inflight;
mod inputs;
mod log_capture;
mod log_hygiene;
mod metrics;
mod queue_states;
#[cfg(feature = "reqwest")]
mod reliability;
mod session;
mod soak;
mod telemetry;
#[cfg(feature = "tokenizers")]
mod tokenizer;
mod trace_capture;
mod traces;
mod training;
mod training_dialects;
mod training_interleavings;
mod training_regressions;
mod transports;
mod workflow;
