//! Long waits and long outages are a few lines.

use std::time::Duration;

use serde_json::json;
use tinkex_client::{ErrorKind, RetryPolicy, SampleOptions};
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, Step};
use tokio::time::Instant;
use tracing::Level;

use crate::harness::{self, MODEL};
use crate::trace_capture::TraceCapture;

/// Two thousand polls of one pending promise, three seconds each: no line per poll. What is said at DEBUG and above is the
/// progress of the sampler, when the sample ends; at INFO and above nothing.
#[tokio::test(start_paused = true)]
async fn two_thousand_polls_are_two_lines_at_most() {
    const POLLS: usize = 2_000;
    let (_server, polls, capture) = {
        let (server, _client, sampler) = harness::in_front_of(&Service::default()).await;
        server.record_bodies(false);
        let pending = json!({"type": "try_again", "request_id": "any"});
        let pending = Step::json(pending).delay(Duration::from_secs(3));
        server.script("retrieve_future", [pending.repeat(POLLS)]).then_behave();
        let (capture, _guard) = TraceCapture::start();
        sampler.sample(harness::request(&[1])).await.unwrap();
        (server.clone(), server.count("retrieve_future"), capture)
    };
    assert_eq!(polls, POLLS as u64 + 1);
    assert!(capture.lines_at(Level::DEBUG) <= 2, "{}", capture.text());
    assert_eq!(capture.lines_at(Level::INFO), 0, "{}", capture.text());
}

/// A thousand retries of one submission: a line for the first, and then a warning in ten seconds at most.
#[tokio::test(start_paused = true)]
async fn a_thousand_retries_are_a_warning_in_ten_seconds() {
    const RETRIES: usize = 1_000;
    let server = FakeServer::with(Service::default());
    let policy = RetryPolicy::patient(Duration::from_secs(24 * 3600));
    let client = harness::builder(&server).sampling_retry_policy(policy).build().await.unwrap();
    let sampler =
        client.sampling_client().base_model(MODEL).without_stuck_detection().create().await.unwrap();
    server.record_bodies(false);
    server
        .script("asample", [Step::status(503).header("retry-after-ms", "700").repeat(RETRIES)])
        .then_behave();
    let (capture, _guard) = TraceCapture::start();
    let started = Instant::now();
    sampler.sample(harness::request(&[1])).await.unwrap();
    let took = started.elapsed().as_secs();
    assert_eq!(server.count("asample"), RETRIES as u64 + 1);
    assert!((690..=900).contains(&took), "{took} s");
    let most = usize::try_from(took / 10).unwrap() + 1;
    let warnings = capture.lines_at(Level::WARN);
    // Not silent either.
    assert!((most * 3 / 4..=most).contains(&warnings), "{warnings} warnings in {took} s");
    let lines = capture.lines_at(Level::DEBUG);
    assert!(lines <= warnings + 3, "{lines} lines, {warnings} of them warnings");
}

/// A thousand samples that are retried at once share that line.
#[tokio::test(start_paused = true)]
async fn a_thousand_samples_share_their_warnings() {
    const SAMPLES: usize = 1_000;
    let (server, _client, sampler) = harness::in_front_of(&Service::default()).await;
    server.record_bodies(false);
    server.script("asample", [Step::status(503)]).then_repeat_last();
    let (capture, _guard) = TraceCapture::start();
    let started = Instant::now();
    let options = SampleOptions::default().deadline(Duration::from_secs(120));
    let samples = (0..SAMPLES).map(|_| sampler.sample_with(harness::request(&[1]), options.clone()));
    let samples: Vec<_> = samples.collect();
    for sample in samples {
        assert_eq!(sample.await.unwrap_err().kind(), ErrorKind::Timeout);
    }
    assert!(server.count("asample") > SAMPLES as u64);
    let most = usize::try_from(started.elapsed().as_secs() / 10).unwrap() + 1;
    let warnings = capture.lines_at(Level::WARN);
    assert!((5..=most).contains(&warnings), "{warnings} warnings, {most} at most");
}
