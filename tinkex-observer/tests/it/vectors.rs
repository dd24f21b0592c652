//! The golden log vectors: the lines of four releases of the reference SDK.

use serde_json::Value;
use tinkex_observer::{
    ClientKind, LogPolicy, LogWording, QueueState, QueueStateChange, QueueStateLogger, QueueStateObserver,
};

use crate::capture::{Log, VirtualTime};

/// Feeds each case to a fresh logger under a virtual clock and compares time, level and text of every line.
async fn replay(vectors: &str, wording: LogWording, cases: usize) {
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    let replayed = vectors["cases"].as_array().unwrap();
    assert_eq!(replayed.len(), cases, "the fixture is complete");
    for case in replayed {
        let client = match case["client"].as_str().unwrap() {
            "sampling" => ClientKind::Sampling,
            "training" => ClientKind::Training,
            "model_creation" => ClientKind::ModelCreation,
            other => panic!("a client the vectors did not have before: {other}"),
        };
        let (log, _guard) = Log::start();
        let (clock, logger) = (VirtualTime::start(), QueueStateLogger::new(LogPolicy::of_release(wording)));
        let mut wrote = Vec::new();
        for event in case["events"].as_array().unwrap() {
            let t = event["t"].as_f64().unwrap();
            clock.to(t).await;
            let state = QueueState::parse(event["state"].as_str().unwrap());
            let seen = QueueStateChange::new(state, client, case["identifier"].as_str().unwrap());
            logger.on_observation(&seen.with_reason(event["reason"].as_str()));
            let lines = log.lines();
            wrote.extend(
                lines[wrote.len()..].iter().map(|line| (t, line.level.to_string(), line.message.clone())),
            );
        }
        let expected: Vec<_> = case["expected"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| {
                let level = line["level"].as_str().unwrap().replace("WARNING", "WARN");
                (line["t"].as_f64().unwrap(), level, line["message"].as_str().unwrap().to_owned())
            })
            .collect();
        assert_eq!(wrote, expected, "{} of {}", case["name"], case["client"]);
    }
}

/// PROTOCOL 17.4, release 0.4: bare ids, server reasons ignored.
#[tokio::test(start_paused = true)]
async fn release_0_4() {
    replay(include_str!("../fixtures/queue_state_log_classic_0_4_1.json"), LogWording::V0_4, 12).await;
}

/// PROTOCOL 17.4, releases 0.5 and 0.6: the sampler noun, server reasons ignored.
#[tokio::test(start_paused = true)]
async fn release_0_6() {
    replay(include_str!("../fixtures/queue_state_log_classic_0_6_3.json"), LogWording::V0_6, 9).await;
}

/// PROTOCOL 17.4, release 0.7: newer reasons, server reasons used.
#[tokio::test(start_paused = true)]
async fn release_0_7() {
    replay(include_str!("../fixtures/queue_state_log_classic_0_7_0.json"), LogWording::V0_7, 12).await;
}

/// PROTOCOL 17.3, release 0.38: final period and 15 min of grace, but not for sampling.
#[tokio::test(start_paused = true)]
async fn release_0_38() {
    replay(include_str!("../fixtures/queue_state_log_0_38_0.json"), LogWording::V0_38, 23).await;
}
