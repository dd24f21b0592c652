//! Instruments under recorders that come and go, from many threads, and without any.

use std::sync::Barrier;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tinkex_metrics::contract;

fn values(snapshotter: &Snapshotter, name: &str) -> Vec<(Vec<(String, String)>, DebugValue)> {
    let of_name = snapshotter.snapshot().into_vec().into_iter().filter(|(key, ..)| key.key().name() == name);
    let with_labels = of_name.map(|(key, _, _, value)| {
        let labels = key.key().labels().map(|label| (label.key().to_owned(), label.value().to_owned()));
        (labels.collect(), value)
    });
    with_labels.collect()
}

/// Where no recorder is installed, no measurement of any metric allocates anything, once its labels were seen.
#[test]
fn without_a_recorder_nothing_is_allocated() {
    contract::measure_each();
    let spent = allocation_counter::measure(|| {
        for _ in 0..1_000 {
            contract::measure_each();
        }
    });
    assert_eq!(spent.count_total, 0);
}

#[test]
fn a_recorder_may_come_at_any_time_and_another_after_it() {
    contract::TOKENS.add(["Sample", "out"], 1);
    for tokens in [2, 3] {
        let recorder = DebuggingRecorder::new();
        metrics::with_local_recorder(&recorder, || contract::TOKENS.add(["Sample", "out"], tokens));
        let labels = [("request_type", "Sample"), ("direction", "out")];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let found = values(&recorder.snapshotter(), "tinkex_tokens_total");
        assert_eq!(found, [(labels, DebugValue::Counter(tokens))]);
    }
}

#[test]
fn a_gauge_falls_by_what_it_was_raised_and_for_whom_it_was_raised() {
    let before = contract::DISPATCH_SLOTS_IN_USE.raise([], 1.0);
    let recorder = DebuggingRecorder::new();
    // A snapshot takes what it shows, so each says by how much the gauge has moved.
    let moved = || match values(&recorder.snapshotter(), "tinkex_dispatch_slots_in_use").pop() {
        Some((_, DebugValue::Gauge(value))) => value.into_inner(),
        other => panic!("not a gauge: {other:?}"),
    };
    let held = metrics::with_local_recorder(&recorder, || contract::DISPATCH_SLOTS_IN_USE.raise([], 2.5));
    assert_eq!(moved(), 2.5);
    // Raised before there was a recorder: it must not fall below zero.
    metrics::with_local_recorder(&recorder, || drop(before));
    assert_eq!(moved(), 0.0);
    // And it falls wherever the guard is dropped.
    drop(held);
    assert_eq!(moved(), -2.5);
}

#[test]
fn label_values_seen_first_by_many_threads_at_once_are_counted_in_one_place() {
    const OPERATIONS: [&str; 8] = ["a", "b", "c", "d", "ab", "ba", "abc", "cba"];
    let recorder = DebuggingRecorder::new();
    let begin = Barrier::new(4);
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                metrics::with_local_recorder(&recorder, || {
                    begin.wait();
                    for operation in OPERATIONS {
                        contract::HTTP_RETRIES.add([operation, "server"], 10);
                    }
                });
            });
        }
    });
    let mut found = values(&recorder.snapshotter(), "tinkex_http_retries_total");
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let mut wanted: Vec<_> = OPERATIONS
        .iter()
        .map(|value| {
            let labels = [("operation", *value), ("cause", "server")];
            (
                labels.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
                DebugValue::Counter(40),
            )
        })
        .collect();
    wanted.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(found, wanted);
}
