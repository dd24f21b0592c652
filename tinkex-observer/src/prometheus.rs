//! A Prometheus recorder for the metrics of all Tinkex crates (feature `prometheus`).
//!
//! It renders text and does nothing else: serve the text from the HTTP server the program already has. Call
//! [`PrometheusHandle::run_upkeep`] every few seconds in a program that is scraped rarely or never, as
//! measurements wait in memory until upkeep or rendering.

pub use metrics_exporter_prometheus::{BuildError, PrometheusHandle, PrometheusRecorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
pub use tinkex_metrics::DURATION_BUCKETS;

/// A recorder that is not installed; for programs that combine recorders, and for tests.
///
/// # Errors
///
/// [`BuildError`] where the exporter refuses the bucket bounds.
pub fn recorder() -> Result<PrometheusRecorder, BuildError> {
    let seconds = Matcher::Suffix("_seconds".to_owned());
    let recorder =
        PrometheusBuilder::new().set_buckets_for_metric(seconds, &DURATION_BUCKETS)?.build_recorder();
    metrics::with_local_recorder(&recorder, tinkex_metrics::describe);
    Ok(recorder)
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
