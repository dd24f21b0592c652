//! What becomes of an abandoned submission, and of its sequence id.

use std::time::Duration;

use serde_json::json;
use tinkex_testkit::{Gate, Step};

use super::{assert_nothing_leaks, cancelled, connected, settle};
use crate::harness::request;

/// An attempt on the wire is finished before the fate of its sequence id is decided, whatever the answer.
#[tokio::test(start_paused = true)]
async fn the_answer_decides_about_the_sequence_id() {
    // The answer to the abandoned submission; whether its id is free again; whether a promise is to be cancelled.
    let cases: [(&str, Step, bool, usize); 7] = [
        ("accepted", Step::behave(), false, 1),
        ("lost", Step::behave().then_lose(), false, 0),
        ("throttled", Step::status(429).header("retry-after-ms", "50"), true, 0),
        ("refused", Step::refuse(), true, 0),
        ("server error", Step::status(500), false, 0),
        ("rejected", Step::status(400), false, 0),
        ("reset", Step::reset(), false, 0),
    ];
    for (name, step, free, cancellations) in cases {
        let (service, server, client, sampler) = connected(true, json!({})).await;
        let gate = Gate::new();
        server.script("asample", [step.gate(&gate)]).then_behave();
        let handle = sampler.sample(request(&[1]));
        gate.arrived(1).await;
        drop(handle);
        settle().await;
        assert_eq!(client.inflight().len(), 1, "{name}: the attempt is not given up");
        gate.open();
        settle().await;
        assert!(client.inflight().is_empty(), "{name}: no further attempt, no poll");
        assert_eq!((server.count("asample"), server.count("retrieve_future")), (1, 0), "{name}");
        assert_eq!(cancelled(&service).len(), cancellations, "{name}");
        sampler.sample(request(&[2])).await.unwrap();
        assert_eq!(server.seq_ids("asample"), [0, u64::from(!free)], "{name}");
        assert_nothing_leaks(&client).await;
    }
}

/// A sample dropped before its task ever ran sends nothing.
#[tokio::test(start_paused = true)]
async fn a_sample_dropped_at_once_sends_nothing() {
    let (_service, server, client, sampler) = connected(true, json!({})).await;
    drop(sampler.sample(request(&[1])));
    settle().await;
    assert_eq!(server.count("asample"), 0);
    assert!(client.inflight().is_empty());
    sampler.sample(request(&[2])).await.unwrap();
    assert_eq!(server.seq_ids("asample"), [0]);
}

/// A sample dropped in the pause before its next attempt makes no further one.
#[tokio::test(start_paused = true)]
async fn a_sample_dropped_between_attempts_makes_no_further_one() {
    let (_service, server, client, sampler) = connected(true, json!({})).await;
    server.script("asample", [Step::status(503).header("retry-after", "10")]).then_behave();
    let handle = sampler.sample(request(&[1]));
    server.wait_for_in_flight("asample", 0).await;
    server.wait_for("asample", 1).await;
    settle().await;
    drop(handle);
    assert_nothing_leaks(&client).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(server.count("asample"), 1);
}
