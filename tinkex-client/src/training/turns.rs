//! Whose turn it is: the operations of a training client are sent in the order in which they were called.
//!
//! A ticket is a place in the queue of a fair lock, taken at the moment of the call, on whatever thread that is. The
//! lock guards the sequence ids, so they are drawn in ticket order. A ticket or a turn that is dropped, by an error or
//! a panic, lets the next one pass: nothing an operation does can stop those behind it.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{Arc, Mutex as StdMutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::coop::unconstrained;

use super::sequence::SequenceState;
use crate::closing::Closing;
use crate::{Effect, Error};

/// The queue of a training client.
pub(crate) struct Turns {
    state: Arc<Mutex<SequenceState>>,
    desk: StdMutex<Desk>,
    closing: Arc<Closing>,
}

/// Where tickets are given out.
struct Desk {
    /// What the tickets of now have in common.
    batch: Arc<TicketBatch>,
    closed: bool,
}

/// The tickets between two declarations of [`Turn::fail_queued`]; the cause, where theirs has been declared.
#[derive(Default)]
struct TicketBatch(OnceLock<Error>);

/// No ticket is to be had any more.
pub(crate) struct NoTicket;

impl Turns {
    pub(crate) fn new(state: SequenceState, closing: Arc<Closing>) -> Arc<Self> {
        let desk = StdMutex::new(Desk { batch: Arc::default(), closed: false });
        Arc::new(Self { state: Arc::new(Mutex::new(state)), desk, closing })
    }

    /// Takes the next place. This decides the order, so it happens in the call itself.
    pub(crate) fn ticket(self: &Arc<Self>) -> Result<Ticket, NoTicket> {
        self.take(false)
    }

    /// Takes the last place there is: later calls get none.
    pub(crate) fn last_ticket(self: &Arc<Self>) -> Result<Ticket, NoTicket> {
        self.take(true)
    }

    fn take(self: &Arc<Self>, last: bool) -> Result<Ticket, NoTicket> {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        if desk.closed {
            return Err(NoTicket);
        }
        desk.closed = last;
        Ok(self.queue(&desk))
    }

    /// A place behind everything called before, also where there was a last ticket already; later calls get none.
    fn final_ticket(self: &Arc<Self>) -> Ticket {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        desk.closed = true;
        self.queue(&desk)
    }

    fn queue(self: &Arc<Self>, desk: &Desk) -> Ticket {
        // A lock is queued for when it is first polled. The budget of a task must not put that off.
        let mut queued: QueuedLock = Box::pin(unconstrained(Arc::clone(&self.state).lock_owned()));
        let place = match queued.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(state) => Place::First(state),
            Poll::Pending => Place::Queued(queued),
        };
        Ticket { place, batch: Arc::clone(&desk.batch), turns: Arc::clone(self) }
    }

    /// Ends the giving out of tickets, and waits until every operation that has one was submitted or may not be any more.
    pub(crate) async fn finish(self: &Arc<Self>) {
        // An error says that the turn came to nothing, which is all the same here.
        let _ = self.final_ticket().turn().await;
    }

    /// There are tickets again: the last operation was in vain.
    pub(crate) fn reopen(&self) {
        if self.closing.has_begun() {
            return;
        }
        self.desk.lock().unwrap_or_else(PoisonError::into_inner).closed = false;
    }
}

type QueuedLock = Pin<Box<dyn Future<Output = OwnedMutexGuard<SequenceState>> + Send>>;

enum Place {
    First(OwnedMutexGuard<SequenceState>),
    Queued(QueuedLock),
}

/// A place in the queue.
pub(crate) struct Ticket {
    place: Place,
    batch: Arc<TicketBatch>,
    turns: Arc<Turns>,
}

