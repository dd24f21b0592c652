//! What is known of one request while it runs, and who follows its queue states.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tinkex_future::PollProgress;
use tinkex_observer::{QueueStates, Subscribers};
use tinkex_types::{QueueState, QueueStateChange, RequestType};
use tokio::time::Instant;

use super::metrics::RequestMetrics;
use super::{InflightRequest, Stage};

/// Updated by the request's task, read by whoever asks.
#[derive(Debug)]
pub(crate) struct Row {
    pub(super) number: u64,
    kind: RequestType,
    pub(super) client_id: Arc<str>,
    metrics: RequestMetrics,
    promises: Mutex<Vec<Arc<str>>>,
    stage: AtomicU8,
    polls: AtomicU32,
    /// The last answer that carried a queue state.
    last: Mutex<Option<QueueStateChange>>,
    subscribers: Subscribers,
    /// Whether it was given up from outside its task.
    given_up: AtomicBool,
    /// The task, to be woken then.
    task: AtomicWaker,
}

impl Row {
    pub(super) fn new(number: u64, kind: RequestType, client_id: Arc<str>) -> Self {
        Self {
            number,
            kind,
            client_id,
            metrics: RequestMetrics::begin(kind),
            promises: Mutex::default(),
            stage: AtomicU8::new(Stage::Queued as u8),
            polls: AtomicU32::new(0),
            last: Mutex::new(None),
            subscribers: Subscribers::default(),
            given_up: AtomicBool::new(false),
            task: AtomicWaker::new(),
        }
    }

    pub(crate) fn submitting(&self) {
        self.stage.store(Stage::Submitting as u8, Ordering::Relaxed);
        self.metrics.reached(Stage::Submitting);
    }

    pub(crate) fn polling(&self, request_id: Arc<str>) {
        self.set_promises(vec![request_id]);
    }

    pub(crate) fn set_promises(&self, request_ids: Vec<Arc<str>>) {
        *self.promises() = request_ids;
        self.polls.store(0, Ordering::Relaxed);
        self.stage.store(Stage::Polling as u8, Ordering::Relaxed);
        self.metrics.reached(Stage::Polling);
    }

    /// The promise, once there is one; the first of several.
    pub(crate) fn request_id(&self) -> Option<Arc<str>> {
        self.promises().first().cloned()
    }

    /// The promises, once there are any.
    pub(crate) fn request_ids(&self) -> Vec<Arc<str>> {
        self.promises().clone()
    }

    /// How often the server has been asked for the result.
    pub(crate) fn polls(&self) -> u32 {
        self.polls.load(Ordering::Relaxed)
    }

    /// The last queue state that an answer carried.
    pub(crate) fn queue_state(&self) -> Option<QueueState> {
        self.last().as_ref().map(|last| last.state.clone())
    }

    /// The time since the request was started.
    pub(crate) fn age(&self) -> Duration {
        Instant::now().saturating_duration_since(self.metrics.called())
    }

    /// The transitions of this request, behind the last state that is known. Ends with the request.
    pub(crate) fn queue_states(&self) -> QueueStates {
        // Held until the stream is subscribed, so that nothing is lost in between and nothing is told twice.
        let last = self.last();
        let begin = last.clone().map(|last| last.with_previous(None, true));
        self.subscribers.subscribe(begin)
    }

    /// The request is about to end like this, for the metrics.
    pub(super) fn ends(&self, outcome: &'static str) {
        self.metrics.ends(outcome);
    }

    /// The request has ended: nobody wakes its task any more, and nothing more is told of it.
    pub(super) fn end(&self) {
        self.metrics.ended();
        // A handle may keep the row for long; it must not keep the task.
        drop(self.task.take());
        self.subscribers.end();
    }

    /// Whether it has its place.
    pub(super) fn is_running(&self) -> bool {
        self.stage.load(Ordering::Relaxed) != Stage::Queued as u8
    }

    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        self.task.wake();
    }

    /// Completes when the request is given up from outside.
    pub(crate) async fn given_up(&self) {
        poll_fn(|cx| {
            self.task.register(cx.waker());
            if self.given_up.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    pub(super) fn snapshot(&self, now: Instant) -> InflightRequest {
        let last = self.last().as_ref().map(|last| (last.state.clone(), last.reason.clone()));
        let (queue_state, reason) = last.map_or((None, None), |(state, reason)| (Some(state), reason));
        InflightRequest {
            number: self.number,
            kind: self.kind,
            client_id: Arc::clone(&self.client_id),
            request_id: self.request_id(),
            stage: match self.stage.load(Ordering::Relaxed) {
                0 => Stage::Queued,
                1 => Stage::Submitting,
                _ => Stage::Polling,
            },
            age: now.saturating_duration_since(self.metrics.called()),
            polls: self.polls(),
            queue_state,
            reason,
        }
    }

    /// Whether `now` says of the request what `last` said. Several promises of one batch speak each for itself; a
    /// submission and the promise it led to are the same request, and so are a promise that was lost and the next one.
    fn repeats(&self, last: &QueueStateChange, now: &QueueStateChange) -> bool {
        if (&last.state, &last.reason) != (&now.state, &now.reason) {
            return false;
        }
        let promises = self.promises();
        last.request_id == now.request_id
            || !(promises.contains(&last.request_id) && promises.contains(&now.request_id))
    }

    fn promises(&self) -> MutexGuard<'_, Vec<Arc<str>>> {
        self.promises.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> MutexGuard<'_, Option<QueueStateChange>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PollProgress for Row {
    fn polled(&self, iteration: u32) {
        self.polls.fetch_max(iteration.saturating_add(1), Ordering::Relaxed);
    }

    fn observed(&self, observation: &QueueStateChange) {
        // The end of a promise that had never told a state: no answer carried one, and it is news to nobody.
        if observation.previous.is_none() && !observation.is_transition() {
            return;
        }
        let mut last = self.last();
        let is_news =
            observation.is_transition() && !last.as_ref().is_some_and(|last| self.repeats(last, observation));
        *last = Some(observation.clone());
        let wakeups = is_news.then(|| self.subscribers.publish(observation));
        drop(last);
        drop(wakeups);
    }
}
