//! Transitions as a stream: the reader's end, and the bounded place where transitions wait for it.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use tinkex_types::QueueStateChange;

/// How many transitions wait for the reader of a [`QueueStates`] before the oldest of them is lost.
pub const QUEUE_STATES_CAPACITY: usize = 64;

/// The queue states of one request, of one client, or of a whole service, as they change (PROTOCOL 17.2).
///
/// * Transitions only: an item differs from the one before it, on the same promise, in the state or in the reason.
/// * The stream of one request begins with the last state that is known, if there is one, and ends when the request has
///   ended. That of a client or service begins with the next transition, and ends when the last clone of the client is gone.
/// * At most [`QUEUE_STATES_CAPACITY`] items wait. A reader that is slower than that loses the oldest of them, and
///   [`missed`](Self::missed) says how many. It never holds a poll up.
/// * Dropping the stream unsubscribes.
///
/// Read it with [`next`](Self::next), or as a [`Stream`]. It is `Send`, `Unpin` and `'static`, and needs no runtime.
#[must_use = "a stream gives nothing unless it is read"]
pub struct QueueStates {
    inbox: Arc<Inbox>,
}

impl QueueStates {
    pub(crate) fn of(inbox: Arc<Inbox>) -> Self {
        Self { inbox }
    }

    /// A stream without items, that has ended.
    pub fn ended() -> Self {
        let inbox = Inbox::default();
        inbox.end();
        Self::of(Arc::new(inbox))
    }

    /// The next transition; none at the end, and from then on.
    ///
    /// **Cancellation**: dropping the future loses nothing, so it may stand in a `select!`.
    pub async fn next(&mut self) -> Option<QueueStateChange> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// How many transitions this stream has lost because nobody read them in time, since it began. They were older than
    /// the one that [`next`](Self::next) gives now.
    pub fn missed(&self) -> u64 {
        self.inbox.contents().missed
    }
}

impl Stream for QueueStates {
    type Item = QueueStateChange;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<QueueStateChange>> {
        self.inbox.poll_take(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let contents = self.inbox.contents();
        let waiting = contents.waiting.len();
        (waiting, contents.over.then_some(waiting))
    }
}

impl fmt::Debug for QueueStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (waiting, missed, over) = {
            let contents = self.inbox.contents();
            (contents.waiting.len(), contents.missed, contents.over)
        };
        f.debug_struct("QueueStates")
            .field("waiting", &waiting)
            .field("missed", &missed)
            .field("over", &over)
            .finish()
    }
}

/// Where transitions wait for one reader.
#[derive(Default)]
pub(crate) struct Inbox(Mutex<Contents>);

#[derive(Default)]
struct Contents {
    waiting: VecDeque<QueueStateChange>,
    missed: u64,
    over: bool,
    reader: Option<Waker>,
}

impl Inbox {
    /// Adds a transition, in the place of the oldest one where there is no room. The reader that waits for it is to be
    /// woken.
    pub(crate) fn post(&self, change: QueueStateChange) -> Option<Waker> {
        let mut contents = self.contents();
        if contents.waiting.len() >= QUEUE_STATES_CAPACITY {
            contents.waiting.pop_front();
            contents.missed += 1;
        }
        contents.waiting.push_back(change);
        contents.reader.take()
    }

    /// Nothing is added from now on. The reader that waits is to be woken.
    pub(crate) fn end(&self) -> Option<Waker> {
        let mut contents = self.contents();
        contents.over = true;
        contents.reader.take()
    }

    fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Option<QueueStateChange>> {
        let mut contents = self.contents();
        if let Some(change) = contents.waiting.pop_front() {
            return Poll::Ready(Some(change));
        }
        if contents.over {
            return Poll::Ready(None);
        }
        let before = contents.reader.replace(cx.waker().clone());
        // Dropping a waker may drop its task, and with it other streams: not below this lock.
        drop(contents);
        drop(before);
        Poll::Pending
    }

    /// A panic below this lock, of a waker being cloned, leaves nothing half done: poison tells nothing.
    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
