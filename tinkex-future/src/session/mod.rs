//! The session poller (PROTOCOL 16.6): one long poll that announces which promises of a sampling session are done.
//!
//! Instead of one long poll per sample, a single background task asks for the completions of the whole session.
//! A sample waits for its announcement ([`SessionPoller::wait`]), fetches its result once, and says so
//! ([`SessionPoller::mark_retrieved`]); [`Poller::poll_announced`](crate::Poller::poll_announced) does all three.

mod ledger;
mod task;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::Outcome;
use ledger::Ledger;

/// Asks a server once which promises of a session are done (PROTOCOL 16.6).
///
/// Over HTTP this is one `POST /api/v1/retrieve_futures`, its `target` filled in by the implementer, without retries
/// inside. Must be cancel-safe.
pub trait RetrieveMany: Send + Sync {
    /// Asks once.
    fn retrieve_many(&self, ask: &ManyAsk) -> impl Future<Output = ManyOutcome> + Send;
}

/// What came of asking: the raw answer, or none.
pub type ManyOutcome = Outcome;

/// One question about a session (PROTOCOL 16.6).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManyAsk {
    /// The cursor of the last answer, 0 at first.
    pub prev_cursor: i64,
    /// True where nobody waits and this ask only reports: send `timeout: 0.0`. Otherwise leave `timeout` out.
    pub ack_only: bool,
    /// Promises whose results have been fetched, sorted.
    pub retrieved_request_ids: Vec<Arc<str>>,
}

impl ManyAsk {
    /// The client's own timeout for this request: 45 s, or 5 s where it only reports.
    pub fn client_timeout(&self) -> Duration {
        Duration::from_secs(if self.ack_only { 5 } else { 45 })
    }
}

/// The announced end of a promise (PROTOCOL 16.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Completion {
    /// The result is there.
    Finished {
        /// Its size in bytes, where the server says it.
        size: Option<u64>,
    },
    /// The operation failed; polling the promise gives the error.
    Failed,
}

/// The session poller gave up, or was closed; nobody will be announced any more (PROTOCOL 16.6).
#[derive(Clone, Debug, thiserror::Error)]
#[error("the session poll has ended: {message}")]
pub struct SessionPollError {
    message: Arc<str>,
    status: Option<u16>,
}

impl SessionPollError {
    fn new(message: impl Into<Arc<str>>, status: Option<u16>) -> Self {
        Self { message: message.into(), status }
    }

    /// The status that ended it, where one did.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// Why it ended.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// One background poll for all promises of a sampling session (PROTOCOL 16.6).
///
/// The task starts with the first waiter, sleeps while there is nothing to ask or to report, and ends when the
/// poller is dropped or closed.
pub struct SessionPoller<M> {
    many: Arc<M>,
    handle: Handle,
    billing_pause: Duration,
    shared: Arc<Shared>,
}

/// What the task and the waiters share.
struct Shared {
    ledger: Mutex<Ledger>,
    wake: Notify,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_task(&self) -> Option<JoinHandle<()>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<M> SessionPoller<M> {
    /// A poller whose task will run on the given runtime.
    pub fn new(many: M, handle: Handle) -> Self {
        Self {
            many: Arc::new(many),
            handle,
            billing_pause: Duration::from_secs(3600),
            shared: Arc::new(Shared {
                ledger: Mutex::new(Ledger::default()),
                wake: Notify::new(),
                task: Mutex::new(None),
            }),
        }
    }

    /// Sets how long a billing pause (402) is waited out; default one hour.
    #[must_use]
    pub fn billing_pause(mut self, limit: Duration) -> Self {
        self.billing_pause = limit;
        self
    }

    /// Why the poll has ended, where it has: a terminal answer, or [`close`](Self::close). Nothing will be announced
    /// any more, so there is no use in making new promises.
    pub fn ended(&self) -> Option<SessionPollError> {
        self.shared.ledger().ended()
    }

    /// Says that a result has been fetched: its announcement is forgotten here, and at the server with the next ask.
    pub fn mark_retrieved(&self, request_id: &str) {
        self.shared.ledger().mark_retrieved(request_id);
        self.shared.wake.notify_one();
    }
}

impl<M: RetrieveMany + 'static> SessionPoller<M> {
    /// Waits until the server announces the end of a promise.
    ///
    /// An announcement that came before is found at once, and stays until the promise is marked retrieved; so the
    /// wait may be dropped and repeated at will.
    ///
    /// # Errors
    ///
    /// [`SessionPollError`] where the poll has ended before this promise was announced.
    pub async fn wait(&self, request_id: &str) -> Result<Completion, SessionPollError> {
        let receiver = {
            let mut ledger = self.shared.ledger();
            if let Some(known) = ledger.known(request_id) {
                return known;
            }
            ledger.wait_for(request_id)
        };
        let mut waiting = Waiting { shared: &self.shared, request_id, receiver };
        self.start();
        self.shared.wake.notify_one();
        let ended = || Err(SessionPollError::new("its task is gone", None));
        (&mut waiting.receiver).await.unwrap_or_else(|_| ended())
    }

    /// Stops the task, fails whoever still waits, and makes one last attempt to report what was not reported yet.
    /// Takes 5 s at most. Failures of that attempt do not matter and are not told.
    pub async fn close(&self) {
        self.shared.ledger().end(SessionPollError::new("it was closed", None));
        if let Some(task) = self.shared.take_task() {
            task.abort();
            // The answer to an ask that is still on its way must not be taken in after the last one.
            let _ = task.await;
        }
        let ask = self.shared.ledger().last_ask();
        if let Some(ask) = ask
            && let Ok(outcome) = timeout(ask.client_timeout(), self.many.retrieve_many(&ask)).await
        {
            task::take_in_last(&self.shared, &ask, outcome);
        }
    }

    /// Starts the task unless it runs already.
    fn start(&self) {
        let mut task = self.shared.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.is_none() && self.shared.ledger().is_open() {
            let (many, shared) = (Arc::clone(&self.many), Arc::clone(&self.shared));
            *task = Some(self.handle.spawn(task::run(many, shared, self.billing_pause)));
        }
    }
}

impl<M> fmt::Debug for SessionPoller<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionPoller").finish_non_exhaustive()
    }
}

impl<M> Drop for SessionPoller<M> {
    fn drop(&mut self) {
        if let Some(task) = self.shared.take_task() {
            task.abort();
        }
    }
}

/// A place in the list of waiters, given up on drop.
struct Waiting<'a> {
    shared: &'a Shared,
    request_id: &'a str,
    receiver: oneshot::Receiver<Result<Completion, SessionPollError>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.receiver.close();
        self.shared.ledger().forget_closed_waiters(self.request_id);
    }
}
