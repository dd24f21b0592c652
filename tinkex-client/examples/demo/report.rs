//! What happened, as a table.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

/// Counts what happened, from the SDK's own metrics.
#[derive(Clone)]
pub(crate) struct Report {
    metrics: Arc<Snapshotter>,
    samples: Arc<Mutex<Vec<(Duration, usize)>>>,
}

impl Report {
    /// A report, and the recorder that it counts from.
    pub(crate) fn new() -> (Self, DebuggingRecorder) {
        let recorder = DebuggingRecorder::new();
        let metrics = Arc::new(recorder.snapshotter());
        (Self { metrics, samples: Arc::default() }, recorder)
    }

    /// One finished sample: how long it took, and how many tokens it gave.
    pub(crate) fn sample(&self, took: Duration, tokens: usize) {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).push((took, tokens));
    }

    /// The table. Takes the counts, so it can be made once.
    pub(crate) fn table(&self) -> String {
        let mut counts = Counts::default();
        for (key, _, _, value) in self.metrics.snapshot().into_vec() {
            let label =
                |name: &str| key.key().labels().find(|l| l.key() == name).map(|l| l.value().to_owned());
            match (key.key().name(), value) {
                ("tinkex_http_call_duration_seconds", DebugValue::Histogram(calls)) => {
                    counts.calls += calls.len()
                }
                ("tinkex_http_retries_total", DebugValue::Counter(n)) => {
                    counts.retries += n;
                    counts.causes.push(format!("{n} {}", label("cause").unwrap_or_default()));
                }
                ("tinkex_queue_state_transitions_total", DebugValue::Counter(n))
                    if label("state").is_some_and(|state| state.starts_with("paused")) =>
                {
                    counts.pauses += n;
                }
                ("tinkex_backoff_wait_seconds", DebugValue::Histogram(waits)) => {
                    counts.waiters += waits.len();
                    counts.longest_wait =
                        waits.iter().map(|w| w.into_inner()).fold(counts.longest_wait, f64::max);
                }
                _ => {}
            }
        }
        counts.causes.sort();
        self.render(&counts)
    }

    fn render(&self, counts: &Counts) -> String {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone();
        samples.sort_unstable();
        let percentile = |share: f64| {
            let index = ((samples.len() as f64 * share).ceil() as usize).clamp(1, samples.len().max(1)) - 1;
            samples.get(index).map_or(0.0, |(took, _)| took.as_secs_f64())
        };
        let causes =
            if counts.causes.is_empty() { String::new() } else { format!(" ({})", counts.causes.join(", ")) };
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.add_row(["samples finished".to_owned(), samples.len().to_string()]);
        table.add_row([
            "tokens".to_owned(),
            samples.iter().map(|(_, tokens)| tokens).sum::<usize>().to_string(),
        ]);
        table.add_row(["requests".to_owned(), (counts.calls as u64 + counts.retries).to_string()]);
        table.add_row(["retries".to_owned(), format!("{}{causes}", counts.retries)]);
        table.add_row(["samples that met a pause".to_owned(), counts.pauses.to_string()]);
        let wait = format!("{} waited, {:.2} s at most", counts.waiters, counts.longest_wait);
        table.add_row(["backoff after 429".to_owned(), wait]);
        let latency = format!("{:.2} / {:.2} / {:.2} s", percentile(0.5), percentile(0.95), percentile(1.0));
        table.add_row(["latency p50 / p95 / max".to_owned(), latency]);
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        format!("\nWhat happened:\n{table}")
    }
}

#[derive(Default)]
struct Counts {
    calls: usize,
    retries: u64,
    causes: Vec<String>,
    pauses: u64,
    waiters: usize,
    longest_wait: f64,
}
