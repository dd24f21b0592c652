//! What stands in which table.

use super::Report;
use super::table::Table;
use crate::contender::Contender;
use crate::reading::Reading;
use crate::rounds::Rounds;
use crate::statistics::Spread;

/// The tables of the parts that were run.
pub(super) fn all(report: &Report) -> Vec<Table> {
    let tables = [
        targets(report),
        cpu(&report.sampling),
        latency(&report.sampling),
        inflight(&report.inflight),
        metrics(&report.metrics),
        wire(report),
        instructions(report),
    ];
    tables.into_iter().filter(|table| !table.rows.is_empty()).collect()
}

fn targets(report: &Report) -> Table {
    let rows = report.targets.iter().map(|target| {
        vec![target.what.clone(), target.wanted.clone(), target.found.clone(), target.verdict.to_string()]
    });
    Table { title: "Targets", header: vec!["target", "wanted", "found", "verdict"], rows: rows.collect() }
}

fn cpu(measured: &[Rounds]) -> Table {
    use Contender::{Bare, Python, Tinkex};
    let cpu = Reading::cpu_micros_per_sample;
    let rate = Reading::samples_per_second;
    let rows = measured.iter().map(|rounds| {
        vec![
            rounds.cell.to_string(),
            shown(rounds.figure(Tinkex, cpu), 1),
            shown(rounds.figure(Bare, cpu), 1),
            shown(rounds.figure(Python, cpu), 0),
            shown(rounds.ratio(Tinkex, Bare, cpu), 2),
            shown(rounds.ratio(Python, Tinkex, cpu), 1),
            shown(rounds.ratio(Tinkex, Bare, rate), 2),
            shown(rounds.ratio(Tinkex, Python, rate), 1),
        ]
    });
    let header = vec![
        "",
        "tinkex, µs",
        "bare reqwest, µs",
        "Python SDK, µs",
        "tinkex / bare",
        "Python / tinkex",
        "samples/s, tinkex / bare",
        "samples/s, tinkex / Python",
    ];
    Table { title: "CPU per sample", header, rows: rows.collect() }
}

fn latency(measured: &[Rounds]) -> Table {
    let mut rows = Vec::new();
    for rounds in measured {
        for who in Contender::ALL {
            let Some(rate) = rounds.figure(who, Reading::samples_per_second) else { continue };
            rows.push(vec![
                format!("{}: {who}", rounds.cell),
                shown(Some(rate), 0),
                shown(rounds.figure(who, |reading| reading.added_latency_ms.p50), 2),
                shown(rounds.figure(who, |reading| reading.added_latency_ms.p90), 2),
                shown(rounds.figure(who, |reading| reading.added_latency_ms.p99), 2),
                shown(rounds.memory_growth(who).map(|spread| spread.scaled(1.0 / 1024.0 / 1024.0)), 1),
            ]);
        }
    }
    let header =
        vec!["", "samples/s", "latency p50, ms", "latency p90, ms", "latency p99, ms", "peak memory, MiB"];
    Table { title: "Samples per second, latency and memory", header, rows }
}

fn inflight(measured: &[Rounds]) -> Table {
    let mut rows = Vec::new();
    for rounds in measured {
        for who in Contender::ALL {
            let Some(cores) = rounds.figure(who, Reading::cores) else { continue };
            rows.push(vec![
                format!("{}: {who}", rounds.cell),
                shown(rounds.figure(who, Reading::samples_per_second), 0),
                shown(Some(cores), 2),
                shown(rounds.kib_per_sample_in_flight(who), 1),
                shown(rounds.figure(who, |reading| reading.added_latency_ms.p50), 1),
                shown(rounds.figure(who, |reading| reading.added_latency_ms.p99), 1),
                shown(rounds.figure(who, |reading| reading.added_latency_ms.max), 1),
                shown(rounds.figure(who, |reading| reading.heartbeats.largest_gap_seconds), 1),
            ]);
        }
    }
    let header = vec![
        "replies after 5 s",
        "samples/s",
        "cores",
        "KiB per sample in flight",
        "added p50, ms",
        "added p99, ms",
        "added max, ms",
        "longest time without a heartbeat, s",
    ];
    Table { title: "Thousands in flight", header, rows }
}

fn metrics(measured: &[Rounds]) -> Table {
    use Contender::{Measured, Tinkex};
    let cpu = Reading::cpu_micros_per_sample;
    let rows = measured.iter().map(|rounds| {
        vec![
            rounds.cell.to_string(),
            shown(rounds.figure(Measured, cpu), 1),
            shown(rounds.figure(Tinkex, cpu), 1),
            shown(rounds.ratio(Measured, Tinkex, cpu), 3),
        ]
    });
    let header = vec!["CPU per sample", "metrics on, µs", "no recorder, µs", "on / off"];
    Table { title: "What metrics cost", header, rows: rows.collect() }
}

fn wire(report: &Report) -> Table {
    let rows = report.wire.iter().map(|timing| {
        vec![
            timing.name.clone(),
            timing.bytes.to_string(),
            format!("{:.4}", timing.milliseconds),
            format!("{:.4}", timing.copy_milliseconds),
            timing.target_milliseconds.map_or_else(String::new, |target| target.to_string()),
        ]
    });
    let header = vec!["", "bytes", "ms", "ms to copy as much", "at most, ms"];
    Table { title: "Encoding and decoding, time", header, rows: rows.collect() }
}

fn instructions(report: &Report) -> Table {
    let rows = report.instructions.iter().map(|count| {
        let allocations =
            count.allocations.map_or_else(String::new, |allocations| format!("{allocations:.1}"));
        vec![count.operation.clone(), format!("{:.0}", count.instructions), allocations]
    });
    let header = vec!["", "instructions", "allocations"];
    Table { title: "Encoding and decoding, instructions", header, rows: rows.collect() }
}

fn shown(spread: Option<Spread>, digits: usize) -> String {
    match spread {
        None => "-".to_owned(),
        Some(Spread { median, least, most }) if least == most => format!("{median:.digits$}"),
        Some(Spread { median, least, most }) => {
            format!("{median:.digits$} ({least:.digits$} to {most:.digits$})")
        }
    }
}
