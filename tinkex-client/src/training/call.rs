//! One call of a training client: what its task knows, and how the task runs.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use tinkex_metrics::contract;
use tinkex_types::RequestType;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::client::Trainer;
use super::handle::TrainingHandle;
use super::turns::{NoTicket, Ticket, Turns};
use crate::inflight::{InflightEntry, Row};
use crate::operation_span::OperationSpan;
use crate::telemetry::Telemetry;
use crate::{Error, ErrorKind};

/// What is called: names for the server, the log and the table of requests in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    /// The public method (PROTOCOL 5.1).
    pub(crate) method: &'static str,
    pub(crate) kind: RequestType,
}

impl Operation {
    /// Counts what has succeeded.
    fn count(self, succeeded: bool) {
        if succeeded && self.kind == RequestType::OptimStep {
            contract::TRAINING_STEPS.increment([]);
        }
    }
}

/// Who is told how a call ends: the trace and the telemetry.
struct Watched {
    span: OperationSpan,
    telemetry: Telemetry,
}

impl Watched {
    fn failed(&self, operation: Operation, error: &Error) {
        self.span.failed(error);
        self.telemetry.operation_failed(operation.method, error);
    }
}

/// A call in progress.
pub(crate) struct Call {
    pub(crate) trainer: Arc<Trainer>,
    pub(crate) operation: Operation,
    /// The time of the call, before its turn.
    pub(super) started: Instant,
    pub(super) row: Arc<Row>,
    wanted: watch::Receiver<()>,
}

impl Call {
    /// Does `work` for as long as the handle lives: what only serves the result is not worth doing after that.
    pub(crate) async fn while_wanted<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut wanted = self.wanted.clone();
        // Nothing is ever sent: this ends when the sender is dropped.
        let dropped = async { while wanted.changed().await.is_ok() {} };
        tokio::select! {
            biased;
            () = dropped => Err(Error::detached()),
            result = work => result,
        }
    }

    /// Does `work`, which comes before a submission, for as long as anything may still be submitted.
    pub(crate) async fn while_open<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            () = self.trainer.holder.closing.over() => Err(Error::closed("service")),
            result = work => result,
        }
    }
}

/// Starts `work` as a task with the next place among the operations of the trainer, which is taken here and now.
pub(crate) fn start<T, F>(
    trainer: &Arc<Trainer>,
    operation: Operation,
    work: impl FnOnce(Call, Ticket) -> F,
) -> TrainingHandle<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    start_at(trainer, Turns::ticket, operation, work)
}

/// [`start`], at the place that `take` gives.
pub(super) fn start_at<T, F>(
    trainer: &Arc<Trainer>,
    take: fn(&Arc<Turns>) -> Result<Ticket, NoTicket>,
    operation: Operation,
    work: impl FnOnce(Call, Ticket) -> F,
) -> TrainingHandle<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    if let Err(closed) = trainer.holder.check_open() {
        return TrainingHandle::refused(closed);
    }
    let Ok(ticket) = take(&trainer.turns) else {
        return TrainingHandle::refused(Error::unloaded(&trainer.model_id));
    };
    let entry = trainer.holder.inflight.enter(operation.kind, Arc::clone(&trainer.model_id));
    let (sender, receiver) = oneshot::channel();
    let (interest, wanted) = watch::channel(());
    let row = Arc::clone(entry.row());
    let handle = TrainingHandle::new(receiver, Some(Arc::clone(&row)));
    let call = Call { trainer: Arc::clone(trainer), operation, started: Instant::now(), row, wanted };
    let span = OperationSpan::open(operation.method, Some(operation.kind), Some(&trainer.model_id));
    let watched = Watched { span: span.clone(), telemetry: trainer.holder.telemetry().clone() };
    let work = run(work(call, ticket), operation, entry, interest, sender, watched);
    // The task ends by itself: with the result, or, once the handle is dropped, with the submission.
    trainer.holder.runtime.spawn(span.around(work));
    handle
}

/// The handle of an operation that is refused at the call.
pub(crate) fn refuse<T>(
    trainer: &Trainer,
    method: &'static str,
    error: impl Into<Error>,
) -> TrainingHandle<T> {
    let error = error.into();
    trainer.holder.telemetry().operation_failed(method, &error);
    TrainingHandle::refused(error)
}

async fn run<T>(
    work: impl Future<Output = Result<T, Error>>,
    operation: Operation,
    entry: InflightEntry,
    interest: watch::Sender<()>,
    mut sender: oneshot::Sender<Result<T, Error>>,
    watched: Watched,
) {
    let mut work = pin!(work);
    let outcome = tokio::select! {
        // Whether anybody wants the result is asked first, so that a poll is not begun for nothing.
        biased;
        () = sender.closed() => None,
        result = work.as_mut() => Some(result),
    };
    match outcome {
        Some(result) => {
            entry.ends_with(&result);
            operation.count(result.is_ok());
            if let Err(error) = &result {
                watched.failed(operation, error);
            }
            watched.span.polled(entry.row());
            drop(entry);
            // Nobody listens where the handle was dropped in this very moment.
            let _ = sender.send(result);
        }
        None => {
            drop(interest);
            if let Err(error) = work.await {
                // The end of what only serves a result that nobody wants is no failure.
                match error.kind() {
                    ErrorKind::TaskEnded => watched.span.abandoned(),
                    _ => {
                        entry.ends("failed");
                        watched.failed(operation, &error);
                    }
                }
                tracing::debug!(operation = operation.method, "a detached operation ended: {error}");
            }
            entry.ends("detached");
            watched.span.polled(entry.row());
        }
    }
}
