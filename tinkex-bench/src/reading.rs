//! What one run of one contender showed.

use serde::{Deserialize, Serialize};

use crate::meter::Memory;
use crate::server::Heartbeats;

/// The figures of a run. Workers print them as one line of JSON; the heartbeats come from the server.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reading {
    /// Samples that were done while measured.
    pub(crate) samples: usize,
    /// Processor time of the worker, in seconds.
    pub(crate) cpu_seconds: f64,
    /// Wall time, in seconds.
    pub(crate) wall_seconds: f64,
    /// Resident memory; none where the system does not tell.
    pub(crate) memory: Option<Memory>,
    /// From the call to the result, less the time that the server needs, in milliseconds.
    pub(crate) added_latency_ms: Latency,
    /// What the server saw; the worker does not know.
    #[serde(default)]
    pub(crate) heartbeats: Heartbeats,
}

/// Percentiles, by nearest rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// Half the samples took no longer.
    pub(crate) p50: f64,
    /// Nine of ten.
    pub(crate) p90: f64,
    /// 99 of 100.
    pub(crate) p99: f64,
    /// The slowest.
    pub(crate) max: f64,
}

impl Latency {
    /// The percentiles of times in microseconds.
    pub(crate) fn of(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        let at = |share: f64| {
            let rank = (micros.len() as f64 * share).ceil() as usize;
            micros.get(rank.saturating_sub(1)).map_or(0.0, |micros| f64::from(*micros) / 1e3)
        };
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1.0) }
    }
}

impl Reading {
    /// Processor time per sample, in microseconds.
    pub(crate) fn cpu_micros_per_sample(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.samples as f64
    }

    /// How many cores were busy on average.
    pub(crate) fn cores(&self) -> f64 {
        self.cpu_seconds / self.wall_seconds
    }

    /// Samples done in a second.
    pub(crate) fn samples_per_second(&self) -> f64 {
        self.samples as f64 / self.wall_seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let micros = (1..=1000).rev().map(|n| n * 1000).collect();
        assert_eq!(Latency::of(micros), Latency { p50: 500.0, p90: 900.0, p99: 990.0, max: 1000.0 });
        assert_eq!(Latency::of(vec![2000]), Latency { p50: 2.0, p90: 2.0, p99: 2.0, max: 2.0 });
        assert_eq!(Latency::of(Vec::new()), Latency::default());
    }
}
