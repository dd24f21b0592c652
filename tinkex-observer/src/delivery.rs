//! Delivery to one user observer: a bounded queue and a thread of its own, so that nothing the observer does (panic,
//! block, be slow) reaches the poll (F-09, S2-20).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tinkex_types::{QueueStateChange, QueueStateObserver};

use crate::transitions::count_dropped;

/// How many transitions wait for a slow observer before further ones are dropped, unless set otherwise.
pub const DEFAULT_QUEUE_CAPACITY: usize = 1024;

/// The largest queue. The room is allocated at once, so an absurd number must not reach the allocator.
const MAX_QUEUE_CAPACITY: usize = 1 << 16;

/// The queue in front of one user observer.
///
/// The thread starts with the first transition and ends, after what is queued, when the mailbox is dropped: dropping
/// the sender closes the channel. It is never joined, since an observer that blocks must not block the drop.
pub(crate) struct Mailbox {
    observer: Arc<dyn QueueStateObserver>,
    capacity: usize,
    inlet: Mutex<Inlet>,
    progress: Arc<Progress>,
    warned_of_loss: AtomicBool,
}

/// The sending end. Sending and counting happen under one lock, so the n-th accepted transition is the n-th one
/// delivered, and a flush knows what to wait for.
#[derive(Default)]
struct Inlet {
    sender: Option<SyncSender<QueueStateChange>>,
    accepted: u64,
}

/// How many transitions the observer has returned from, with or without a panic.
#[derive(Default)]
struct Progress {
    delivered: Mutex<u64>,
    advanced: Condvar,
}

impl Mailbox {
    /// A capacity of zero counts as one: a queue without room would drop whatever meets a busy observer.
    pub(crate) fn new(observer: Arc<dyn QueueStateObserver>, capacity: usize) -> Self {
        Self {
            observer,
            capacity: capacity.clamp(1, MAX_QUEUE_CAPACITY),
            inlet: Mutex::default(),
            progress: Arc::default(),
            warned_of_loss: AtomicBool::new(false),
        }
    }

    /// Queues a transition. Never waits: where there is no room, the transition is dropped and counted, and the
    /// first such loss is logged.
    pub(crate) fn post(&self, change: &QueueStateChange) {
        let loss = match self.try_post(change) {
            Ok(()) => return,
            Err(loss) => loss,
        };
        count_dropped(change);
        if !self.warned_of_loss.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                capacity = self.capacity,
                "a queue-state observer misses transitions: {loss}; this is said once"
            );
        }
    }

    fn try_post(&self, change: &QueueStateChange) -> Result<(), &'static str> {
        let mut inlet = lock(&self.inlet);
        let sender = match &inlet.sender {
            Some(sender) => sender,
            None => {
                let sender = self.start().map_err(|_| "its thread could not be started")?;
                inlet.sender.insert(sender)
            }
        };
        match sender.try_send(change.clone()) {
            Ok(()) => {
                inlet.accepted += 1;
                Ok(())
            }
            Err(TrySendError::Full(_)) => Err("it is slow and its queue is full"),
            Err(TrySendError::Disconnected(_)) => Err("its thread has ended"),
        }
    }

    fn start(&self) -> std::io::Result<SyncSender<QueueStateChange>> {
        let (sender, receiver) = sync_channel(self.capacity);
        let (observer, progress) = (self.observer.clone(), self.progress.clone());
        // What the observer logs, and the warning about its panic, go where the log of the poll goes.
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        std::thread::Builder::new().name("tinkex-observer".to_owned()).spawn(move || {
            tracing::dispatcher::with_default(&dispatch, || deliver(&receiver, &*observer, &progress));
        })?;
        Ok(sender)
    }

    /// Waits, blocking the thread, until everything accepted so far was delivered. False where `timeout` is over
    /// first.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        let target = lock(&self.inlet).accepted;
        let delivered = lock(&self.progress.delivered);
        let waited = self.progress.advanced.wait_timeout_while(delivered, timeout, |done| *done < target);
        let (done, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *done >= target
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

/// The thread's work: each transition in turn, until the mailbox is gone and the queue is empty.
fn deliver(queue: &Receiver<QueueStateChange>, observer: &dyn QueueStateObserver, progress: &Progress) {
    let mut warned = false;
    for change in queue {
        // An observer that panics may leave its own data half changed. That is its affair; nothing of ours is shared.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| observer.on_change(&change))) {
            // A payload is any value, and its drop may panic as well.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
            if !std::mem::replace(&mut warned, true) {
                tracing::warn!("a queue-state observer panicked; it is still called, and this is said once");
            }
        }
        *lock(&progress.delivered) += 1;
        progress.advanced.notify_all();
    }
}

/// No code of others runs under these locks, so poison tells nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
