//! What the training clients of a service share: the limits of their submissions, and what the server was found to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tinkex_future::ByteBudget;
use tinkex_http::BackoffGate;

use super::from_state::CreationHabit;
use super::wire_format::WireFormatMemory;

/// The limits, and what is remembered of the server.
#[derive(Debug)]
pub(crate) struct TrainingDispatch {
    /// Closed by a 429 of a training submission. Samples have a window of their own: the two are limited apart.
    pub(super) window: Arc<BackoffGate>,
    /// Bounds the estimated bytes of chunks that are encoded and being sent (PROTOCOL 12.5).
    pub(super) bytes: Arc<ByteBudget>,
    pub(super) formats: WireFormatMemory,
    pub(super) creation: CreationHabit,
    any_order: AtomicBool,
}

impl TrainingDispatch {
    /// A budget of `bytes` estimated bytes; `any_order` says whether chunks may arrive in any order.
    pub(crate) fn new(bytes: u64, any_order: bool) -> Arc<Self> {
        Arc::new(Self {
            window: Arc::default(),
            bytes: Arc::new(ByteBudget::new(bytes)),
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
