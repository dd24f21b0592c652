//! Counts of queue-state transitions.

use tinkex_metrics::contract;
use tinkex_types::{QueueStateChange, QueueStateObserver};

/// Counts transitions; repeats of a state are not counted (S2-16, S2-17).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransitionMetrics;

impl QueueStateObserver for TransitionMetrics {
    fn on_change(&self, change: &QueueStateChange) {
        contract::QUEUE_STATE_TRANSITIONS.increment([change.client.label(), change.state.label()]);
    }
}

/// Counts one transition that did not reach a user observer.
pub(crate) fn count_dropped(change: &QueueStateChange) {
    contract::OBSERVER_DROPPED.increment([change.client.label()]);
}
