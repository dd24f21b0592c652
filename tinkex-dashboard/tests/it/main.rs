//! The dashboard against the contract, and the metrics against a real Prometheus.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in helpers, a failed step is a failed test

mod contract;
mod expression;
mod installed;
mod layout;
mod load;
mod real_prometheus;
