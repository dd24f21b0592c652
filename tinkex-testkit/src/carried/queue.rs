//! Who came first goes first: the order that calls have in memory, kept over sockets that keep none.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// A queue of calls. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Queue(Arc<Mutex<Places>>);

#[derive(Default)]
struct Places {
    next: u64,
    taken: BTreeMap<u64, Option<Waker>>,
}

impl Queue {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the last place.
    pub(super) fn stand(&self) -> Place {
        let mut places = self.places();
        let number = places.next;
        places.next += 1;
        places.taken.insert(number, None);
        Place { queue: self.clone(), number }
    }
}

/// A place in a queue, until it is dropped.
pub(super) struct Place {
    queue: Queue,
    number: u64,
}

impl Place {
    /// Resolves when all that stood before have gone.
    pub(super) async fn first(&self) {
        poll_fn(|cx| {
            let mut places = self.queue.places();
            if places.taken.first_key_value().is_none_or(|(first, _)| *first == self.number) {
                return Poll::Ready(());
            }
            places.taken.insert(self.number, Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.queue.places();
        places.taken.remove(&self.number);
        let next = places.taken.first_entry().and_then(|mut first| first.get_mut().take());
        // Outside the lock: waking may run other code.
        drop(places);
        if let Some(waker) = next {
            waker.wake();
        }
    }
}
