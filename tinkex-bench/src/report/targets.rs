//! The targets of the project, each with what was found and whether it is met.

use std::fmt;

use serde::Serialize;

use super::Report;
use crate::cell::Load;
use crate::contender::Contender::{Bare, Python, Tinkex};
use crate::reading::Reading;
use crate::rounds::Rounds;
use crate::statistics::Spread;
use crate::wire::LONG_PROMPT;

/// The interval of heartbeats (PROTOCOL 10), in seconds.
const HEARTBEAT_INTERVAL: f64 = 10.0;
/// Fewer rounds prove nothing about a ratio.
const ROUNDS: usize = 10;

/// One target and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) wanted: String,
    pub(crate) found: String,
    pub(crate) verdict: Verdict,
}

/// Whether a target is met.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Pass,
    Fail,
    /// With the reason.
    NotJudged(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::Fail => f.write_str("FAIL"),
            Self::NotJudged(why) => write!(f, "not judged: {why}"),
        }
    }
}

/// One figure of one cell, and how many rounds it is the median of.
struct Finding {
    value: f64,
    cell: String,
    rounds: usize,
}

/// Which values are good.
#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }

    /// The value that is the hardest to accept.
    fn worst(self, findings: Vec<Finding>) -> Option<Finding> {
        let by_value = |a: &Finding, b: &Finding| a.value.total_cmp(&b.value);
        match self {
            Self::AtMost(_) => findings.into_iter().max_by(by_value),
            Self::AtLeast(_) => findings.into_iter().min_by(by_value),
        }
    }
}

/// Judges everything. Where several cells bear on a target, the worst of them decides.
pub(super) fn judge(report: &Report) -> Vec<Target> {
    let cpu = Reading::cpu_micros_per_sample;
    let steady = |in_flight: usize, figure: &dyn Fn(&Rounds) -> Option<Spread>| {
        let cells = report.inflight.iter().filter(|rounds| {
            rounds.cell.in_flight == in_flight && matches!(rounds.cell.load, Load::Steady { .. })
        });
        findings(cells, figure)
    };
    let beats = |rounds: &Rounds| {
        // Without any heartbeat the run was too short to say something.
        let beating = rounds.figure(Tinkex, |reading| reading.heartbeats.count as f64)?.least > 0.0;
        beating.then(|| rounds.figure(Tinkex, |reading| reading.heartbeats.largest_gap_seconds))?
    };
    let long_prompt = report.wire.iter().find(|timing| timing.name == LONG_PROMPT).map(|timing| Finding {
        value: timing.milliseconds,
        cell: timing.name.clone(),
        rounds: 1,
    });
    vec![
        target(
            "CPU per sample, tinkex / bare reqwest",
            "at most 1.4",
            Bound::AtMost(1.4),
            findings(&report.sampling, &|rounds| rounds.ratio(Tinkex, Bare, cpu)),
            ROUNDS,
        ),
        target(
            "CPU per sample, Python SDK / tinkex",
            "at least 25",
            Bound::AtLeast(25.0),
            findings(&report.sampling, &|rounds| rounds.ratio(Python, Tinkex, cpu)),
            ROUNDS,
        ),
        target(
            "10,000 in flight: cores",
            "at most 0.5",
            Bound::AtMost(0.5),
            steady(10_000, &|rounds| rounds.figure(Tinkex, Reading::cores)),
            1,
        ),
        target(
            "10,000 in flight: KiB per sample beyond its prompt",
            "at most 12",
            Bound::AtMost(12.0),
            steady(10_000, &|rounds| rounds.kib_per_sample_in_flight(Tinkex)),
            1,
        ),
        target(
            "10,000 in flight: longest time without a heartbeat, s",
            "at most 20",
            Bound::AtMost(2.0 * HEARTBEAT_INTERVAL),
            steady(10_000, &beats),
            1,
        ),
        target(
            "4,000 in flight: p99 of added latency, ms",
            "at most 50",
            Bound::AtMost(50.0),
            steady(4_000, &|rounds| rounds.figure(Tinkex, |reading| reading.added_latency_ms.p99)),
            1,
        ),
        target(
            "asample of 32,768 tokens, ms",
            "at most 0.5",
            Bound::AtMost(0.5),
            long_prompt.into_iter().collect(),
            1,
        ),
    ]
}

fn findings<'a>(
    cells: impl IntoIterator<Item = &'a Rounds>,
    figure: &dyn Fn(&Rounds) -> Option<Spread>,
) -> Vec<Finding> {
    let found = cells.into_iter().filter_map(|rounds| {
        let cell = rounds.cell.to_string();
        figure(rounds).map(|spread| Finding { value: spread.median, cell, rounds: rounds.rounds.len() })
    });
    found.collect()
}

fn target(what: &str, wanted: &str, bound: Bound, findings: Vec<Finding>, rounds: usize) -> Target {
    let (what, wanted) = (what.to_owned(), wanted.to_owned());
    let fewest = findings.iter().map(|finding| finding.rounds).min().unwrap_or_default();
    let cells = findings.len();
    let Some(worst) = bound.worst(findings) else {
        let verdict = Verdict::NotJudged("not measured".to_owned());
        return Target { what, wanted, found: "-".to_owned(), verdict };
    };
    let verdict = if cfg!(debug_assertions) {
        Verdict::NotJudged("built without optimisation".to_owned())
    } else if fewest < rounds {
        Verdict::NotJudged(format!("{fewest} rounds, not {rounds}"))
    } else if bound.holds(worst.value) {
        Verdict::Pass
    } else {
        Verdict::Fail
    };
    let found = match cells {
        1 => format!("{:.2}", worst.value),
        _ => format!("{:.2}, the worst of {cells} ({})", worst.value, worst.cell),
    };
    Target { what, wanted, found, verdict }
}
