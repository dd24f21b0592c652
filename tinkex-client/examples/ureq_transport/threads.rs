//! Threads for calls that block: started when they are needed, at most so many, ended when there is nothing to do.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

type Job = Box<dyn FnOnce() + Send>;

/// How long a thread waits for its next job before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// Dropping it ends the threads after the jobs that are under way; jobs not begun are dropped.
pub(crate) struct Threads(Arc<Shared>);

struct Shared {
    limit: usize,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Threads {
    pub(crate) fn at_most(limit: usize) -> Self {
        let shared = Shared { limit: limit.max(1), state: Mutex::default(), work: Condvar::new() };
        Self(Arc::new(shared))
    }

    /// Runs the job on a thread that is free, on a new one, or, where there are as many as there may be, on the first
    /// that becomes free.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.0.state();
        state.jobs.push_back(Box::new(job));
        if state.idle < state.jobs.len() && state.threads < self.0.limit {
            let shared = Arc::clone(&self.0);
            // Where the system has no thread to give, those that there are do the job later.
            if std::thread::Builder::new().name("ureq".to_owned()).spawn(move || shared.work()).is_ok() {
                state.threads += 1;
            }
        }
        drop(state);
        self.0.work.notify_one();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.closed = true;
        // Outside the lock: dropping a job ends its call.
        let jobs = std::mem::take(&mut state.jobs);
        drop(state);
        drop(jobs);
        self.0.work.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            job();
        }
    }

    /// The next job; none when the thread is to end, which then counts no more.
    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            let mut waited_long = state.closed;
            if !waited_long {
                state.idle += 1;
                let (woken, waited) =
                    self.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
                state = woken;
                state.idle -= 1;
                waited_long = waited.timed_out();
            }
            if waited_long && state.jobs.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }
}
