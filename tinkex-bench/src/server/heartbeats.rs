//! How far apart the heartbeats of a run came.

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// The heartbeats of a run, as the server saw them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Heartbeats {
    /// How many came.
    pub(crate) count: u64,
    /// The longest time without one, in seconds, from the first request of the run to its last.
    pub(crate) largest_gap_seconds: f64,
}

/// Heartbeats as they come.
pub(super) struct Arrivals {
    last_beat: Instant,
    last_request: Instant,
    summary: Heartbeats,
}

impl Arrivals {
    pub(super) fn since(began: Instant) -> Self {
        Self { last_beat: began, last_request: began, summary: Heartbeats::default() }
    }

    /// A heartbeat came.
    pub(super) fn beat(&mut self, at: Instant) {
        self.summary.largest_gap_seconds = self.largest_gap(at);
        self.summary.count += 1;
        self.last_beat = at;
        self.seen(at);
    }

    /// Another request came: the run is not over yet.
    pub(super) fn seen(&mut self, at: Instant) {
        self.last_request = self.last_request.max(at);
    }

    /// The run so far. A heartbeat that was due and did not come is a gap up to the last request.
    pub(super) fn summary(&self) -> Heartbeats {
        Heartbeats { largest_gap_seconds: self.largest_gap(self.last_request), ..self.summary }
    }

    fn largest_gap(&self, until: Instant) -> f64 {
        let open = until.saturating_duration_since(self.last_beat).as_secs_f64();
        self.summary.largest_gap_seconds.max(open)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_largest_gap_counts_the_one_that_is_still_open() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut arrivals = Arrivals::since(began);
        arrivals.beat(at(10));
        arrivals.beat(at(22));
        assert_eq!(arrivals.summary(), Heartbeats { count: 2, largest_gap_seconds: 12.0 });
        arrivals.seen(at(40));
        assert_eq!(arrivals.summary(), Heartbeats { count: 2, largest_gap_seconds: 18.0 });
    }
}
