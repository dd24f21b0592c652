//! The handle of a sample that has been started.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tinkex_observer::QueueStates;
use tinkex_types::{InvalidInput, SampleResponse};
use tokio::sync::oneshot;

use crate::Error;
use crate::inflight::Row;

/// A sample in progress. It was started by the call that returned this handle; awaiting it gives the result.
///
/// **Drop** abandons the sample: nothing more is sent for it, its poll stops, its permits come back, and where the
/// server enables it `cancel_future` is sent. Only an attempt of the submission that is already on the wire is
/// finished first (60 s at most), with its permits, so that no sequence id is lost.
#[must_use = "dropping the handle abandons the sample"]
pub struct SampleHandle<T = SampleResponse> {
    result: oneshot::Receiver<Result<SampleResponse, Error>>,
    row: Option<Arc<Row>>,
    convert: fn(SampleResponse) -> T,
}

impl<T> SampleHandle<T> {
    pub(crate) fn new(
        result: oneshot::Receiver<Result<SampleResponse, Error>>,
        row: Arc<Row>,
        convert: fn(SampleResponse) -> T,
    ) -> Self {
        Self { result, row: Some(row), convert }
    }

    /// A handle whose result is known: the request was refused.
    pub(crate) fn refused(error: Error, convert: fn(SampleResponse) -> T) -> Self {
        let (sender, result) = oneshot::channel();
        // The receiver is right here.
        let _ = sender.send(Err(error));
        Self { result, row: None, convert }
    }

    /// The promise, once the server has accepted the sample. Keep it to resume after a crash with
    /// [`SamplingClient::resume`](crate::SamplingClient::resume).
    pub fn request_id(&self) -> Option<Arc<str>> {
        self.row.as_ref().and_then(|row| row.request_id())
    }

    /// The queue states of this sample as they change, its submissions included, behind the last one that is known. The
    /// stream ends when the sample has left [`ServiceClient::inflight`](crate::ServiceClient::inflight), and does not keep
    /// it going.
    pub fn queue_states(&self) -> QueueStates {
        self.row.as_ref().map_or_else(QueueStates::ended, |row| row.queue_states())
    }

    /// Waits, blocking the thread. For threads outside any runtime; those of `spawn_blocking` cannot be told from async
    /// workers and are refused too (use `Handle::block_on` there).
    ///
    /// # Errors
    /// The sample's, or [`InvalidInput`](crate::ErrorKind::InvalidInput) where the thread belongs to a runtime, which
    /// blocking would stall.
    pub fn wait(self) -> Result<T, Error> {
        if tokio::runtime::Handle::try_current().is_ok() {
            return Err(InvalidInput::new("wait()", "would block an async worker; use .await there").into());
        }
        match self.result.blocking_recv() {
            Ok(result) => result.map(self.convert),
            Err(_) => Err(Error::task_ended()),
        }
    }
}

impl<T> Future for SampleHandle<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let convert = self.convert;
        Pin::new(&mut self.result)
            .poll(cx)
            .map(|result| result.unwrap_or_else(|_| Err(Error::task_ended())).map(convert))
    }
}

impl<T> fmt::Debug for SampleHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SampleHandle").field("request_id", &self.request_id()).finish_non_exhaustive()
    }
}
