//! A Prometheus recorder for the metrics of all Tinkex crates (feature `prometheus`).
//!
//! [`install`] gives a recorder that renders text and does nothing else: serve the text from the HTTP server the program
//! already has, and call [`PrometheusHandle::run_upkeep`] every few seconds in a program that is scraped rarely or never,
//! as measurements wait in memory until upkeep or rendering. The feature `prometheus-listener` adds
//! `install_with_listener`, which serves the text itself.
//!
//! Every histogram whose name ends in `_seconds` gets [`DURATION_BUCKETS`], the application's own too. The metrics, their
//! labels and what they mean are listed in `docs/metrics.md`.

#[cfg(feature = "prometheus-listener")]
mod listener;

#[cfg(feature = "prometheus-listener")]
pub use listener::{ListenError, Listening, install_with_listener, listening_recorder};
pub use metrics_exporter_prometheus::{BuildError, PrometheusHandle, PrometheusRecorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
pub use tinkex_metrics::DURATION_BUCKETS;

/// A recorder that is not installed; for programs that combine recorders, and for tests.
///
/// # Errors
///
/// [`BuildError`] where the exporter refuses the bucket bounds.
pub fn recorder() -> Result<PrometheusRecorder, BuildError> {
    Ok(described(builder()?.build_recorder()))
}

/// Installs the recorder for the whole process and returns the handle that renders it.
///
/// # Errors
///
/// [`BuildError::FailedToSetGlobalRecorder`] where the process has a recorder already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let recorder = recorder()?;
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)?;
    Ok(handle)
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &DURATION_BUCKETS)
}

/// The recorder, told what every metric means.
fn described(recorder: PrometheusRecorder) -> PrometheusRecorder {
    metrics::with_local_recorder(&recorder, tinkex_metrics::describe);
    recorder
}
