//! How long a request stays in a queue state, for the metrics.

use tinkex_metrics::{Raised, contract};
use tinkex_types::{ClientKind, QueueState};
use tokio::time::Instant;

/// A request in a queue state. Its end, or the end of the poll in whatever way, is recorded when this is dropped.
pub(crate) struct Stay {
    client: ClientKind,
    state: &'static str,
    since: Instant,
    _counted: Raised,
}

impl Stay {
    /// Takes note of an observed state: one that is not new goes on.
    pub(crate) fn observe(stay: &mut Option<Self>, client: ClientKind, state: &QueueState, now: Instant) {
        let state = state.label();
        if stay.as_ref().is_none_or(|stay| stay.state != state) {
            // The old one ends first, so that the request is never counted twice.
            *stay = None;
            let counted = contract::QUEUE_STATE_REQUESTS.raise([client.label(), state], 1.0);
            *stay = Some(Self { client, state, since: now, _counted: counted });
        }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let stayed = Instant::now().saturating_duration_since(self.since);
        contract::QUEUE_STATE_DURATION.record([self.client.label(), self.state], stayed);
    }
}
