//! Counters of queue-state transitions, through the `metrics` facade.

use tinkex_types::{QueueStateChange, QueueStateObserver};

/// Counter: transitions of queue states, labels `client` (`sampling`, `training`, `model_creation`) and `state`
/// (`active`, `paused_rate_limit`, `paused_capacity`, `unknown`).
pub const TRANSITIONS_TOTAL: &str = "tinkex_queue_state_transitions_total";

/// Counter: transitions a user observer did not get because its queue was full (or its thread could not start),
/// label `client`.
pub const DROPPED_TOTAL: &str = "tinkex_observer_dropped_total";

/// Counts transitions; repeats of a state are not counted (S2-16, S2-17).
///
/// The labels come from closed sets: whatever a server sends, the number of series stays bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransitionMetrics;

impl QueueStateObserver for TransitionMetrics {
    fn on_change(&self, change: &QueueStateChange) {
        let (client, state) = (change.client.label(), change.state.label());
        metrics::counter!(TRANSITIONS_TOTAL, "client" => client, "state" => state).increment(1);
    }
}

/// Counts one transition that did not reach a user observer.
pub(crate) fn count_dropped(change: &QueueStateChange) {
    metrics::counter!(DROPPED_TOTAL, "client" => change.client.label()).increment(1);
}

/// Gives the installed metrics recorder the help texts of this crate's counters. Call it once, after the recorder is
/// installed.
pub fn describe_metrics() {
    metrics::describe_counter!(TRANSITIONS_TOTAL, "Queue-state transitions seen by polls.");
    metrics::describe_counter!(DROPPED_TOTAL, "Transitions a user observer was too slow to take.");
}
