//! Whether the samples of one sampler get anywhere (PROTOCOL 7.5).
//!
//! One time for all of them: the last progress, which is when a sample last succeeded, or when the first one of an idle
//! sampler began. Nothing here is done per poll, and no sample has a timer: beginning and ending one takes a lock for a
//! few instructions, and one task per sampler ([`give_up_stuck`]) looks when it may be time.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::progress_line::ProgressLine;
use crate::inflight::InflightTable;
use crate::{Error, ErrorKind};

/// How long nothing may finish before what runs is given up, by default.
pub(super) const PROGRESS_TIMEOUT: Duration = Duration::from_secs(7200);

/// What is known of the samples of one sampler.
#[derive(Debug)]
pub(crate) struct Progress {
    sampling_session_id: Arc<str>,
    table: Arc<InflightTable>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Samples that have their place and no outcome.
    running: usize,
    last: Instant,
    line: ProgressLine,
}

impl Progress {
    pub(super) fn new(sampling_session_id: Arc<str>, table: Arc<InflightTable>) -> Arc<Self> {
        let last = Instant::now();
        let state = State { running: 0, last, line: ProgressLine::since(last) };
        Arc::new(Self { sampling_session_id, table, state: Mutex::new(state) })
    }

    /// A sample was lost and is submitted anew.
    pub(super) fn retried(&self, error: ErrorKind) {
        self.state().line.retried(error);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) {
        let mut state = self.state();
        if state.running == 0 {
            state.last = Instant::now();
        }
        state.running += 1;
        self.tell(state);
    }

    fn end(&self, outcome: Option<Result<(), ErrorKind>>) {
        let mut state = self.state();
        state.running = state.running.saturating_sub(1);
        if outcome == Some(Ok(())) {
            state.last = Instant::now();
        }
        state.line.ended(outcome);
        self.tell(state);
    }

    /// Logs how things stand, where somebody listens and it is time for it.
    fn tell(&self, mut state: MutexGuard<'_, State>) {
        if !ProgressLine::is_wanted() {
            return;
        }
        let (now, running) = (Instant::now(), state.running);
        if running > 0 && !state.line.is_due(now) {
            return;
        }
        let waiting = self.table.queued(&self.sampling_session_id);
        if running + waiting > 0 && !state.line.is_due(now) {
            return;
        }
        let line = state.line.take(now, waiting, running);
        drop(state);
        ProgressLine::log(&self.sampling_session_id, &line);
    }

    /// When to look next; none where the time-out is longer than time can be counted. An idle sampler is looked at
    /// again after the whole time-out: whatever begins meanwhile has at least that long.
    fn due(&self, timeout: Duration) -> Option<Instant> {
        let state = self.state();
        if state.running == 0 { Instant::now() } else { state.last }.checked_add(timeout)
    }

    /// Gives up every sample that runs, where nothing has finished for `timeout`. What begins from now on has the whole
    /// time-out again.
    fn look(&self, timeout: Duration) {
        let now = Instant::now();
        {
            let mut state = self.state();
            if state.running == 0 || now.saturating_duration_since(state.last) < timeout {
                return;
            }
            state.last = now;
        }
        let given_up = self.table.give_up_running(&self.sampling_session_id);
        tracing::warn!(
            sampling_session_id = %self.sampling_session_id,
            "no sample has finished for {} s; gave up {given_up} in progress",
            timeout.as_secs_f64()
        );
    }
}

/// Looks after the samples of one sampler until it is dropped with it.
pub(super) async fn give_up_stuck(progress: Arc<Progress>, timeout: Duration) {
    while let Some(due) = progress.due(timeout) {
        tokio::time::sleep_until(due).await;
        progress.look(timeout);
    }
}

/// One sample's part in the progress of its sampler. Dropping it ends the part.
pub(super) struct Part<'a> {
    progress: &'a Progress,
    running: AtomicBool,
}

impl<'a> Part<'a> {
    pub(super) fn of(progress: &'a Progress) -> Self {
        Self { progress, running: AtomicBool::new(false) }
    }

    /// The sample has its place.
    pub(super) fn begin(&self) {
        self.running.store(true, Ordering::Relaxed);
        self.progress.begin();
    }

    pub(super) fn retried(&self, error: ErrorKind) {
        self.progress.retried(error);
    }

    /// The sample has an outcome; none where it was abandoned.
    pub(super) fn end<T>(&self, outcome: Option<&Result<T, Error>>) {
        if self.running.swap(false, Ordering::Relaxed) {
            let kind = |outcome: &Result<T, Error>| outcome.as_ref().map(drop).map_err(Error::kind);
            self.progress.end(outcome.map(kind));
        }
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        self.end::<()>(None);
    }
}

impl fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("running", &self.running).finish_non_exhaustive()
    }
}
