//! One measurement: the work that every contender does in it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::contender::Contender;

/// The Python SDK does this share of the others' samples.
const PYTHON_SHARE: usize = 20;

/// The work of one run. It goes to the worker processes, the Python one included, as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Cell {
    /// Tokens of every prompt. Each sample has a prompt of its own.
    pub(crate) prompt_tokens: usize,
    /// Samples in flight at a time; whenever one is done the next begins.
    pub(crate) in_flight: usize,
    /// From the acceptance of a sample to its result, in milliseconds: the time that the server needs.
    pub(crate) reply_ms: u64,
    /// How results are waited for.
    pub(crate) polling: Polling,
    /// How much of it.
    pub(crate) load: Load,
    /// What is spoken between contender and server; the Python SDK speaks HTTP/1.1 in any case.
    pub(crate) http: Http,
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Http {
    /// HTTP/1.1: a connection for every call in flight.
    #[default]
    One,
    /// HTTP/2 without asking first (prior knowledge): calls share connections.
    Two,
}

/// How results are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Polling {
    /// One long poll for each sample (PROTOCOL 16.1).
    PerRequest,
    /// One long poll for all samples announces which are done (PROTOCOL 16.6).
    Session,
}

/// When a run begins to count, and when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Load {
    /// `warm_up` samples that do not count, then `measured` that do, as fast as they go.
    Samples {
        /// Samples before the measurement.
        warm_up: usize,
        /// Samples of the measurement.
        measured: usize,
    },
    /// Samples begin evenly spread over the reply time, so that the load is the same in every moment. The measurement
    /// begins when all are in flight, and lasts this many milliseconds.
    Steady {
        /// Milliseconds of the measurement.
        measured_ms: u64,
    },
}

impl Cell {
    /// The time that the server needs for a sample.
    pub(crate) fn reply_time(&self) -> Duration {
        Duration::from_millis(self.reply_ms)
    }

    /// Some token ids of many sizes.
    pub(crate) fn prompt(&self) -> Vec<i32> {
        (0..self.prompt_tokens).map(|i| (i as i32).wrapping_mul(7919) % 150_000).collect()
    }
}

impl Cell {
    /// The same cell with as many samples as a contender gets through in about a second.
    pub(crate) fn shortened_for(mut self, contender: Contender) -> Self {
        if contender == Contender::Python
            && let Load::Samples { warm_up, measured } = &mut self.load
        {
            *measured = (*measured / PYTHON_SHARE).max(self.in_flight);
            *warm_up = (*warm_up / PYTHON_SHARE).max(self.in_flight);
        }
        self
    }
}

impl Polling {
    /// Its name in paths and tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PerRequest => "per-request",
            Self::Session => "session",
        }
    }

    /// The polling of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::PerRequest, Self::Session].into_iter().find(|polling| polling.name() == name)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prompt_tokens, in_flight, polling, .. } = self;
        write!(f, "{prompt_tokens} tokens, {in_flight} in flight, {} polling", polling.name())?;
        match self.load {
            Load::Samples { .. } if self.reply_ms > 0 => f.write_str(", begun at once"),
            Load::Steady { .. } => f.write_str(", begun evenly"),
            Load::Samples { .. } => Ok(()),
        }?;
        match self.http {
            Http::One => Ok(()),
            Http::Two => f.write_str(", HTTP/2"),
        }
    }
}
