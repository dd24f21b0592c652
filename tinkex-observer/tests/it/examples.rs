//! The example runs, and shows what it claims.

#[path = "../../examples/queue_watch/watch.rs"]
mod watch;

use std::sync::{Arc, Mutex};

use crate::capture::Log;

#[tokio::test(start_paused = true)]
async fn queue_watch() {
    let (log, _guard) = Log::start();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    watch::run(move |line| sink.lock().unwrap().push(line)).await;
    let told: Vec<_> = lines
        .lock()
        .unwrap()
        .iter()
        .filter_map(|line| line.trim().strip_prefix("your observer: now ").map(str::to_owned))
        .collect();
    assert_eq!(told, ["paused_capacity", "active", "paused_rate_limit", "paused_rate_limit", "active"]);
    assert_eq!(lines.lock().unwrap().last().unwrap(), "\n150 observations.");
    let pauses = log.pauses();
    assert!((4..=6).contains(&pauses.len()), "{pauses:?}");
    assert_eq!(pauses[0], "Sampling is paused for sampler-1. Reason: out of capacity");
    assert!(pauses.iter().any(|line| line.ends_with("12 of 12 adapters are busy")), "{pauses:?}");
}
