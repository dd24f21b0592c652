//! The targets of the project, each with what was found and whether it is met.

use std::fmt;

use serde::Serialize;

use super::Report;
use crate::cell::{Load, Polling};
use crate::contender::Contender::{Bare, Measured, Python, Tinkex};
use crate::instructions::NO_RECORDER;
use crate::reading::Reading;
use crate::rounds::Rounds;
use crate::statistics::Spread;
#[cfg(test)]
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

/// Judges everything, unless there is a reason not to. Where several cells bear on a target, the worst of them decides.
pub(super) fn judge(report: &Report, reason_not_to: Option<&str>) -> Vec<Target> {
    let target = |what: &str, wanted: &str, bound: Bound, findings: Vec<Finding>, rounds: usize| {
        let verdict = match reason_not_to {
            Some(reason) => Err(reason.to_owned()),
            None => enough(&findings, rounds),
        };
        let found = found(&bound, findings);
        let verdict = match (&found, verdict) {
            (None, _) => Verdict::NotJudged("not measured".to_owned()),
            (Some(_), Err(reason)) => Verdict::NotJudged(reason),
            (Some((value, _)), Ok(())) if bound.holds(*value) => Verdict::Pass,
            (Some(_), Ok(())) => Verdict::Fail,
        };
        let found = found.map_or_else(|| "-".to_owned(), |(_, text)| text);
        Target { what: what.to_owned(), wanted: wanted.to_owned(), found, verdict }
    };
    // Shown, so that nobody has to look for it, where something else than the client decides.
    let told = |what: &str, wanted: &str, bound: Bound, findings: Vec<Finding>, why: &str| {
        let verdict = Verdict::NotJudged(why.to_owned());
        Target { verdict, ..target(what, wanted, bound, findings, 1) }
    };
    let cpu = Reading::cpu_micros_per_sample;
    let steadily = |in_flight: usize, polling: &[Polling], figure: &dyn Fn(&Rounds) -> Option<Spread>| {
        let cells = report.inflight.iter().filter(|rounds| {
            let Rounds { cell, .. } = rounds;
            let steady = matches!(cell.load, Load::Steady { .. });
            steady && cell.in_flight == in_flight && polling.contains(&cell.polling)
        });
        findings(cells, figure)
    };
    let steady = |in_flight, figure: &dyn Fn(&Rounds) -> Option<Spread>| {
        steadily(in_flight, &[Polling::PerRequest, Polling::Session], figure)
    };
    let beats = |rounds: &Rounds| {
        // Without any heartbeat the run was too short to say something.
        let beating = rounds.figure(Tinkex, |reading| reading.heartbeats.count as f64)?.least > 0.0;
        beating.then(|| rounds.figure(Tinkex, |reading| reading.heartbeats.largest_gap_seconds))?
    };
    let mut targets = vec![
        target(
            "CPU per sample, tinkex / bare reqwest",
            "at most 1.4",
            Bound::AtMost(1.4),
            findings(&report.sampling, &|rounds| rounds.ratio(Tinkex, Bare, cpu)),
            ROUNDS,
        ),
        target(
            "CPU per sample, Python SDK / tinkex, many in flight",
            "at least 25",
            Bound::AtLeast(25.0),
            findings(report.sampling.iter().filter(|rounds| rounds.cell.in_flight > 1), &|rounds| {
                rounds.ratio(Python, Tinkex, cpu)
            }),
            ROUNDS,
        ),
        told(
            "CPU per sample, Python SDK / tinkex, one in flight",
            "at least 25",
            Bound::AtLeast(25.0),
            findings(report.sampling.iter().filter(|rounds| rounds.cell.in_flight == 1), &|rounds| {
                rounds.ratio(Python, Tinkex, cpu)
            }),
            "most of it is the system's sending and waking, as of the bare loop",
        ),
        target(
            "CPU per sample, metrics on / off",
            "at most 1.1",
            Bound::AtMost(1.1),
            findings(&report.metrics, &|rounds| rounds.ratio(Measured, Tinkex, cpu)),
            ROUNDS,
        ),
        target(
            "10,000 in flight: cores",
            "at most 0.5",
            Bound::AtMost(0.5),
            steady(10_000, &|rounds| rounds.figure(Tinkex, Reading::cores)),
            1,
        ),
        // A service lets 2,000 samples in at a time (PROTOCOL 4.1), and no such limit holds with the session poller:
        // it is how 10,000 come to be in flight.
        target(
            "10,000 in flight, session polling: KiB per sample beyond its prompt",
            "at most 12",
            Bound::AtMost(12.0),
            steadily(10_000, &[Polling::Session], &|rounds| rounds.kib_per_sample_in_flight(Tinkex)),
            1,
        ),
        // With a call for each there is a connection, or a stream, for each, which costs more than that by itself.
        target(
            "10,000 in flight, per-request polling: KiB per sample beyond bare reqwest",
            "at most 12",
            Bound::AtMost(12.0),
            steadily(10_000, &[Polling::PerRequest], &|rounds| {
                rounds.kib_per_sample_in_flight_beyond(Tinkex, Bare)
            }),
            1,
        ),
        told(
            "10,000 in flight, per-request polling: KiB per sample beyond its prompt",
            "at most 12",
            Bound::AtMost(12.0),
            steadily(10_000, &[Polling::PerRequest], &|rounds| rounds.kib_per_sample_in_flight(Tinkex)),
            "nearly all of it is the HTTP library's connection, as of the bare loop",
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
    ];
    if let Some(count) = report.instructions.iter().find(|count| count.operation.ends_with(NO_RECORDER))
        && let Some(value) = count.allocations
    {
        let finding = Finding { value, cell: count.operation.clone(), rounds: 1 };
        let what = format!("allocations of {}", count.operation);
        targets.push(target(&what, "none", Bound::AtMost(0.0), vec![finding], 1));
    }
    for timing in &report.wire {
        let Some(most) = timing.target_milliseconds else { continue };
        let finding = Finding { value: timing.milliseconds, cell: timing.name.clone(), rounds: 1 };
        let wanted = format!("at most {most}");
        targets.push(target(&format!("{}, ms", timing.name), &wanted, Bound::AtMost(most), vec![finding], 1));
    }
    targets
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

/// Whether there were as many rounds as a judgement needs.
fn enough(findings: &[Finding], wanted: usize) -> Result<(), String> {
    match findings.iter().map(|finding| finding.rounds).min() {
        Some(fewest) if fewest < wanted => Err(format!("{fewest} rounds, not {wanted}")),
        _ => Ok(()),
    }
}

/// The value that decides, and how the report shows it.
fn found(bound: &Bound, findings: Vec<Finding>) -> Option<(f64, String)> {
    let cells = findings.len();
    let worst = bound.worst(findings)?;
    let text = match cells {
        1 => format!("{:.2}", worst.value),
        _ => format!("{:.2}, the worst of {cells} ({})", worst.value, worst.cell),
    };
    Some((worst.value, text))
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    fn verdict(report: &Report, beginning: &str) -> Verdict {
        let targets = judge(report, None);
        let found = targets.iter().find(|target| target.what.starts_with(beginning));
        found.unwrap_or_else(|| panic!("no target begins with {beginning:?}")).verdict.clone()
    }

    #[test]
    fn what_holds_passes() {
        let report = example::report();
        let (judged, told): (Vec<_>, Vec<_>) =
            judge(&report, None).into_iter().partition(|target| target.verdict == Verdict::Pass);
        assert_eq!(judged.len(), 10);
        let told: Vec<_> = told.iter().map(|target| target.what.as_str()).collect();
        assert_eq!(
            told,
            [
                "CPU per sample, Python SDK / tinkex, one in flight",
                "10,000 in flight, per-request polling: KiB per sample beyond its prompt"
            ]
        );
    }

    #[test]
    fn each_target_fails_just_beyond_its_bound() {
        let mut report = example::report();
        for round in &mut report.sampling[0].rounds {
            round.get_mut(&Tinkex).unwrap().cpu_seconds *= 1.41 / 1.2;
        }
        assert_eq!(verdict(&report, "CPU per sample, tinkex"), Verdict::Fail);
        assert_eq!(verdict(&report, "CPU per sample, Python"), Verdict::Pass);

        let mut report = example::report();
        for round in &mut report.sampling[0].rounds {
            round.get_mut(&Python).unwrap().cpu_seconds *= 24.9 / 40.0;
        }
        assert_eq!(verdict(&report, "CPU per sample, Python"), Verdict::Fail);

        let mut report = example::report();
        for round in &mut report.metrics[0].rounds {
            round.get_mut(&Measured).unwrap().cpu_seconds *= 1.11 / 1.05;
        }
        assert_eq!(verdict(&report, "CPU per sample, metrics"), Verdict::Fail);

        let mut report = example::report();
        let [ten, four, ten_polled] = [0, 1, 2];
        let reading = |report: &mut Report, at: usize, change: &dyn Fn(&mut Reading)| {
            change(report.inflight[at].rounds[0].get_mut(&Tinkex).unwrap());
        };
        reading(&mut report, ten, &|reading| reading.cpu_seconds = 0.51 * reading.wall_seconds);
        let bare = report.inflight[ten_polled].rounds[0][&Bare].memory.unwrap().growth_bytes();
        for (cell, bytes) in
            [(ten, 10_000 * (12 * 1024 + 4 * 256 + 1)), (ten_polled, bare + 10_000 * (12 * 1024 + 1))]
        {
            reading(&mut report, cell, &|reading| {
                let memory = reading.memory.as_mut().unwrap();
                memory.peak_bytes = memory.baseline_bytes + bytes;
            });
        }
        reading(&mut report, ten, &|reading| reading.heartbeats.largest_gap_seconds = 20.1);
        reading(&mut report, four, &|reading| reading.added_latency_ms.p99 = 50.1);
        report.wire[0].milliseconds = 0.51;
        report.instructions[0].allocations = Some(0.01);
        for beginning in [
            "10,000 in flight: cores",
            "10,000 in flight, session polling: KiB",
            "10,000 in flight, per-request polling: KiB",
            "10,000 in flight: longest",
            "4,000 in flight",
            LONG_PROMPT,
            "allocations of",
        ] {
            assert_eq!(verdict(&report, beginning), Verdict::Fail, "{beginning}");
        }
    }

    #[test]
    fn the_worst_cell_decides_and_is_named() {
        let mut report = example::report();
        let mut slow = report.sampling[0].clone();
        slow.cell.prompt_tokens = 16_384;
        for round in &mut slow.rounds {
            round.get_mut(&Tinkex).unwrap().cpu_seconds *= 2.0;
        }
        report.sampling.push(slow);
        let targets = judge(&report, None);
        assert_eq!(targets[0].verdict, Verdict::Fail);
        assert!(targets[0].found.contains("16384 tokens"), "{}", targets[0].found);
    }

    #[test]
    fn too_little_is_not_judged() {
        let mut report = example::report();
        report.sampling[0].rounds.pop();
        let wanted = Verdict::NotJudged("9 rounds, not 10".to_owned());
        assert_eq!(verdict(&report, "CPU per sample, tinkex"), wanted);
        for round in report.inflight.iter_mut().flat_map(|cell| &mut cell.rounds) {
            round.get_mut(&Tinkex).unwrap().heartbeats.count = 0;
        }
        let wanted = Verdict::NotJudged("not measured".to_owned());
        assert_eq!(verdict(&report, "10,000 in flight: longest"), wanted);
        for target in judge(&report, Some("a busy machine")) {
            assert!(matches!(target.verdict, Verdict::NotJudged(_)), "{}", target.what);
        }
    }
}
