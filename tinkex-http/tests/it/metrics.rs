//! What is measured of calls and of their attempts.

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use tinkex_http::RetryPolicy;
use tinkex_testkit::Step;

use crate::support::{ok, post, scripted, secs};

/// One call, one observation of its duration, under the outcome it had; one of each attempt; one count per retry.
#[tokio::test(start_paused = true)]
async fn metrics_count_each_call_once() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (_, client) = scripted([Step::status(503), ok(), Step::status(410), Step::reset(), Step::hang()]);
    client.send(&post()).await.unwrap();
    client.send(&post().any_status()).await.unwrap();
    client.send(&post().policy(RetryPolicy::none())).await.unwrap_err();
    client.send(&post().deadline(Some(secs(1)))).await.unwrap_err();
    let mut seen: Vec<_> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, _, value)| {
            let labels: Vec<_> = key.key().labels().map(|label| label.value().to_owned()).collect();
            let count = match value {
                DebugValue::Counter(n) => n,
                DebugValue::Histogram(values) => values.len() as u64,
                DebugValue::Gauge(value) => panic!("a gauge at {value}"),
            };
            (key.key().name().to_owned(), labels.join(" "), count)
        })
        .collect();
    seen.sort();
    let duration = "tinkex_http_call_duration_seconds";
    let attempt = "tinkex_http_attempt_duration_seconds";
    let expected = [
        (attempt, "op 2xx", 1),
        (attempt, "op 410", 1),
        (attempt, "op 5xx", 1),
        (attempt, "op interrupted", 1),
        (attempt, "op timeout", 1),
        (duration, "op ok", 1),
        (duration, "op status", 1),
        (duration, "op transport", 2),
        ("tinkex_http_retries_total", "op server", 1),
    ];
    assert_eq!(seen, expected.map(|(name, labels, n)| (name.to_owned(), labels.to_owned(), n)));
}
