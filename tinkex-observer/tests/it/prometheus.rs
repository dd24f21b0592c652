//! The Prometheus recorder (feature `prometheus`).

use tinkex_metrics::contract;
use tinkex_observer::prometheus::{self, BuildError, DURATION_BUCKETS};
use tinkex_observer::{ObserverSet, QueueState, QueueStateObserver};

use crate::capture::sampling;

/// Durations get buckets up to an hour; histograms that are not in seconds are left alone; counters are described.
#[test]
fn durations_are_bucketed_and_counters_rendered() {
    let recorder = prometheus::recorder().unwrap();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        ObserverSet::default().on_observation(&sampling(QueueState::PausedCapacity));
        metrics::histogram!("tinkex_test_duration_seconds").record(2000.0);
        metrics::histogram!("tinkex_test_bytes").record(2000.0);
    });
    let text = handle.render();
    for line in [
        "# TYPE tinkex_queue_state_transitions_total counter",
        &format!(
            "# HELP tinkex_queue_state_transitions_total {}",
            contract::QUEUE_STATE_TRANSITIONS.description().help
        ),
        "tinkex_queue_state_transitions_total{client=\"sampling\",state=\"paused_capacity\"} 1",
        "tinkex_test_duration_seconds_bucket{le=\"1800\"} 0",
        "tinkex_test_duration_seconds_bucket{le=\"3600\"} 1",
        "tinkex_test_duration_seconds_sum 2000",
    ] {
        assert!(text.lines().any(|l| l == line), "{line:?} in\n{text}");
    }
    assert!(!text.contains("tinkex_test_bytes_bucket"), "{text}");
    assert!(DURATION_BUCKETS.is_sorted() && DURATION_BUCKETS.last() == Some(&3600.0));
}

/// The process has one recorder: the first install wins, a second is an error.
#[test]
fn installing_twice_is_an_error() {
    let handle = prometheus::install().unwrap();
    assert!(matches!(prometheus::install(), Err(BuildError::FailedToSetGlobalRecorder(_))));
    metrics::counter!("tinkex_installed_total").increment(2);
    assert!(handle.render().contains("tinkex_installed_total 2"));
    #[cfg(feature = "prometheus-listener")]
    {
        let refused = prometheus::install_with_listener(([127, 0, 0, 1], 0).into()).unwrap_err();
        assert!(matches!(refused, prometheus::ListenError::RecorderInstalled), "{refused:?}");
    }
}
