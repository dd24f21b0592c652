//! The Grafana dashboard `dashboards/tinkex.json` outside Grafana: as panels and queries, evaluated by a real Prometheus,
//! and drawn as a picture.
//!
//! `cargo xtask dashboard` draws `docs/dashboard.svg` from a run of the demo. The tests of this crate hold the dashboard
//! to the metrics contract, and the metrics to what a real Prometheus reads.

pub mod dashboard;
pub mod picture;
pub mod prometheus;
pub mod time;

/// What went wrong, for a person.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
