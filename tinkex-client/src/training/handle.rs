//! The handle of a training operation that has been started.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tinkex_observer::QueueStates;
use tinkex_types::InvalidInput;
use tokio::sync::oneshot;

use crate::Error;
use crate::inflight::Row;

/// A training operation in progress. It was started by the call that returned this handle; awaiting it gives the
/// result.
///
/// **Drop** detaches the operation: it still waits its turn and reaches the server, so that neither the order nor the
/// sequence ids suffer, but its result is not fetched and nobody hears of a failure. Until it is submitted it keeps the
/// service alive, heartbeat included: against a server that refuses it for now, for ever, until 30 s after
/// [`ServiceClient::close`](crate::ServiceClient::close).
///
/// **Closing** the service lets operations called before be submitted for 30 s. One that could not be fails with
/// [`Closed`](crate::ErrorKind::Closed), and [`Error::effect`] says whether the server may have taken it in; one that was
/// submitted is waited for as usual.
#[must_use = "the operation goes on without its handle, but nobody hears how it ended"]
pub struct TrainingHandle<T> {
    result: oneshot::Receiver<Result<T, Error>>,
    row: Option<Arc<Row>>,
}

impl<T> TrainingHandle<T> {
    pub(crate) fn new(result: oneshot::Receiver<Result<T, Error>>, row: Option<Arc<Row>>) -> Self {
        Self { result, row }
    }

    /// A handle whose result is known: the operation was refused.
    pub(crate) fn refused(error: impl Into<Error>) -> Self {
        let (sender, result) = oneshot::channel();
        // The receiver is right here.
        let _ = sender.send(Err(error.into()));
        Self { result, row: None }
    }

    /// The promises, once the server has taken the operation in: one, or one for each chunk of a batch.
    pub fn request_ids(&self) -> Vec<Arc<str>> {
        self.row.as_ref().map(|row| row.request_ids()).unwrap_or_default()
    }

    /// The queue states of this operation as they change, its submissions included, behind the last one that is known.
    /// The chunks of a large batch are promises of their own, each with its transitions. The stream ends when the operation
    /// has left [`ServiceClient::inflight`](crate::ServiceClient::inflight).
    pub fn queue_states(&self) -> QueueStates {
        self.row.as_ref().map_or_else(QueueStates::ended, |row| row.queue_states())
    }

    /// Waits, blocking the thread. For threads outside any runtime; those of `spawn_blocking` cannot be told from async
    /// workers and are refused too (use `Handle::block_on` there).
    ///
    /// # Errors
    /// The operation's, or [`InvalidInput`](crate::ErrorKind::InvalidInput) where the thread belongs to a runtime, which
    /// blocking would stall.
    pub fn wait(self) -> Result<T, Error> {
        if tokio::runtime::Handle::try_current().is_ok() {
            return Err(InvalidInput::new("wait()", "would block an async worker; use .await there").into());
        }
        self.result.blocking_recv().unwrap_or_else(|_| Err(Error::task_ended()))
    }
}

impl<T> Future for TrainingHandle<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.result).poll(cx).map(|result| result.unwrap_or_else(|_| Err(Error::task_ended())))
    }
}

impl<T> fmt::Debug for TrainingHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrainingHandle").field("request_ids", &self.request_ids()).finish_non_exhaustive()
    }
}
