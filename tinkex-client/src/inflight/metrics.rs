//! What is measured of one request, from its call to its end.

use std::sync::{Mutex, OnceLock, PoisonError};

use tinkex_metrics::{Raised, contract};
use tinkex_types::RequestType;
use tokio::time::Instant;

use super::Stage;

/// How a request ended, unless somebody says otherwise: it was dropped.
const DROPPED: &str = "abandoned";

/// The measurements of one request. Where no recorder is installed they are a few words of memory.
#[derive(Debug)]
pub(crate) struct RequestMetrics {
    request_type: &'static str,
    called: Instant,
    stage: Mutex<Option<(Stage, Raised)>>,
    outcome: OnceLock<&'static str>,
}

impl RequestMetrics {
    /// A request that was called now, and waits for its place.
    pub(crate) fn begin(kind: RequestType) -> Self {
        let request_type = kind.as_str();
        let queued = (Stage::Queued, in_flight(request_type, Stage::Queued));
        Self {
            request_type,
            called: Instant::now(),
            stage: Mutex::new(Some(queued)),
            outcome: OnceLock::new(),
        }
    }

    /// When it was called.
    pub(crate) fn called(&self) -> Instant {
        self.called
    }

    /// It has come as far as this.
    pub(crate) fn reached(&self, stage: Stage) {
        let mut now = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((before, counted)) = &mut *now else { return };
        if *before == stage {
            return;
        }
        if (*before, stage) == (Stage::Queued, Stage::Submitting) {
            let waited = Instant::now().saturating_duration_since(self.called);
            contract::REQUEST_QUEUE.record([self.request_type], waited);
        }
        (*before, *counted) = (stage, in_flight(self.request_type, stage));
    }

    /// It is about to end like this. The first word counts.
    pub(crate) fn ends(&self, outcome: &'static str) {
        // A second word is not wanted.
        let _ = self.outcome.set(outcome);
    }

    /// It has ended.
    pub(crate) fn ended(&self) {
        if self.stage.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            let outcome = self.outcome.get().copied().unwrap_or(DROPPED);
            let took = Instant::now().saturating_duration_since(self.called);
            contract::REQUEST_DURATION.record([self.request_type, outcome], took);
        }
    }
}

fn in_flight(request_type: &'static str, stage: Stage) -> Raised {
    contract::REQUESTS_IN_FLIGHT.raise([request_type, stage.as_str()], 1.0)
}
