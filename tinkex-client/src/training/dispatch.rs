//! What the training clients of a service share: the limits of their submissions, and what the server was found to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tinkex_http::BackoffGate;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::from_state::CreationHabit;
use super::wire_format::WireFormatMemory;
use crate::connection_places::ConnectionPlaces;

/// Promises of one training client that are polled at once.
const POLLS: usize = 64;

/// The limits, and what is remembered of the server.
#[derive(Debug)]
pub(crate) struct TrainingDispatch {
    /// Closed by a 429 of a creation. A model that may not be created yet must not hold up those in training, so each of
    /// them has a window of its own, and so have samples.
    pub(super) creation_window: Arc<BackoffGate>,
    pub(super) formats: WireFormatMemory,
    pub(super) creation: CreationHabit,
    any_order: AtomicBool,
}

impl TrainingDispatch {
    /// `any_order` says whether chunks may arrive in any order.
    pub(crate) fn new(any_order: bool) -> Arc<Self> {
        Arc::new(Self {
            creation_window: Arc::new(BackoffGate::labelled("model_creation")),
            formats: WireFormatMemory::default(),
            creation: CreationHabit::default(),
            any_order: AtomicBool::new(any_order),
        })
    }

    /// Whether the chunks of a batch may arrive in any order.
    pub(super) fn takes_any_order(&self) -> bool {
        self.any_order.load(Ordering::Relaxed)
    }

    /// The server insists on consecutive ids: chunks go one after the other from now on.
    pub(super) fn insists_on_order(&self) {
        if self.any_order.swap(false, Ordering::Relaxed) {
            tracing::debug!(
                "the server takes sequence ids in order only; chunks are sent one after the other"
            );
        }
    }
}

/// How many promises of a training client are polled at once. Results come in the order of the operations, so nothing
/// is gained by long polls for all of a thousand steps that were started without awaiting, and each would take a
/// connection. Whoever waits for a place is submitted already: nothing the server does depends on it.
#[derive(Debug)]
pub(super) struct PollPlaces {
    own: Semaphore,
    connections: Option<ConnectionPlaces>,
}

/// Held while a promise is polled.
pub(super) struct PollPlace<'a> {
    #[allow(dead_code, reason = "held for its drop")]
    own: Option<SemaphorePermit<'a>>,
    #[allow(dead_code, reason = "held for its drop")]
    connection: Option<OwnedSemaphorePermit>,
}

impl PollPlaces {
    /// Places for one client; `connections` are those of the process, where it bounds them.
    pub(super) fn new(connections: Option<ConnectionPlaces>) -> Self {
        Self { own: Semaphore::new(POLLS), connections }
    }

    /// Takes a place; those that wait come in the order in which they asked, which is that of the submissions.
    pub(super) async fn take(&self) -> PollPlace<'_> {
        // The semaphore is never closed.
        let own = self.own.acquire().await.ok();
        let connection = match &self.connections {
            Some(places) => places.take().await,
            None => None,
        };
        PollPlace { own, connection }
    }
}
