//! The progress line of one sampler, at debug level: how many samples wait, run and are done (PROTOCOL 7.5).

use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::Instant;
use tracing::level_filters::LevelFilter;

use crate::ErrorKind;

/// Lines are at least this far apart, but for those of a sampler that becomes idle.
const INTERVAL: Duration = Duration::from_secs(2);

/// What the next line will say.
#[derive(Debug)]
pub(super) struct ProgressLine {
    last: Instant,
    done: u64,
    retries: u64,
    /// What went wrong since the last line, by kind.
    errors: Vec<(ErrorKind, u64)>,
}

impl ProgressLine {
    pub(super) fn since(now: Instant) -> Self {
        Self { last: now, done: 0, retries: 0, errors: Vec::new() }
    }

    /// Whether anybody may listen; where nobody does this is one comparison. Not `enabled!`: subscribers with filters for
    /// each layer take its question for the beginning of a span or event, and then lose the next one.
    pub(super) fn is_wanted() -> bool {
        LevelFilter::current() >= LevelFilter::DEBUG
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= INTERVAL
    }

    pub(super) fn retried(&mut self, error: ErrorKind) {
        self.retries += 1;
        self.failed(error);
    }

    /// A sample ended; without an outcome where it was abandoned.
    pub(super) fn ended(&mut self, outcome: Option<Result<(), ErrorKind>>) {
        match outcome {
            Some(Ok(())) => self.done += 1,
            Some(Err(error)) => self.failed(error),
            None => {}
        }
    }

    fn failed(&mut self, error: ErrorKind) {
        match self.errors.iter_mut().find(|(kind, _)| *kind == error) {
            Some((_, count)) => *count += 1,
            None => self.errors.push((error, 1)),
        }
    }

    /// Puts the line together, without the name before it, and begins the next one.
    pub(super) fn take(&mut self, now: Instant, waiting: usize, running: usize) -> String {
        self.last = now;
        let mut line = format!("{waiting} waiting, {running} in progress, {} completed", self.done);
        if !self.errors.is_empty() {
            // Writing to a string does not fail.
            let _ = write!(line, ", {} retries", self.retries);
            for (kind, count) in self.errors.drain(..) {
                let _ = write!(line, ", {kind:?}: {count}");
            }
        }
        line
    }

    pub(super) fn log(name: &str, line: &str) {
        tracing::debug!("[{name}]: {line}");
    }
}