impl Ticket {
    /// Waits for the turn.
    ///
    /// # Errors
    /// Where an operation before it declared that it must not be sent, and where the service was closed and the turn
    /// did not come in time.
    pub(crate) async fn turn(self) -> Result<Turn, Error> {
        let state = match self.place {
            Place::First(state) => state,
            Place::Queued(queued) => tokio::select! {
                // Those behind one that was cut off must not come to their turn instead.
                biased;
                () = self.turns.closing.over() => {
                    return Err(Error::closed("service").with_effect(Effect::Nothing, "nothing was sent"));
                }
                state = queued => state,
            },
        };
        match self.batch.0.get() {
            Some(cause) => Err(Error::poisoned(cause)),
            None => Ok(Turn { state, turns: self.turns }),
        }
    }
}

/// The turn: no other operation of the client is being sent while it is held. Dropping it passes it on.
pub(crate) struct Turn {
    state: OwnedMutexGuard<SequenceState>,
    turns: Arc<Turns>,
}

impl Turn {
    /// Fails every operation that was called until now and whose turn has not come, without sending it. Later calls
    /// work as usual.
    pub(crate) fn fail_queued(&self, cause: &Error) {
        let mut desk = self.turns.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let queued = std::mem::take(&mut desk.batch);
        // Each batch is declared at most once, since it is replaced here.
        let _ = queued.0.set(cause.clone());
    }
}

impl Deref for Turn {
    type Target = SequenceState;

    fn deref(&self) -> &SequenceState {
        &self.state
    }
}

impl DerefMut for Turn {
    fn deref_mut(&mut self) -> &mut SequenceState {
        &mut self.state
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Ticket, Turns};
    use crate::training::sequence::SequenceState;
    use crate::{Error, ErrorKind};

    fn turns() -> Arc<Turns> {
        Turns::new(SequenceState::starting_at(1), Arc::default())
    }

    fn ticket(turns: &Arc<Turns>) -> Ticket {
        turns.ticket().unwrap_or_else(|_| unreachable!("the queue is open"))
    }

    /// The place is taken by the call, whoever asks for the turn first.
    #[tokio::test]
    async fn turns_come_in_the_order_of_tickets() {
        let turns = turns();
        let tickets: Vec<_> = (0..5).map(|_| ticket(&turns)).collect();
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        for (n, ticket) in tickets.into_iter().enumerate().rev() {
            let told = told.clone();
            tokio::spawn(async move {
                let turn = ticket.turn().await.unwrap();
                told.send(n).unwrap();
                drop(turn);
            });
            tokio::task::yield_now().await;
        }
        let mut order = Vec::new();
        for _ in 0..5 {
            order.push(heard.recv().await.unwrap());
        }
        assert_eq!(order, [0, 1, 2, 3, 4]);
    }

    /// Dropped tickets, in any order and in great number, hold nobody up; nor does a panic.
    #[tokio::test]
    async fn what_is_dropped_holds_nobody_up() {
        let turns = turns();
        let mut tickets: Vec<_> = (0..100_000).map(|_| ticket(&turns)).collect();
        let last = tickets.pop().unwrap();
        let panicking = tickets.pop().unwrap();
        while let Some(ticket) = tickets.pop() {
            drop(ticket);
        }
        let panicked = tokio::spawn(async move {
            let _turn = panicking.turn().await.unwrap();
            panic!("an operation that panics");
        });
        assert!(panicked.await.is_err());
        assert!(last.turn().await.is_ok());
    }

    /// Only what was called before the declaration fails by it.
    #[tokio::test]
    async fn queued_operations_can_be_failed() {
        let turns = turns();
        let (first, second, third) = (ticket(&turns), ticket(&turns), ticket(&turns));
        let turn = first.turn().await.unwrap();
        turn.fail_queued(&Error::task_ended());
        let later = ticket(&turns);
        drop(turn);
        for queued in [second, third] {
            let error = queued.turn().await.map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Poisoned);
            assert!(error.to_string().contains(&Error::task_ended().to_string()), "{error}");
        }
        assert!(later.turn().await.is_ok());
    }

    #[tokio::test]
    async fn nothing_comes_after_the_last_ticket() {
        let turns = turns();
        let last = turns.last_ticket().map_err(drop).unwrap();
        assert!(turns.ticket().is_err());
        assert!(last.turn().await.is_ok());
        turns.reopen();
        assert!(turns.ticket().is_ok());
    }
}
