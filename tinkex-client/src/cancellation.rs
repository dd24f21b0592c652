//! Telling the server about samples that nobody waits for any more (PROTOCOL 15.8).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tinkex_http::HttpClient;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::configuration::DynamicFlags;
use crate::endpoints;

/// Abandoned promises on their way to `cancel_future`. Adding one never waits; a task of the queue's own sends them,
/// a batch at a time. It starts with the first. When the queue is dropped it sends what is left and ends: a
/// cancellation takes half a minute at the most.
#[derive(Debug)]
pub(crate) struct CancelQueue {
    http: HttpClient,
    flags: DynamicFlags,
    runtime: Handle,
    drain: Mutex<Option<mpsc::UnboundedSender<Entry>>>,
}

#[derive(Debug)]
enum Entry {
    Cancel(String),
    Flushed(oneshot::Sender<()>),
}

impl CancelQueue {
    pub(crate) fn new(http: HttpClient, flags: DynamicFlags, runtime: Handle) -> Self {
        Self { http, flags, runtime, drain: Mutex::new(None) }
    }

    /// Queues a cancellation, where the server wants them.
    pub(crate) fn cancel(&self, request_id: &str) {
        if !self.flags.get().sample_cancel_enabled {
            return;
        }
        let mut drain = self.drain.lock().unwrap_or_else(PoisonError::into_inner);
        let drain = drain.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            // Owned through its channel: it ends when the sender is gone and everything is sent.
            self.runtime.spawn(run(self.http.clone(), self.flags.clone(), receiver));
            sender
        });
        // The task lives as long as the queue, so the receiver is there.
        let _ = drain.send(Entry::Cancel(request_id.to_owned()));
    }

    /// Waits until everything queued so far was sent, `limit` at most.
    pub(crate) async fn flush(&self, limit: Duration) {
        let (sender, receiver) = oneshot::channel();
        {
            let drain = self.drain.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(drain) = &*drain else { return };
            let _ = drain.send(Entry::Flushed(sender));
        }
        let _ = tokio::time::timeout(limit, receiver).await;
    }
}

async fn run(http: HttpClient, flags: DynamicFlags, mut receiver: mpsc::UnboundedReceiver<Entry>) {
    let http = &http;
    let mut batch = Vec::new();
    loop {
        let most =
            usize::try_from(flags.get().sample_cancel_max_batch_size).unwrap_or(usize::MAX).clamp(1, 1024);
        if receiver.recv_many(&mut batch, most).await == 0 {
            return;
        }
        let (mut ids, mut flushed) = (Vec::new(), Vec::new());
        for entry in batch.drain(..) {
            match entry {
                Entry::Cancel(id) => ids.push(id),
                Entry::Flushed(sender) => flushed.push(sender),
            }
        }
        join_all(ids.iter().map(|id| async move {
            if let Err(error) = endpoints::cancel_future(http, id).await {
                tracing::debug!(request_id = id, "a cancellation was dropped: {error}");
            }
        }))
        .await;
        for sender in flushed {
            let _ = sender.send(());
        }
    }
}
