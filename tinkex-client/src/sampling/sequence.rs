//! The sequence ids of one sampler: unique, and without gaps (F-11, F-14).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Gives out sequence ids from `first` upwards. An id is drawn when its sample is about to be sent and kept for all
/// attempts. One that provably never counted at the server is given back and drawn again first, so that a server
/// which insists on consecutive ids never waits for one that will not come.
#[derive(Debug)]
pub(crate) struct SequenceIds {
    next: AtomicU64,
    returned: Mutex<BinaryHeap<Reverse<u64>>>,
    /// How many ids are in `returned`, so that the common case takes no lock.
    waiting: AtomicU64,
}

impl SequenceIds {
    pub(crate) fn starting_at(first: u64) -> Self {
        Self { next: AtomicU64::new(first), returned: Mutex::default(), waiting: AtomicU64::new(0) }
    }

    /// The smallest id that was given back, or else the next new one.
    pub(crate) fn draw(&self) -> u64 {
        if self.waiting.load(Ordering::Acquire) > 0 {
            let mut returned = self.returned.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(Reverse(id)) = returned.pop() {
                self.waiting.fetch_sub(1, Ordering::AcqRel);
                return id;
            }
        }
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes an id back that never counted at the server.
    pub(crate) fn give_back(&self, id: u64) {
        let mut returned = self.returned.lock().unwrap_or_else(PoisonError::into_inner);
        returned.push(Reverse(id));
        self.waiting.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::SequenceIds;

    #[test]
    fn returned_ids_come_first_and_smallest_first() {
        let ids = SequenceIds::starting_at(10);
        assert_eq!([ids.draw(), ids.draw(), ids.draw()], [10, 11, 12]);
        ids.give_back(12);
        ids.give_back(10);
        assert_eq!([ids.draw(), ids.draw(), ids.draw()], [10, 12, 13]);
    }
}
