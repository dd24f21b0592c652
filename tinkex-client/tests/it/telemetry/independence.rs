//! Nothing waits for telemetry, and nothing fails with it.

use std::time::Duration;

use futures_util::future::join_all;
use tinkex_client::{AdamParams, FinishReason};
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, Step};
use tokio::time::Instant;

use super::SECOND;
use crate::harness::{self, MODEL, assert_within, request};

/// How each of some operations ended, and when, in a session with failures that are got over and failures that are not.
async fn session(telemetry: Option<Step>) -> Vec<(String, Duration)> {
    let server = FakeServer::with(Service::default());
    let builder = harness::reporting_builder(&server);
    let builder = match telemetry {
        Some(step) => {
            server.script("telemetry", [step]).then_repeat_last();
            builder
        }
        None => builder.without_telemetry(),
    };
    let start = Instant::now();
    let service = builder.build().await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    let trainer = service.lora_training_client(MODEL).rank(4).create().await.unwrap();
    // In every round, so that retries of telemetry come between those of samples.
    let each_round = |steps: &[Step]| (0..5).flat_map(|_| steps.to_vec()).collect::<Vec<_>>();
    let submissions = [
        Step::status(500).repeat(5),
        Step::refuse().repeat(5),
        Step::status(422).repeat(2),
        Step::behave().repeat(18),
    ];
    server.script("asample", each_round(&submissions)).then_behave();
    let polls = [Step::status(500).repeat(5), Step::status(404).repeat(2), Step::behave().repeat(16)];
    server.script("retrieve_future", each_round(&polls)).then_behave();
    let mut ended = Vec::new();
    for round in 0..5 {
        let samples = (0..20).map(|n| {
            let sample = sampler.sample(request(&[n]));
            async move { (sample.await.map(|_| ()).map_err(|error| error.to_string()), start.elapsed()) }
        });
        let step = async {
            let step = trainer.optim_step(AdamParams::new(1e-3)).await;
            (step.map(|_| ()).map_err(|error| error.to_string()), start.elapsed())
        };
        let (samples, step) = tokio::join!(join_all(samples), step);
        ended.extend(samples.into_iter().chain([step]).map(|(outcome, at)| (format!("{outcome:?}"), at)));
        let missing = service.sampling_client().base_model("").create().await;
        ended.push((missing.unwrap_err().to_string(), start.elapsed()));
        tokio::time::sleep(SECOND * (7 + round)).await;
    }
    ended
}

/// Every operation ends as it does without telemetry, at the same virtual instant, whatever the endpoint does.
#[tokio::test(start_paused = true)]
async fn no_call_is_delayed_and_none_fails() {
    let without = session(None).await;
    assert_eq!(without.len(), 5 * 22);
    let failed = without.iter().filter(|(outcome, _)| !outcome.starts_with("Ok")).count();
    assert!((8..50).contains(&failed), "{failed} failures: {without:?}");
    let faults = [
        ("behaves", Step::behave()),
        ("is slow", Step::behave().delay(SECOND * 3)),
        ("hangs", Step::hang()),
        ("stalls", Step::stall_after_headers()),
        ("fails", Step::status(500)),
        ("throttles", Step::status(429).header("retry-after", "30")),
        ("wants money", Step::status(402)),
        ("rejects the key", Step::status(401)),
        ("is not there", Step::status(404)),
        ("refuses connections", Step::refuse()),
        ("resets", Step::reset()),
        ("talks rubbish", Step::garbage("no HTTP")),
    ];
    for (what, fault) in faults {
        let with = session(Some(fault)).await;
        assert_eq!(with, without, "telemetry that {what}");
    }
}

/// A throttled endpoint closes no window, and its retries use up none of the budget that samples have (F-01).
#[tokio::test(start_paused = true)]
async fn telemetry_has_limits_of_its_own() {
    let server = FakeServer::new();
    server.script("telemetry", [Step::status(429).header("retry-after", "5")]).then_repeat_last();
    let (service, sampler) = super::reporting(&server).await;
    tokio::time::sleep(SECOND * 11).await;
    assert_eq!(server.count("telemetry"), 1);
    assert!(!service.in_backoff());
    let begun = Instant::now();
    sampler.sample(request(&[1])).await.unwrap();
    assert_within(begun.elapsed().as_secs_f64(), 0.0..=0.01, "a sample meanwhile");
    tokio::time::sleep(SECOND * 11).await;
    assert!(server.count("telemetry") > 1, "it is repeated");
    service.close(FinishReason::Success).await.unwrap();
}
