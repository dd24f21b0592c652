//! One request in flight, as it was at the moment of asking.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tinkex_types::{QueueState, RequestType};

/// A request that has been started and has not ended. As JSON it is what [`Inflight`](crate::Inflight) says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InflightRequest {
    /// A number of its own, counted per service client.
    pub number: u64,
    /// What it is for.
    pub kind: RequestType,
    /// The sampling session or model it belongs to; for the creation of a model, the base model.
    pub client_id: Arc<str>,
    /// The promise, once the server has accepted the request; the first of several.
    pub request_id: Option<Arc<str>>,
    /// How far it is.
    pub stage: Stage,
    /// How long ago it was started.
    pub age: Duration,
    /// How often the server has been asked for the result; the most of several promises.
    pub polls: u32,
    /// The last queue state that an answer carried.
    pub queue_state: Option<QueueState>,
    /// The server's reason for that state.
    pub reason: Option<Arc<str>>,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Waiting for a permit, or for the turn among the operations of a training client, before anything was sent.
    Queued,
    /// Being sent, or waiting to be sent again.
    Submitting,
    /// Accepted; waiting for the result.
    Polling,
}

impl Stage {
    /// All of them, in the order in which a request goes through them.
    pub(crate) const ALL: [Self; 3] = [Self::Queued, Self::Submitting, Self::Polling];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Submitting => "submitting",
            Self::Polling => "polling",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for InflightRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {} {} for {:.1} s", self.number, self.kind, self.stage, self.age.as_secs_f64())?;
        if let Some(request_id) = &self.request_id {
            write!(f, ", request {request_id}, {} polls", self.polls)?;
        }
        if let Some(state) = &self.queue_state {
            write!(f, ", {state}")?;
        }
        if let Some(reason) = &self.reason {
            write!(f, " ({reason})")?;
        }
        Ok(())
    }
}
