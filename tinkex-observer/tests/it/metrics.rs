//! The transition counters.

use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tinkex_observer::{
    ClientKind, ObserverSet, QueueLog, QueueState, QueueStateChange, QueueStateObserver, TransitionMetrics,
};

use crate::capture::{repeated, sampling};

/// Every counter as `name{label=value,…}`.
pub(crate) fn counters(snapshotter: &Snapshotter) -> BTreeMap<String, u64> {
    let entries = snapshotter.snapshot().into_vec().into_iter();
    entries
        .map(|(key, _, _, value)| {
            let labels: Vec<_> = key.key().labels().map(|l| format!("{}={}", l.key(), l.value())).collect();
            let DebugValue::Counter(count) = value else { panic!("a counter, not {value:?}") };
            (format!("{}{{{}}}", key.key().name(), labels.join(",")), count)
        })
        .collect()
}

/// S2-16, S2-17: one count per transition, none per repeat, whether the log is on or off.
#[test]
fn transitions_are_counted_once() {
    for log in [QueueLog::default(), QueueLog::Off] {
        let recorder = DebuggingRecorder::new();
        metrics::with_local_recorder(&recorder, || {
            let set = ObserverSet::new(log);
            set.on_observation(&sampling(QueueState::PausedCapacity));
            set.on_observation(&repeated(QueueState::PausedCapacity));
            set.on_observation(&sampling(QueueState::Active));
            set.on_observation(&sampling(QueueState::PausedCapacity));
            set.on_observation(&QueueStateChange::new(
                QueueState::PausedRateLimit,
                ClientKind::Training,
                "m",
            ));
        });
        let expected = BTreeMap::from([
            ("tinkex_queue_state_transitions_total{client=sampling,state=active}".to_owned(), 1),
            ("tinkex_queue_state_transitions_total{client=sampling,state=paused_capacity}".to_owned(), 2),
            ("tinkex_queue_state_transitions_total{client=training,state=paused_rate_limit}".to_owned(), 1),
        ]);
        assert_eq!(counters(&recorder.snapshotter()), expected);
    }
}

/// The labels are bounded: text a server makes up does not become a series.
#[test]
fn made_up_states_share_one_series() {
    let recorder = DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, || {
        for text in ["a", "b", "c"] {
            TransitionMetrics.on_observation(&sampling(QueueState::Unknown(text.into())));
        }
        TransitionMetrics.on_observation(&repeated(QueueState::Unknown("c".into())));
    });
    let series = "tinkex_queue_state_transitions_total{client=sampling,state=unknown}".to_owned();
    assert_eq!(counters(&recorder.snapshotter()), BTreeMap::from([(series, 3)]));
}

/// A reason that changes with every poll, such as a place in a queue, is no change of the state.
#[test]
fn another_reason_is_not_another_state() {
    let recorder = DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, || {
        let mut before = None;
        for place in ["place 3", "place 2", "place 1"] {
            let paused = sampling(QueueState::PausedCapacity).with_reason(Some(place));
            TransitionMetrics.on_observation(&paused.with_previous(before.clone(), true));
            before = Some(QueueState::PausedCapacity);
        }
    });
    let series = "tinkex_queue_state_transitions_total{client=sampling,state=paused_capacity}".to_owned();
    assert_eq!(counters(&recorder.snapshotter()), BTreeMap::from([(series, 1)]));
}
