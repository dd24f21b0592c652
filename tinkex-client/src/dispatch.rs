//! How many samples may be on their way to the server at once (PROTOCOL 15.4).
//!
//! The limits surround one attempt of the submission and nothing else: a sample that waits for a window, for a retry
//! or for its result holds none of them (F-15). Everything is a permit that comes back when it is dropped.

use std::sync::Arc;
use std::time::Duration;

use tinkex_future::ByteBudget;
use tinkex_http::{Admission, AttemptGate, AttemptPermit, BackoffGate};
use tinkex_metrics::contract;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Submissions at once.
const SLOTS: usize = 400;
/// Submissions at once while the server has throttled recently.
const THROTTLED_SLOTS: usize = 10;
/// How long after a window "recently" lasts.
const RECENTLY: Duration = Duration::from_secs(10);
/// How much heavier a submission counts while the server has throttled recently.
const THROTTLED_WEIGHT: u64 = 20;
/// Prompts up to this estimate wait [`SMALL_PENALTY`] after a 429 without a hint, larger ones [`LARGE_PENALTY`].
const SMALL_PROMPT: u64 = 131_072;
const SMALL_PENALTY: Duration = Duration::from_secs(1);
const LARGE_PENALTY: Duration = Duration::from_secs(5);

/// The limits that all samplers of a service share.
#[derive(Debug)]
pub(crate) struct SampleDispatch {
    gate: Arc<BackoffGate>,
    slots: Arc<Semaphore>,
    throttled_slots: Arc<Semaphore>,
    bytes: Arc<ByteBudget>,
}

impl SampleDispatch {
    /// Limits around `gate`, with a budget of `bytes` estimated prompt bytes.
    pub(crate) fn new(gate: Arc<BackoffGate>, bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            gate,
            slots: Arc::new(Semaphore::new(SLOTS)),
            throttled_slots: Arc::new(Semaphore::new(THROTTLED_SLOTS)),
            bytes: Arc::new(ByteBudget::new(bytes)),
        })
    }

    /// The gate for one submission of `bytes` estimated prompt bytes.
    pub(crate) fn gate_for(self: &Arc<Self>, bytes: u64) -> SampleGate {
        SampleGate { dispatch: Arc::clone(self), bytes }
    }

    /// The shared backoff window.
    pub(crate) fn backoff(&self) -> &Arc<BackoffGate> {
        &self.gate
    }

    /// Free slots and free bytes, for tests and diagnosis.
    pub(crate) fn available(&self) -> (usize, i64) {
        (self.slots.available_permits(), self.bytes.available())
    }
}

/// The limits as one submission meets them.
#[derive(Debug)]
pub(crate) struct SampleGate {
    dispatch: Arc<SampleDispatch>,
    bytes: u64,
}

impl SampleGate {
    async fn enter(&self) -> AttemptPermit {
        let limits = &*self.dispatch;
        loop {
            limits.gate.ready().await;
            let slot = slot_of(&limits.slots, "slots").await;
            let in_use = contract::DISPATCH_SLOTS_IN_USE.raise([], 1.0);
            // Whether the server has throttled is asked after the wait for the slot, not before it.
            let throttled = limits.gate.throttled_within(RECENTLY);
            let throttled_slot = match throttled {
                true => Some(slot_of(&limits.throttled_slots, "throttled_slots").await),
                false => None,
            };
            let weight = if throttled { self.bytes.saturating_mul(THROTTLED_WEIGHT) } else { self.bytes };
            let bytes = match limits.bytes.try_acquire(weight) {
                Some(permit) => permit,
                None => timed("bytes", limits.bytes.acquire(weight)).await,
            };
            // A window that began during the waits is respected too.
            if !limits.gate.in_backoff() {
                let bytes_in_use = contract::DISPATCH_IN_USE_BYTES.raise([], weight as f64);
                return AttemptPermit::holding((slot, throttled_slot, bytes, in_use, bytes_in_use));
            }
        }
    }
}

/// A slot; none where the semaphore is closed, which it never is.
async fn slot_of(slots: &Arc<Semaphore>, limit: &'static str) -> Option<OwnedSemaphorePermit> {
    match Arc::clone(slots).try_acquire_owned() {
        Ok(slot) => Some(slot),
        Err(_) => timed(limit, Arc::clone(slots).acquire_owned()).await.ok(),
    }
}

/// Waits for a permit, and records for how long.
async fn timed<T>(limit: &'static str, permit: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let _waiting =
        contract::DISPATCH_WAIT.timer([limit], move || Instant::now().saturating_duration_since(begun));
    permit.await
}

impl AttemptGate for SampleGate {
    fn admit(&self) -> Admission<'_> {
        Box::pin(self.enter())
    }

    fn throttled(&self, hint: Option<Duration>) {
        let by_size = if self.bytes <= SMALL_PROMPT { SMALL_PENALTY } else { LARGE_PENALTY };
        self.dispatch.gate.penalise(hint.unwrap_or(by_size));
    }
}
