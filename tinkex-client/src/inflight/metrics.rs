//! What is measured of one request, from its call to its end.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tinkex_metrics::{Raised, contract};
use tinkex_types::RequestType;
use tokio::time::Instant;

use super::Stage;

/// How a request ended, unless somebody has said otherwise: it was dropped.
const DROPPED: &str = "abandoned";

/// The measurements of one request. Where no recorder is installed they are a few words of memory.
#[derive(Debug)]
pub(crate) struct RequestMetrics {
    request_type: &'static str,
    called: Instant,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    stage: Stage,
    /// Counts it as in flight; none once it has ended.
    in_flight: Option<Raised>,
    /// Whether its end was measured: when the caller was told, although something may still be on the wire.
    timed: bool,
}

impl RequestMetrics {
    /// A request that was called now, and waits for its place.
    pub(crate) fn begin(kind: RequestType) -> Self {
        let request_type = kind.as_str();
        let in_flight = Some(in_flight(request_type, Stage::Queued));
        let progress = Mutex::new(Progress { stage: Stage::Queued, in_flight, timed: false });
        Self { request_type, called: Instant::now(), progress }
    }

    /// When it was called.
    pub(crate) fn called(&self) -> Instant {
        self.called
    }

    /// It has come as far as this.
    pub(crate) fn reached(&self, stage: Stage) {
        let mut progress = self.progress();
        if progress.stage == stage || progress.in_flight.is_none() {
            return;
        }
        if (progress.stage, stage) == (Stage::Queued, Stage::Submitting) {
            self.record_queue();
        }
        // The old one ends first, so that the request is never counted twice.
        progress.in_flight = None;
        progress.in_flight = Some(in_flight(self.request_type, stage));
        progress.stage = stage;
    }

    /// It ends like this for the caller, now. The first word counts.
    pub(crate) fn ends(&self, outcome: &'static str) {
        let mut progress = self.progress();
        if !progress.timed {
            progress.timed = true;
            let took = Instant::now().saturating_duration_since(self.called);
            contract::REQUEST_DURATION.record([self.request_type, outcome], took);
            if progress.stage == Stage::Queued {
                self.record_queue();
            }
        }
    }

    /// Nothing more is done for it.
    pub(crate) fn ended(&self) {
        self.ends(DROPPED);
        self.progress().in_flight = None;
    }

    fn record_queue(&self) {
        let waited = Instant::now().saturating_duration_since(self.called);
        contract::REQUEST_QUEUE.record([self.request_type], waited);
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_flight(request_type: &'static str, stage: Stage) -> Raised {
    contract::REQUESTS_IN_FLIGHT.raise([request_type, stage.as_str()], 1.0)
}
