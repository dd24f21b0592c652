//! A client that polls every two seconds, and what its observers make of the answers.

use std::sync::Arc;
use std::time::Duration;

use tinkex_observer::{
    ClientKind, LogPolicy, ObserverSet, QueueState, QueueStateChange, QueueStateObserver as _,
};
use tokio::time::Instant;

/// How the queue was, from which second on; and the server's reason, where it gave one.
const QUEUE: [(u64, QueueState, Option<&str>); 5] = [
    (0, QueueState::PausedCapacity, None),
    (130, QueueState::Active, None),
    (150, QueueState::PausedRateLimit, None),
    (230, QueueState::PausedRateLimit, Some("12 of 12 adapters are busy")),
    (290, QueueState::Active, None),
];

pub(crate) async fn run(say: impl Fn(String) + Clone + Send + Sync + 'static) {
    // The defaults, said out loud: one log line a minute, in the words of the latest release.
    let tell = say.clone();
    let observers = ObserverSet::new(LogPolicy::new().interval(Duration::from_secs(60)))
        .with_observer(Arc::new(move |state: QueueState| tell(format!("  your observer: now {state}"))));

    say("A queue is asked every two seconds for five minutes. Your observer is told of changes;".to_owned());
    say("the log gets a line (WARN) a minute while the queue is paused.\n".to_owned());
    let (begun, mut polls, mut minute, mut last) = (Instant::now(), 0, None, None);
    loop {
        let second = begun.elapsed().as_secs();
        if second >= 300 {
            break;
        }
        if minute.replace(second / 60) != Some(second / 60) {
            say(format!("minute {}", second / 60 + 1));
        }
        // What a poller does with every answer that carries a queue state.
        let Some((_, state, reason)) = QUEUE.iter().rev().find(|(from, ..)| *from <= second) else { break };
        let before = last.replace((state, *reason));
        let seen = QueueStateChange::new(state.clone(), ClientKind::Sampling, "sampler-1")
            .with_reason(*reason)
            .with_previous(before.map(|(state, _)| state.clone()), before != last);
        observers.on_observation(&seen);
        // Observers run apart from the polls. Only a program that prints in order has to wait for them.
        let _ = observers.flush(Duration::from_secs(5));
        polls += 1;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    say(format!("\n{polls} observations."));
}
