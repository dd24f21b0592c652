//! How many submissions and samples may be on their way at once.

use std::time::Duration;

use serde_json::json;
use tinkex_client::{QueueState, SamplingClient};
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, Gate, Step};
use tokio::time::Instant;

use super::{AT_REST, all_well, asamples, fan_out};
use crate::harness::{self, MODEL, assert_within, request};

/// Starts samples against a closed gate and says how many of them reached the server.
async fn peak(server: &FakeServer, sampler: &SamplingClient, samples: usize, gate: &Gate) -> usize {
    gate.close();
    let handles = fan_out(sampler, samples);
    // Long enough for all that may go out to go out; nothing ends while the gate is closed.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let peak = gate.waiting();
    assert_eq!(server.in_flight("asample"), peak);
    gate.open();
    all_well(handles).await;
    peak
}

/// PROTOCOL 15.4, vector `dispatch_concurrency`: 400 submissions at once; while the server has throttled recently,
/// until 10 s after the window, 10.
#[tokio::test(start_paused = true)]
async fn submissions_at_once_are_limited() {
    let (server, client, sampler) = harness::in_front_of(&Service::default()).await;
    let gate = Gate::new();
    let throttled = Step::status(429).header("retry-after", "1");
    server
        .script("asample", [Step::behave().gate(&gate).repeat(600), throttled, Step::behave().gate(&gate)])
        .then_repeat_last();
    assert_eq!(peak(&server, &sampler, 600, &gate).await, 400);
    assert_eq!((server.max_in_flight("asample"), client.dispatch_available()), (400, AT_REST));

    // The window begins; its end is `over`.
    let over = Instant::now() + Duration::from_secs(1);
    gate.open();
    sampler.sample(request(&[0])).await.unwrap();
    for (after, expected) in [(1.0, 10), (5.0, 10), (8.9, 10), (10.0, 60), (11.0, 60)] {
        tokio::time::sleep_until(over + Duration::from_secs_f64(after)).await;
        assert_eq!(peak(&server, &sampler, 60, &gate).await, expected, "{after} s after the window");
    }
    assert_eq!(client.dispatch_available(), AT_REST);
}

/// F-15: what waits when a window begins goes by the limits of the window, not by those of the time it came.
#[tokio::test(start_paused = true)]
async fn queued_samples_respect_a_window_that_began_later() {
    let (server, _client, sampler) = harness::in_front_of(&Service::default()).await;
    let (refusal, gate) = (Gate::new(), Gate::new());
    let first = Step::status(429).header("retry-after", "1").gate(&refusal);
    server
        .script(
            "asample",
            [first, Step::behave().gate(&gate).repeat(399), Step::behave().delay(Duration::from_secs(1))],
        )
        .then_repeat_last();
    let handles = fan_out(&sampler, 460);
    refusal.arrived(1).await;
    gate.arrived(399).await;
    refusal.open();
    server.wait_for_in_flight("asample", 399).await;
    gate.open();
    let start = Instant::now();
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    assert_eq!(server.in_flight("asample"), 10, "of the 60 that waited, and the one that was refused");
    all_well(handles).await;
    let late = asamples(&server, start).into_iter().filter(|at| *at > 0.0).collect::<Vec<_>>();
    assert_eq!(late.len(), 61);
    late.iter().for_each(|at| assert!(*at >= 1.0, "{at}"));
}

/// PROTOCOL 15.4, vector `byte_budget`: the budget admits while its balance is not negative; while the server has
/// throttled recently a submission weighs 20 times as much.
#[tokio::test(start_paused = true)]
async fn submitted_bytes_are_limited() {
    let service = Service::default();
    service.set_client_config(&json!({"sample_dispatch_bytes_semaphore_size": 1000}));
    let (server, client, sampler) = harness::in_front_of(&service).await;
    let gate = Gate::new();
    let throttled = Step::status(429).header("retry-after-ms", "100");
    server
        .script("asample", [Step::behave().gate(&gate).repeat(8), throttled, Step::behave().gate(&gate)])
        .then_repeat_last();
    assert_eq!(client.dispatch_available(), Some((400, 1000)));
    let burst = || (0..8).map(|_| sampler.sample(request(&[5; 30]))).collect::<Vec<_>>();

    let handles = burst();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        (gate.waiting(), client.dispatch_available()),
        (4, Some((392, -200))),
        "the others wait with a slot each"
    );
    gate.open();
    all_well(handles).await;

    sampler.sample(request(&[5; 30])).await.unwrap();
    gate.close();
    let handles = burst();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((gate.waiting(), client.dispatch_available().unwrap().1), (1, -5000));
    gate.open();
    all_well(handles).await;
    assert_eq!(client.dispatch_available(), Some((400, 1000)));
}

/// F-15: the limits surround the submission alone. 500 samples in their long polls hold nothing, and neither do
/// samples that wait for a window or for their next attempt.
#[tokio::test(start_paused = true)]
async fn permits_are_held_around_the_submission_only() {
    let service = Service::default();
    let (server, client, sampler) = harness::in_front_of(&service).await;
    service.pause(QueueState::PausedCapacity, None, None);
    let polling = fan_out(&sampler, 500);
    server.wait_for_in_flight("retrieve_future", 500).await;
    assert_eq!((client.dispatch_available(), client.inflight().len()), (AT_REST, 500));

    server
        .script(
            "asample",
            [Step::status(503).header("retry-after", "20"), Step::status(429).header("retry-after", "30")],
        )
        .then_behave();
    let waiting = fan_out(&sampler, 2);
    server.wait_for("asample", 502).await;
    let later = fan_out(&sampler, 20);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((client.dispatch_available(), client.inflight().len()), (AT_REST, 522));
    service.resume();
    for handles in [polling, waiting, later] {
        all_well(handles).await;
    }
    assert_eq!(client.dispatch_available(), AT_REST);
    server.assert_contiguous_seq_ids("asample");
}

/// PROTOCOL 4.1: the samples in flight of one sampler are limited by the server's flag and by the user's number, by
/// the smaller one; the flags that lift the server's limit leave the user's.
#[tokio::test(start_paused = true)]
async fn samples_in_flight_are_limited() {
    for (flags, own, expected) in [
        (json!({}), None, 50),
        (json!({"sample_max_concurrent_requests": 5}), None, 5),
        (json!({"sample_max_concurrent_requests": 5}), Some(3), 3),
        (json!({"sample_max_concurrent_requests": 5}), Some(7), 5),
        (json!({"sample_max_concurrent_requests": 5, "sample_no_retries": true}), None, 50),
        (json!({"sample_max_concurrent_requests": 5, "sample_no_retries": true}), Some(7), 7),
        (json!({"sample_max_concurrent_requests": 5, "sample_use_retrieve_futures": true}), None, 50),
    ] {
        let service = Service::default();
        service.set_client_config(&flags);
        let server = FakeServer::with(service.clone());
        let client = harness::service(&server).await;
        let builder = client.sampling_client().base_model(MODEL);
        let builder = match own {
            Some(own) => builder.max_in_flight(own),
            None => builder,
        };
        let sampler = builder.create().await.unwrap();
        service.set_latency(Duration::from_secs(1));
        let start = Instant::now();
        all_well(fan_out(&sampler, 50)).await;
        assert_eq!(service.most_in_progress(), expected, "{flags} {own:?}");
        let rounds = 50_usize.div_ceil(expected) as f64;
        assert_within(start.elapsed().as_secs_f64(), rounds..=rounds + 0.1, &format!("{flags} {own:?}"));
        assert!(client.inflight().is_empty());
    }
}
