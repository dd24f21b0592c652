//! Counts of queue-state transitions.

use tinkex_metrics::contract;
use tinkex_types::{QueueStateChange, QueueStateObserver};

/// Counts changes of the state (S2-16, S2-17). A repeat is not counted, also where its reason is another: a reason such as
/// a place in a queue changes with every poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransitionMetrics;

impl QueueStateObserver for TransitionMetrics {
    fn on_change(&self, change: &QueueStateChange) {
        if change.previous.as_ref() != Some(&change.state) {
            contract::QUEUE_STATE_TRANSITIONS.increment([change.client.label(), change.state.label()]);
        }
    }
}

/// Counts one transition that did not reach a user observer.
pub(crate) fn count_dropped(change: &QueueStateChange) {
    contract::OBSERVER_DROPPED.increment([change.client.label()]);
}
