//! The sequence ids of a training client: from 1, in the order of the turns, without gaps (PROTOCOL 12.4, F-11).
//!
//! An id is drawn inside the turn, so that an operation which is never sent uses none. What became of it decides what
//! follows: an id that was refused is drawn again, and one of which nobody knows is settled before the next operation
//! goes out. So the server never waits for an id that does not come.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use tokio::time::Instant;

use super::submission::{Failure, Fate, Patience};

/// How far ahead of this client a server can be that counts differently: it may have counted requests that it refused.
const AHEAD: u64 = 10_000;

/// Ids are 31 bits wide at some servers.
const HIGHEST: u64 = i32::MAX as u64;

/// An id that was drawn and is not known to be used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    /// The server refused it, or never saw it.
    Refused,
    /// It may have been taken in.
    Unknown,
}

/// What has become of the ids so far.
#[derive(Debug)]
pub(crate) struct SequenceState {
    next: u64,
    /// The highest id that the server has taken.
    taken: u64,
    /// The ids that were sent and not taken, as far as is known.
    sent: BTreeSet<u64>,
    open: BTreeMap<u64, Open>,
    /// When the server was last given up on, if it has taken nothing since.
    given_up: Option<Instant>,
}

impl SequenceState {
    pub(crate) fn starting_at(first: u64) -> Self {
        let taken = first.saturating_sub(1);
        Self { next: first, taken, sent: BTreeSet::new(), open: BTreeMap::new(), given_up: None }
    }

    /// How long the submissions of an operation are repeated. One that was called before the server was given up on
    /// does not wait as long once more: an outage would be paid for by each of a hundred steps in the queue.
    pub(super) fn patience(&self, called: Instant) -> Patience {
        match self.given_up {
            Some(given_up) if called < given_up => Patience::Brief,
            _ => Patience::Full,
        }
    }

    /// The server was given up on.
    pub(super) fn give_up(&mut self) {
        self.given_up = Some(Instant::now());
    }

    /// Draws `count` consecutive ids. Until more is said of them they count as unknown, so that an operation which
    /// ends without a word leaves no gap.
    pub(crate) fn draw(&mut self, count: u64) -> Range<u64> {
        let ids = self.next..self.next.saturating_add(count);
        self.next = ids.end;
        self.open.extend(ids.clone().map(|id| (id, Open::Unknown)));
        ids
    }

    /// Whether the id was sent before, and came back.
    pub(crate) fn is_drawn_again(&self, id: u64) -> bool {
        self.sent.contains(&id)
    }

    /// The server has taken the id.
    pub(crate) fn accepted(&mut self, id: u64) {
        self.given_up = None;
        self.taken = self.taken.max(id);
        self.pass_over(id);
    }

    /// The id is left alone from now on.
    pub(crate) fn pass_over(&mut self, id: u64) {
        self.sent.remove(&id);
        self.open.remove(&id);
    }

    /// The id was not sent this time.
    pub(crate) fn unsent(&mut self, id: u64) {
        self.open.insert(id, Open::Refused);
        self.take_back();
    }

    /// The server has refused the id: it counts for nothing.
    pub(crate) fn refused(&mut self, id: u64) {
        self.sent.insert(id);
        self.unsent(id);
    }

    /// The server may have taken the id.
    pub(crate) fn unknown(&mut self, id: u64) {
        self.sent.insert(id);
        self.open.insert(id, Open::Unknown);
    }

    /// What a failed submission says of its id, and of the server.
    pub(super) fn failed(&mut self, id: u64, failure: &Failure) {
        if failure.is_outage {
            self.give_up();
        }
        match failure.fate {
            Fate::Unsent => self.unsent(id),
            Fate::Refused => self.refused(id),
            Fate::Unknown => self.unknown(id),
        }
    }

    /// Whether a server can expect this id: not below what it has taken, unless that is open, nor far beyond what was
    /// drawn. Any other number is about something else, or the server has lost its count.
    pub(crate) fn is_plausible(&self, expected: u64) -> bool {
        let taken = self.taken.saturating_add(1);
        let lowest = self.first_open().map_or(taken, |(open, _)| open.min(taken));
        (lowest..=self.next.saturating_add(AHEAD).min(HIGHEST)).contains(&expected)
    }

    /// The server counts differently: it expects `expected`, so everything below is used up and nothing from there on.
    pub(crate) fn adopt(&mut self, expected: u64) {
        self.open.clear();
        self.sent = self.sent.split_off(&expected);
        self.next = expected;
    }

