//! The books of the session poller: who waits, what was announced, what is still to be reported. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Completion, ManyAsk, SessionPollError};

/// How many announcements nobody fetched are kept; the oldest go first.
const MOST_KEPT: usize = 100_000;

pub(super) type Announced = Result<Completion, SessionPollError>;

#[derive(Default)]
pub(super) struct Ledger {
    /// Waiters by promise; several may wait for the same one.
    waiting: HashMap<Arc<str>, Vec<oneshot::Sender<Announced>>>,
    /// Announcements not yet marked retrieved, each with its place in `order`.
    announced: HashMap<Arc<str>, (u64, Completion)>,
    order: BTreeMap<u64, Arc<str>>,
    next_place: u64,
    /// Fetched results the server has not been told of.
    retrieved: BTreeSet<Arc<str>>,
    cursor: i64,
    acked: i64,
    ended: Option<SessionPollError>,
}

impl Ledger {
    /// What is known about a promise without waiting. An announcement outlives the end of the poll.
    pub(super) fn known(&self, request_id: &str) -> Option<Announced> {
        if let Some((_, completion)) = self.announced.get(request_id) {
            return Some(Ok(*completion));
        }
        self.ended.clone().map(Err)
    }

    pub(super) fn wait_for(&mut self, request_id: &str) -> oneshot::Receiver<Announced> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.entry(Arc::from(request_id)).or_default().push(sender);
        receiver
    }

    /// Drops waiters that do not listen any more.
    pub(super) fn forget_closed_waiters(&mut self, request_id: &str) {
        if let Some(waiters) = self.waiting.get_mut(request_id) {
            waiters.retain(|waiter| !waiter.is_closed());
            if waiters.is_empty() {
                self.waiting.remove(request_id);
            }
        }
    }

    pub(super) fn mark_retrieved(&mut self, request_id: &str) {
        let id = match self.announced.remove_entry(request_id) {
            Some((id, (place, _))) => {
                self.order.remove(&place);
                id
            }
            None => Arc::from(request_id),
        };
        self.retrieved.insert(id);
    }

    /// The next question; none while there is nothing to ask for and nothing to report.
    pub(super) fn next_ask(&self) -> Option<ManyAsk> {
        if self.waiting.is_empty() { self.last_ask() } else { Some(self.ask(false)) }
    }

    /// The question that reports what is unreported; none where everything is.
    pub(super) fn last_ask(&self) -> Option<ManyAsk> {
        (!self.retrieved.is_empty() || self.cursor > self.acked).then(|| self.ask(true))
    }

    fn ask(&self, ack_only: bool) -> ManyAsk {
        let retrieved_request_ids = self.retrieved.iter().cloned().collect();
        ManyAsk { prev_cursor: self.cursor, ack_only, retrieved_request_ids }
    }

    /// Takes in a successful answer: what was reported is done with, and announcements go to their waiters. True where
    /// one of them was not known before.
    pub(super) fn take_in(
        &mut self,
        ask: &ManyAsk,
        cursor: Option<i64>,
        completions: impl IntoIterator<Item = (String, Completion)>,
    ) -> bool {
        for id in &ask.retrieved_request_ids {
            self.retrieved.remove(id);
        }
        self.acked = self.acked.max(ask.prev_cursor);
        self.cursor = cursor.unwrap_or(self.cursor);
        let mut news = false;
        for (id, completion) in completions {
            news |= self.announce(id.into(), completion);
        }
        news
    }

    fn announce(&mut self, id: Arc<str>, completion: Completion) -> bool {
        for waiter in self.waiting.remove(&id).unwrap_or_default() {
            // A waiter that has just gone finds the announcement when it comes back.
            let _ = waiter.send(Ok(completion));
        }
        if self.retrieved.contains(&id) {
            return false;
        }
        let place = self.next_place;
        self.next_place = self.next_place.wrapping_add(1);
        let before = self.announced.insert(Arc::clone(&id), (place, completion));
        if let Some((before, _)) = before {
            self.order.remove(&before);
        }
        self.order.insert(place, id);
        while self.announced.len() > MOST_KEPT {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.announced.remove(&oldest);
        }
        before.is_none()
    }

    /// Why the poll has ended, where it has.
    pub(super) fn ended(&self) -> Option<SessionPollError> {
        self.ended.clone()
    }

    pub(super) fn is_open(&self) -> bool {
        self.ended.is_none()
    }

    /// Ends the poll: every current and future waiter fails. The first reason stays.
    pub(super) fn end(&mut self, error: SessionPollError) {
        let error = self.ended.get_or_insert(error);
        for waiter in self.waiting.drain().flat_map(|(_, waiters)| waiters) {
            let _ = waiter.send(Err(error.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Announcements nobody asks for are bounded, and the oldest are dropped.
    #[test]
    fn unclaimed_announcements_are_bounded() {
        let mut ledger = Ledger::default();
        let ask = ManyAsk { prev_cursor: 0, ack_only: false, retrieved_request_ids: Vec::new() };
        let many = (0..MOST_KEPT + 5).map(|n| (format!("r{n}"), Completion::Failed));
        ledger.take_in(&ask, Some(1), many);
        assert_eq!(ledger.announced.len(), MOST_KEPT);
        assert_eq!(ledger.order.len(), MOST_KEPT);
        assert!(ledger.known("r4").is_none(), "the oldest are gone");
        assert!(ledger.known("r5").is_some());
        // A repeated announcement takes no second place.
        ledger.take_in(&ask, Some(2), [("r5".to_owned(), Completion::Failed)]);
        assert_eq!(ledger.order.len(), MOST_KEPT);
    }

    /// What is reported, and when there is nothing to do (PROTOCOL 16.6).
    #[test]
    fn reports_until_everything_is_acknowledged() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.next_ask(), None);
        let receiver = ledger.wait_for("r");
        let ask = ledger.next_ask().unwrap();
        assert_eq!((ask.prev_cursor, ask.ack_only), (0, false));
        ledger.take_in(&ask, Some(7), [("r".to_owned(), Completion::Failed)]);
        drop(receiver);
        let ask = ledger.next_ask().unwrap();
        assert_eq!((ask.prev_cursor, ask.ack_only), (7, true));
        ledger.mark_retrieved("r");
        ledger.take_in(&ask, Some(7), []);
        let ask = ledger.next_ask().unwrap();
        assert_eq!(
            ask.retrieved_request_ids,
            [Arc::from("r")],
            "marked while the ask was on its way: next time"
        );
        ledger.take_in(&ask, None, []);
        assert_eq!(ledger.next_ask(), None);
    }
}
