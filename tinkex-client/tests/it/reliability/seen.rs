//! What was seen of a call, as data, and in the words of the document.

use std::ops::RangeInclusive;
use std::time::Duration;

use tinkex_client::{Effect, Error, ErrorKind};
use tracing::Level;

use crate::harness::assert_within;
use crate::log_capture::Line;

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Success,
    Failure(Failure),
    /// It had not ended when the play was over.
    Waiting,
    /// A task in the background that ended for good.
    Ended,
}

/// What an error says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    pub(super) message: String,
    pub(super) retryable: bool,
    pub(super) effect: Option<Effect>,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            kind: error.kind(),
            message: error.to_string(),
            retryable: error.is_retryable(),
            effect: error.effect(),
        }
    }
}

/// What was told in the log meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    info: usize,
    warn: usize,
    error: usize,
}

impl Told {
    /// Counts the lines of the crates of this workspace.
    pub(super) fn of(lines: &[Line]) -> Self {
        let own = || lines.iter().filter(|line| line.target.starts_with("tinkex"));
        let count = |level| own().filter(|line| line.level == level).count();
        Self { info: count(Level::INFO), warn: count(Level::WARN), error: count(Level::ERROR) }
    }

    fn words(self) -> String {
        let loud = [(self.error, "ERROR"), (self.warn, "WARN"), (self.info, "INFO")];
        let loud: Vec<_> =
            loud.into_iter().filter(|(n, _)| *n > 0).map(|(n, name)| format!("{n} {name}")).collect();
        if loud.is_empty() { "quiet".to_owned() } else { loud.join(", ") }
    }
}

/// One play of a call: how it ended, when, after how many attempts, and what the log told.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) ending: Ending,
    pub(super) took: Duration,
    pub(super) attempts: usize,
    pub(super) told: Told,
    /// The last line at WARN.
    pub(super) warning: Option<String>,
}

/// A play whose time lies within bounds, in seconds.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    observed: Observed,
    within: RangeInclusive<f64>,
}

impl Observed {
    /// Holds the time to its bounds.
    #[track_caller]
    pub(super) fn within(self, bounds: RangeInclusive<f64>, what: &str) -> Seen {
        assert_within(self.took.as_secs_f64(), bounds.clone(), what);
        Seen { observed: self, within: bounds }
    }
}

impl Seen {
    /// What the error says; where there is none, what the log said last.
    pub(super) fn message(&self) -> Option<String> {
        match &self.observed.ending {
            Ending::Failure(failure) => Some(format!("`{}`", failure.message)),
            Ending::Waiting | Ending::Ended => {
                self.observed.warning.as_ref().map(|line| format!("in the log, `{line}`"))
            }
            Ending::Success => None,
        }
    }

    /// The cell of the document.
    pub(super) fn words(&self) -> String {
        let Observed { ending, attempts, told, .. } = &self.observed;
        let when = when(&self.within);
        let plural = if *attempts == 1 { "" } else { "s" };
        let counts = format!("{attempts} attempt{plural}; {}", told.words());
        match ending {
            Ending::Success => format!("success {when} ({counts})"),
            Ending::Waiting => format!("still at it {when} ({counts})"),
            Ending::Ended => format!("ends {when} ({counts})"),
            Ending::Failure(failure) => {
                let effect =
                    failure.effect.map(|effect| format!(", effect `{effect:?}`")).unwrap_or_default();
                let again = if failure.retryable { "retryable" } else { "final" };
                format!("`{:?}` {when} ({counts}), {again}{effect}", failure.kind)
            }
        }
    }
}

/// Bounds in words: `at once`, `after 5 s`, `after 30–30.2 min`.
pub(super) fn when(bounds: &RangeInclusive<f64>) -> String {
    let (least, most) = (*bounds.start(), *bounds.end());
    if most < 0.02 {
        return "at once".to_owned();
    }
    let (unit, name) = match most {
        ..120.0 => (1.0, "s"),
        ..7200.0 => (60.0, "min"),
        _ => (3600.0, "h"),
    };
    let number = |seconds: f64| {
        let text = format!("{:.2}", seconds / unit);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let (least, most) = (number(least), number(most));
    if least == most { format!("after {most} {name}") } else { format!("after {least}–{most} {name}") }
}
