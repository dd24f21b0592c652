//! What every metric of the contract has.

use std::collections::HashSet;

use metrics_util::debugging::DebuggingRecorder;
use tinkex_metrics::{Kind, Values, contract};

#[test]
fn names_are_unique_and_say_kind_and_unit() {
    let mut names = HashSet::new();
    for metric in contract::ALL {
        assert!(names.insert(metric.name), "{} stands twice", metric.name);
        assert!(metric.name.starts_with("tinkex_"), "{}", metric.name);
        assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
        assert_eq!(metric.name.ends_with("_seconds"), metric.kind == Kind::Histogram, "{}", metric.name);
        assert_eq!(metric.unit == metrics::Unit::Seconds, metric.kind == Kind::Histogram, "{}", metric.name);
        assert!(metric.help.ends_with('.'), "{}: the meaning is a sentence", metric.name);
    }
}

#[test]
fn labels_are_bounded_and_unambiguous() {
    for metric in contract::ALL {
        let mut names = HashSet::new();
        for label in metric.labels {
            assert!(names.insert(label.name), "{}: {} stands twice", metric.name, label.name);
            if let Values::OneOf(values) = label.values {
                let distinct: HashSet<_> = values.iter().collect();
                assert_eq!(distinct.len(), values.len(), "{}: {}", metric.name, label.name);
                assert!(values.iter().all(|value| label.values.allow(value)));
            }
            assert!(!label.values.allow("0d7f5c1e-id"), "{}: {} takes ids", metric.name, label.name);
        }
    }
}

#[test]
fn a_recorder_is_told_the_unit_and_the_meaning_of_each() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        tinkex_metrics::describe();
        // The debugging recorder shows descriptions of metrics that were used only.
        contract::HEARTBEATS.increment(["ok"]);
        contract::HEARTBEAT_LATENESS.record([], std::time::Duration::from_secs(1));
        drop(contract::DISPATCH_IN_USE_BYTES.raise([], 1.0));
    });
    let told = snapshotter.snapshot().into_vec();
    let description = |name: &str| {
        let (_, unit, help, _) = told.iter().find(|(key, ..)| key.key().name() == name).expect(name);
        (*unit, help.clone().map(|help| help.to_string()))
    };
    for metric in [
        contract::HEARTBEATS.description(),
        contract::HEARTBEAT_LATENESS.description(),
        contract::DISPATCH_IN_USE_BYTES.description(),
    ] {
        assert_eq!(description(metric.name), (Some(metric.unit), Some(metric.help.to_owned())));
    }
}
