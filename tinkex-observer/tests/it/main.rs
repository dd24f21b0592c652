//! Integration tests of the observer crate: wording, debounce, golden log vectors, fan-out, metrics.

mod capture;
mod debounce;
mod delivery;
mod fan_out;
mod manifest;
mod metrics;
#[cfg(feature = "prometheus")]
mod prometheus;
mod vectors;
mod wording;
