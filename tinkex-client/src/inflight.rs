//! What is in flight: one row per request, so that a stuck run can be diagnosed.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tinkex_future::PollProgress;
use tinkex_types::{QueueState, QueueStateChange, RequestType};
use tokio::time::Instant;

/// A request that has been started and has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InflightRequest {
    /// A number of its own, counted per service client.
    pub number: u64,
    /// What it is for.
    pub kind: RequestType,
    /// The sampling session or model it belongs to; for the creation of a model, the base model.
    pub client_id: Arc<str>,
    /// The promise, once the server has accepted the request; the first of several.
    pub request_id: Option<Arc<str>>,
    /// How far it is.
    pub stage: Stage,
    /// How long ago it was started.
    pub age: Duration,
    /// How often the server has been asked for the result; the most of several promises.
    pub polls: u32,
    /// The last queue state that an answer carried.
    pub queue_state: Option<QueueState>,
    /// The server's reason for that state.
    pub reason: Option<Arc<str>>,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Waiting for a permit, or for the turn among the operations of a training client, before anything was sent.
    Queued,
    /// Being sent, or waiting to be sent again.
    Submitting,
    /// Accepted; waiting for the result.
    Polling,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queued => "queued",
            Self::Submitting => "submitting",
            Self::Polling => "polling",
        })
    }
}

impl fmt::Display for InflightRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {} {} for {:.1} s", self.number, self.kind, self.stage, self.age.as_secs_f64())?;
        if let Some(request_id) = &self.request_id {
            write!(f, ", request {request_id}, {} polls", self.polls)?;
        }
        if let Some(state) = &self.queue_state {
            write!(f, ", {state}")?;
        }
        if let Some(reason) = &self.reason {
            write!(f, " ({reason})")?;
        }
        Ok(())
    }
}

/// Rows by number, in shards, so that starting and ending a request holds a lock for a few instructions only.
#[derive(Debug, Default)]
pub(crate) struct InflightTable {
    next: AtomicU64,
    shards: [Mutex<HashMap<u64, Arc<Row>>>; 16],
}

impl InflightTable {
    fn shard(&self, number: u64) -> &Mutex<HashMap<u64, Arc<Row>>> {
        &self.shards[number as usize % self.shards.len()]
    }

    /// Adds a row; it leaves the table when the entry is dropped.
    pub(crate) fn enter(self: &Arc<Self>, kind: RequestType, client_id: Arc<str>) -> InflightEntry {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let row = Arc::new(Row {
            number,
            kind,
            client_id,
            started: Instant::now(),
            promises: Mutex::default(),
            stage: AtomicU8::new(Stage::Queued as u8),
            polls: AtomicU32::new(0),
            last: Mutex::new(None),
            given_up: AtomicBool::new(false),
            task: AtomicWaker::new(),
        });
        self.shard(number).lock().unwrap_or_else(PoisonError::into_inner).insert(number, Arc::clone(&row));
        InflightEntry { table: Arc::clone(self), row }
    }

    /// How many requests of a client wait for their place. The client is known by its very id, not by what it says.
    pub(crate) fn queued(&self, client_id: &Arc<str>) -> usize {
        let mut queued = 0;
        self.each_of(client_id, |row| queued += usize::from(!row.is_running()));
        queued
    }

    /// Gives up every request of a client that has its place, and says how many there were.
    pub(crate) fn give_up_running(&self, client_id: &Arc<str>) -> usize {
        let mut running = Vec::new();
        self.each_of(client_id, |row| {
            if row.is_running() {
                running.push(Arc::clone(row));
            }
        });
        for row in &running {
            row.give_up();
        }
        running.len()
    }

    fn each_of(&self, client_id: &Arc<str>, mut visit: impl FnMut(&Arc<Row>)) {
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.values().filter(|row| Arc::ptr_eq(&row.client_id, client_id)).for_each(&mut visit);
        }
    }

    /// All rows, oldest first.
    pub(crate) fn rows(&self) -> Vec<InflightRequest> {
        let now = Instant::now();
        let mut rows: Vec<_> = self
            .shards
            .iter()
            .flat_map(|shard| {
                let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                shard.values().map(|row| row.snapshot(now)).collect::<Vec<_>>()
            })
            .collect();
        rows.sort_unstable_by_key(|row| row.number);
        rows
    }
}

/// What is known of one request; updated by its task, read by whoever asks.
#[derive(Debug)]
pub(crate) struct Row {
    number: u64,
    kind: RequestType,
    client_id: Arc<str>,
    started: Instant,
    promises: Mutex<Vec<Arc<str>>>,
    stage: AtomicU8,
    polls: AtomicU32,
    last: Mutex<Option<(QueueState, Option<Arc<str>>)>>,
    /// Whether it was given up from outside its task.
    given_up: AtomicBool,
    /// The task, to be woken then.
    task: AtomicWaker,
}

impl Row {
    pub(crate) fn submitting(&self) {
        self.stage.store(Stage::Submitting as u8, Ordering::Relaxed);
    }

    pub(crate) fn polling(&self, request_id: Arc<str>) {
        self.set_promises(vec![request_id]);
    }

    pub(crate) fn set_promises(&self, request_ids: Vec<Arc<str>>) {
        *self.promises.lock().unwrap_or_else(PoisonError::into_inner) = request_ids;
        self.polls.store(0, Ordering::Relaxed);
        self.stage.store(Stage::Polling as u8, Ordering::Relaxed);
    }

    /// The promise, once there is one; the first of several.
    pub(crate) fn request_id(&self) -> Option<Arc<str>> {
        self.promises.lock().unwrap_or_else(PoisonError::into_inner).first().cloned()
    }

    /// The promises, once there are any.
    pub(crate) fn request_ids(&self) -> Vec<Arc<str>> {
        self.promises.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often the server has been asked for the result.
    pub(crate) fn polls(&self) -> u32 {
        self.polls.load(Ordering::Relaxed)
    }

    /// The last queue state that an answer carried.
    pub(crate) fn queue_state(&self) -> Option<QueueState> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|(state, _)| state.clone())
    }

    /// The time since the request was started.
    pub(crate) fn age(&self) -> Duration {
        Instant::now().saturating_duration_since(self.started)
    }

    /// Whether it has its place.
    fn is_running(&self) -> bool {
        self.stage.load(Ordering::Relaxed) != Stage::Queued as u8
    }

    fn give_up(&self) {
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

    fn snapshot(&self, now: Instant) -> InflightRequest {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
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
            age: now.saturating_duration_since(self.started),
            polls: self.polls(),
            queue_state,
            reason,
        }
    }
}

impl PollProgress for Row {
    fn polled(&self, iteration: u32) {
        self.polls.fetch_max(iteration.saturating_add(1), Ordering::Relaxed);
    }

    fn observed(&self, observation: &QueueStateChange) {
        let seen = (observation.state.clone(), observation.reason.clone());
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    }
}

/// Keeps a row in the table.
#[derive(Debug)]
pub(crate) struct InflightEntry {
    table: Arc<InflightTable>,
    row: Arc<Row>,
}

impl InflightEntry {
    pub(crate) fn row(&self) -> &Arc<Row> {
        &self.row
    }
}

impl Drop for InflightEntry {
    fn drop(&mut self) {
        let number = self.row.number;
        // A handle may keep the row for long; it must not keep the task.
        drop(self.row.task.take());
        self.table.shard(number).lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }
}
