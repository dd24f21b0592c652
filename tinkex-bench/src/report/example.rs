//! A report with fixed figures, for tests: every target is met with room.

use std::collections::BTreeMap;

use super::Report;
use crate::cell::{Cell, Http, Load, Polling};
use crate::contender::Contender;
use crate::instructions::{Count, NO_RECORDER};
use crate::machine::Machine;
use crate::meter::Memory;
use crate::reading::{Latency, Reading};
use crate::rounds::Rounds;
use crate::server::Heartbeats;
use crate::wire::{LONG_PROMPT, Timing};

pub(super) fn report() -> Report {
    Report {
        machine: Machine {
            date: "Sun, 22 Nov 2026 03:00:00 GMT".to_owned(),
            commit: "abc".to_owned(),
            processor: "A processor".to_owned(),
            cores: 2,
            memory_gib: 8.0,
            kernel: "6.1".to_owned(),
            open_files: 20_000,
            load_before: "0.1, 0.1, 0.1".to_owned(),
            rustc: "rustc 1.95.0".to_owned(),
            python: "Python 3.11".to_owned(),
        },
        method: vec!["It was measured with care.".to_owned()],
        sampling: vec![sampling()],
        inflight: vec![
            inflight(10_000, Polling::Session),
            inflight(4_000, Polling::Session),
            inflight(10_000, Polling::PerRequest),
        ],
        metrics: vec![metrics()],
        wire: vec![Timing {
            name: LONG_PROMPT.to_owned(),
            bytes: 205_342,
            milliseconds: 0.2,
            copy_milliseconds: 0.01,
            target_milliseconds: Some(0.5),
        }],
        instructions: vec![Count {
            operation: format!("measurements {NO_RECORDER}"),
            instructions: 1_234.0,
            allocations: Some(0.0),
        }],
        notes: Vec::new(),
        failures: Vec::new(),
        targets: Vec::new(),
    }
}

/// Ten rounds, each slower than the one before for all: 1.2 times the bare loop and a fortieth of Python in each.
fn sampling() -> Rounds {
    let load = Load::Samples { warm_up: 200, measured: 1_000 };
    let cell = Cell {
        prompt_tokens: 2_048,
        in_flight: 64,
        reply_ms: 0,
        polling: Polling::PerRequest,
        load,
        http: Http::One,
    };
    let rounds = (0..10).map(|n| {
        let bare = (85.0 + f64::from(n) * (30.0 / 9.0)) * 1e-6;
        let tinkex = bare * 1.2;
        let readings =
            [(Contender::Tinkex, tinkex), (Contender::Bare, bare), (Contender::Python, tinkex * 40.0)];
        readings.into_iter().map(|(who, cpu)| (who, reading(1_000, cpu * 1_000.0, 1.0))).collect()
    });
    Rounds { cell, rounds: rounds.collect() }
}

/// Ten rounds in which metrics cost a twentieth.
fn metrics() -> Rounds {
    let Rounds { cell, mut rounds } = sampling();
    for round in &mut rounds {
        let mut measured = round.remove(&Contender::Tinkex).unwrap();
        round.insert(Contender::Tinkex, measured);
        measured.cpu_seconds *= 1.05;
        round.insert(Contender::Measured, measured);
        round.retain(|who, _| matches!(who, Contender::Tinkex | Contender::Measured));
    }
    Rounds { cell, rounds }
}

fn inflight(in_flight: usize, polling: Polling) -> Rounds {
    let load = Load::Steady { measured_ms: 25_000 };
    let cell = Cell { prompt_tokens: 256, in_flight, reply_ms: 5_000, polling, load, http: Http::One };
    let readings =
        [(Contender::Tinkex, reading(50_000, 10.0, 25.0)), (Contender::Bare, reading(50_000, 8.0, 25.0))];
    Rounds { cell, rounds: vec![BTreeMap::from(readings)] }
}

fn reading(samples: usize, cpu_seconds: f64, wall_seconds: f64) -> Reading {
    Reading {
        samples,
        cpu_seconds,
        wall_seconds,
        memory: Some(Memory { baseline_bytes: 10 << 20, peak_bytes: 50 << 20 }),
        added_latency_ms: Latency { p50: 1.0, p90: 2.0, p99: 3.0, max: 4.0 },
        heartbeats: Heartbeats { count: 2, largest_gap_seconds: 10.1 },
    }
}
