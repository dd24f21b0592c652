//! What the server knows of one run, and the base path that says it.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::announcements::Announcements;
use super::heartbeats::Arrivals;
use crate::cell::{Cell, Polling};

/// The most samples in flight that the server allows. More than any run asks for: limits of a service are not what is
/// measured.
const MOST_IN_FLIGHT: u64 = 100_000;

/// The base path of a run, `/run/<number>/<polling>/<milliseconds>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunPath {
    number: u64,
    polling: Polling,
    pub(super) reply_time: Duration,
}

impl RunPath {
    /// The path for a cell; `number` keeps runs apart.
    pub(crate) fn new(number: u64, cell: &Cell) -> Self {
        Self { number, polling: cell.polling, reply_time: cell.reply_time() }
    }

    pub(super) fn parse(path: &str) -> Option<Self> {
        let mut segments = path.strip_prefix("/run/")?.split('/');
        let number = segments.next()?.parse().ok()?;
        let polling = Polling::named(segments.next()?)?;
        let reply_time = Duration::from_millis(segments.next()?.parse().ok()?);
        segments.next().is_none().then_some(Self { number, polling, reply_time })
    }

    /// Whether results are announced to a session poller.
    pub(super) fn announces(&self) -> bool {
        self.polling == Polling::Session
    }

    /// The start-up flags (PROTOCOL 4.1).
    pub(super) fn flags(&self) -> Value {
        json!({
            "sample_use_retrieve_futures": self.announces(),
            "sample_max_concurrent_requests": MOST_IN_FLIGHT,
        })
    }
}

impl fmt::Display for RunPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/run/{}/{}/{}", self.number, self.polling.name(), self.reply_time.as_millis())
    }
}

/// One run of one contender.
pub(super) struct Run {
    pub(super) path: RunPath,
    pub(super) announcements: Announcements,
    heartbeats: Mutex<Arrivals>,
}

impl Run {
    pub(super) fn new(path: RunPath, began: Instant) -> Self {
        let heartbeats = Mutex::new(Arrivals::since(began));
        Self { path, announcements: Announcements::default(), heartbeats }
    }

    pub(super) fn heartbeats(&self) -> MutexGuard<'_, Arrivals> {
        self.heartbeats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{Http, Load};

    #[test]
    fn a_path_says_what_it_was_made_from() {
        let load = Load::Samples { warm_up: 0, measured: 1 };
        let cell = Cell {
            prompt_tokens: 1,
            in_flight: 1,
            reply_ms: 5000,
            polling: Polling::Session,
            load,
            http: Http::One,
        };
        let path = RunPath::new(7, &cell);
        assert_eq!(path.to_string(), "/run/7/session/5000");
        assert_eq!(RunPath::parse(&path.to_string()), Some(path));
        assert_eq!(RunPath::parse("/run/7/session/5000/more"), None);
        assert_eq!(RunPath::parse("/services/x"), None);
    }
}