    /// The server's count is ahead: everything below `expected` is used up.
    pub(crate) fn skip_to(&mut self, expected: u64) {
        self.open = self.open.split_off(&expected);
        self.sent = self.sent.split_off(&expected);
        self.next = self.next.max(expected);
    }

    /// The lowest id that has to be settled before a new one is used.
    pub(crate) fn first_open(&self) -> Option<(u64, Open)> {
        self.open.first_key_value().map(|(id, open)| (*id, *open))
    }

    /// Refused ids at the end are drawn again. (One that has used or unknown ids behind it must be filled.)
    fn take_back(&mut self) {
        while let Some(last) = self.open.last_entry()
            && *last.get() == Open::Refused
            && last.key().saturating_add(1) == self.next
        {
            self.next = last.remove_entry().0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Open, SequenceState};

    fn draw_one(state: &mut SequenceState) -> u64 {
        let id = state.draw(1).start;
        state.unknown(id);
        id
    }

    #[test]
    fn a_refused_id_is_drawn_again_and_known_to_be() {
        let mut state = SequenceState::starting_at(1);
        let id = draw_one(&mut state);
        assert_eq!(id, 1);
        state.accepted(id);
        let id = state.draw(1).start;
        assert!(!state.is_drawn_again(id));
        state.refused(id);
        assert_eq!(state.first_open(), None);
        assert_eq!(state.draw(1), 2..3);
        assert!(state.is_drawn_again(2));
    }

    /// An operation that is dropped in its turn has said nothing of its ids.
    #[test]
    fn an_id_without_a_word_is_unknown() {
        let mut state = SequenceState::starting_at(1);
        draw_one(&mut state);
        assert_eq!(state.first_open(), Some((1, Open::Unknown)));
        assert_eq!(state.draw(1), 2..3);
    }

    #[test]
    fn an_id_that_was_never_sent_is_as_good_as_new() {
        let mut state = SequenceState::starting_at(1);
        state.draw(1);
        state.unsent(1);
        assert_eq!(state.draw(1), 1..2);
        assert!(!state.is_drawn_again(1));
    }

    /// The id of a first chunk that was held back is no second use, though those behind it were sent.
    #[test]
    fn ids_are_told_apart() {
        let mut state = SequenceState::starting_at(1);
        state.draw(3);
        state.refused(3);
        state.refused(2);
        state.unsent(1);
        assert_eq!(state.draw(3), 1..4);
        assert_eq!([1, 2, 3].map(|id| state.is_drawn_again(id)), [false, true, true]);
    }

    /// Numbers below what was taken, or far ahead, or too wide, are not the count of the server.
    #[test]
    fn a_count_must_be_plausible() {
        let mut state = SequenceState::starting_at(1);
        state.draw(4);
        state.accepted(1);
        state.accepted(3);
        assert_eq!(
            [0, 1, 2, 5, 10_005, 10_006].map(|id| state.is_plausible(id)),
            [false, false, true, true, true, false]
        );
        state.accepted(2);
        state.accepted(4);
        assert_eq!([3, 4, 5].map(|id| state.is_plausible(id)), [false, false, true]);
        let state = SequenceState::starting_at((1 << 31) - 2);
        assert_eq!([(1 << 31) - 1, 1 << 31].map(|id| state.is_plausible(id)), [true, false]);
    }

    /// Of a batch, refused ids come back from the end; one before a used id stays open.
    #[test]
    fn holes_stay_open_and_ends_come_back() {
        let mut state = SequenceState::starting_at(5);
        assert_eq!(state.draw(4), 5..9);
        state.accepted(7);
        state.refused(8);
        state.refused(6);
        state.accepted(5);
        assert_eq!(state.first_open(), Some((6, Open::Refused)));
        assert_eq!(state.draw(1), 8..9, "8 is drawn again");
        state.accepted(6);
        state.accepted(8);
        assert_eq!(state.first_open(), None);
    }

    /// All of a batch refused: all ids come back, whatever the order of the refusals.
    #[test]
    fn a_batch_that_was_refused_leaves_no_trace() {
        for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
            let mut state = SequenceState::starting_at(1);
            state.draw(3);
            order.into_iter().for_each(|id| state.refused(id));
            assert_eq!(state.draw(1), 1..2, "{order:?}");
        }
    }

    #[test]
    fn the_server_may_count_differently() {
        let mut state = SequenceState::starting_at(1);
        state.draw(3);
        state.adopt(2);
        assert_eq!((state.first_open(), state.draw(1)), (None, 2..3));
        state.skip_to(9);
        assert_eq!((state.first_open(), state.draw(1)), (None, 9..10));
    }
}
