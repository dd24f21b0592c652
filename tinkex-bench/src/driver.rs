//! Drives a contender through a cell: the same loop for all of them, so that what differs is the contender.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::AnyError;
use crate::cell::{Cell, Load};
use crate::meter::{Elapsed, Memory, Stopwatch};
use crate::reading::{Latency, Reading};
use crate::server::{Heartbeats, SAMPLED_TOKENS};

/// Something that samples. Its preparation is over, so that only samples are measured.
pub(crate) trait Sampler: Send + Sync {
    /// Samples once, and tells how many tokens came.
    fn sample(&self, prompt: Vec<i32>) -> impl Future<Output = Result<usize, AnyError>> + Send;
}

/// Runs the cell.
pub(crate) async fn drive(contender: &impl Sampler, cell: &Cell) -> Result<Reading, AnyError> {
    let prompt = cell.prompt();
    let slots = Slots { contender, cell, prompt: &prompt };
    let baseline = Memory::baseline();
    let (elapsed, micros) = match cell.load {
        Load::Samples { warm_up, measured } => slots.as_fast_as_they_go(warm_up, measured).await?,
        Load::Steady { measured_ms } => slots.steadily(Duration::from_millis(measured_ms)).await?,
    };
    Ok(Reading {
        samples: micros.len(),
        cpu_seconds: elapsed.cpu.as_secs_f64(),
        wall_seconds: elapsed.wall.as_secs_f64(),
        memory: Memory::since(baseline),
        added_latency_ms: Latency::of(micros),
        heartbeats: Heartbeats::default(),
    })
}

struct Slots<'a, C> {
    contender: &'a C,
    cell: &'a Cell,
    prompt: &'a [i32],
}

impl<C: Sampler> Slots<'_, C> {
    async fn as_fast_as_they_go(
        &self,
        warm_up: usize,
        measured: usize,
    ) -> Result<(Elapsed, Vec<u32>), AnyError> {
        self.run(warm_up).await?;
        let stopwatch = Stopwatch::start();
        let micros = self.run(measured).await?;
        Ok((stopwatch.read(), micros))
    }

    async fn run(&self, samples: usize) -> Result<Vec<u32>, AnyError> {
        let mut micros = Vec::with_capacity(samples);
        let started = self.cell.in_flight.min(samples);
        let mut running: FuturesUnordered<_> = (0..started).map(|_| self.sample(None)).collect();
        let mut left = samples - started;
        while let Some(took) = running.next().await {
            micros.push(took?);
            if left > 0 {
                left -= 1;
                running.push(self.sample(None));
            }
        }
        Ok(micros)
    }

    async fn steadily(&self, measured: Duration) -> Result<(Elapsed, Vec<u32>), AnyError> {
        let began = Instant::now();
        let all_running = began + self.cell.reply_time();
        let end = all_running + measured;
        let spread = |slot: usize| self.cell.reply_time().mul_f64(slot as f64 / self.cell.in_flight as f64);
        let mut running: FuturesUnordered<_> =
            (0..self.cell.in_flight).map(|slot| self.sample(Some(began + spread(slot)))).collect();
        let mut stopwatch = None;
        let mut micros = Vec::new();
        // What is in flight at the end is abandoned.
        while let Ok(Some(took)) = timeout_at(end, running.next()).await {
            let took = took?;
            if Instant::now() >= all_running {
                stopwatch.get_or_insert_with(Stopwatch::start);
                micros.push(took);
            }
            running.push(self.sample(None));
        }
        let stopwatch = stopwatch.ok_or("no sample was done in the time of the measurement")?;
        Ok((stopwatch.read(), micros))
    }

    /// One sample, perhaps later, and how much longer than the server's time it took, in microseconds.
    async fn sample(&self, begin: Option<Instant>) -> Result<u32, AnyError> {
        if let Some(begin) = begin {
            sleep_until(begin).await;
        }
        let called = Instant::now();
        let tokens = self.contender.sample(self.prompt.to_vec()).await?;
        if tokens != SAMPLED_TOKENS {
            return Err(format!("a sample of {tokens} tokens, not {SAMPLED_TOKENS}").into());
        }
        let added = called.elapsed().saturating_sub(self.cell.reply_time());
        Ok(u32::try_from(added.as_micros()).unwrap_or(u32::MAX))
    }
}
