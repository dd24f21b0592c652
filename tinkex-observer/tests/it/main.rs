//! Integration tests of the observer crate: wording, debounce, golden log vectors, fan-out, metrics.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in helpers, a failed step is a failed test

mod capture;
mod debounce;
mod delivery;
mod examples;
mod fan_out;
mod manifest;
mod metrics;
#[cfg(feature = "prometheus")]
mod prometheus;
#[cfg(feature = "prometheus-listener")]
mod prometheus_listener;
mod subscribers;
mod vectors;
mod wording;
