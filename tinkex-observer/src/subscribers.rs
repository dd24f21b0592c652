//! Who reads the transitions of one source: a request, a client, or all clients of a service.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;

use tinkex_types::QueueStateChange;

use crate::QueueStates;
use crate::queue_states::Inbox;

/// Gives each transition to every [`QueueStates`] made from it.
///
/// Where nobody reads, publishing costs one relaxed load: no lock, no copy, no allocation. A reader that lags or is gone
/// costs the publisher nothing but the room of its bounded queue. Dropping the subscribers ends all streams, after what
/// waits in them.
#[derive(Default)]
pub struct Subscribers {
    /// How many there are, so that publishing for nobody takes no lock.
    count: AtomicUsize,
    roster: Mutex<Roster>,
}

#[derive(Default)]
struct Roster {
    inboxes: Vec<Weak<Inbox>>,
    over: bool,
}

impl Subscribers {
    /// A stream of the transitions from now on, behind `begin` where there is one. After [`end`](Self::end) there is
    /// nothing behind it.
    pub fn subscribe(&self, begin: Option<QueueStateChange>) -> QueueStates {
        let inbox = Arc::new(Inbox::default());
        if let Some(begin) = begin {
            inbox.post(begin);
        }
        let mut roster = self.roster();
        if roster.over {
            inbox.end();
        } else {
            // Forgets those that are gone before it grows, so that many short subscriptions leave nothing behind.
            if roster.inboxes.len() == roster.inboxes.capacity() {
                roster.inboxes.retain(|inbox| inbox.strong_count() > 0);
            }
            roster.inboxes.push(Arc::downgrade(&inbox));
            self.count.store(roster.inboxes.len(), Ordering::Relaxed);
        }
        drop(roster);
        QueueStates::of(inbox)
    }

    /// Gives `change` to every stream. Whoever waits for it is woken when what this returns is dropped, so a caller that
    /// holds a lock can let go of it first.
    pub fn publish(&self, change: &QueueStateChange) -> Wakeups {
        let mut wakers = Vec::new();
        if self.count.load(Ordering::Relaxed) > 0 {
            let mut roster = self.roster();
            roster.inboxes.retain(|inbox| {
                let inbox = inbox.upgrade();
                wakers.extend(inbox.as_ref().and_then(|inbox| inbox.post(change.clone())));
                inbox.is_some()
            });
            self.count.store(roster.inboxes.len(), Ordering::Relaxed);
        }
        Wakeups(wakers)
    }

    /// Ends every stream, after what waits in it; those that are made later have ended at once.
    pub fn end(&self) {
        let inboxes = {
            let mut roster = self.roster();
            roster.over = true;
            self.count.store(0, Ordering::Relaxed);
            std::mem::take(&mut roster.inboxes)
        };
        drop(Wakeups(inboxes.iter().filter_map(Weak::upgrade).filter_map(|inbox| inbox.end()).collect()));
    }

    /// No code of others runs under this lock, so poison tells nothing.
    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Subscribers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribers")
            .field("count", &self.count.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

/// Readers that have something to read now, to be woken. Dropping it wakes them.
#[must_use = "the readers are woken when this is dropped, which should be after every lock is released"]
#[derive(Debug, Default)]
pub struct Wakeups(Vec<Waker>);

impl Drop for Wakeups {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}
