//! Backoff windows: how long, and for whom they hold.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::json;
use tinkex_client::ErrorKind;
use tinkex_testkit::service::Service;
use tinkex_testkit::{Gate, Step};
use tokio::time::Instant;

use super::{all_well, asamples, fan_out, hasty};
use crate::harness::{self, assert_within, request};

/// RL-1, S1-05 to S1-08, C-2, F-02: a 429 in every spelling of its hint, without retries: it surfaces and closes the
/// gate; 20 samples started at once arrive after the window, soon after it, with the ids 0 to 20.
#[tokio::test(start_paused = true)]
async fn a_window_holds_later_samples_for_as_long_as_the_server_says() {
    let throttled = || Step::status(429);
    let hints: [(&str, Step, RangeInclusive<f64>); 12] = [
        ("retry-after-ms", throttled().header("retry-after-ms", "200"), 0.2..=0.25),
        ("retry_after_ms", throttled().header("retry_after_ms", "200"), 0.2..=0.25),
        ("Retry-After-Ms, a float", throttled().header("Retry-After-Ms", "200.5"), 0.2005..=0.2507),
        ("retry-after, whole", throttled().header("retry-after", "3"), 3.0..=3.75),
        ("retry-after, a float", throttled().header("retry-after", "0.2"), 0.2..=0.25),
        ("the body", throttled().json_body(json!({"detail": "slow", "retry_after_ms": 200})), 0.2..=0.25),
        (
            "the header wins",
            throttled().header("retry-after-ms", "200").json_body(json!({"retry_after_ms": 900})),
            0.2..=0.25,
        ),
        // RL-6: what is no hint counts as none, so the window goes by the size of the prompt.
        ("none", throttled(), 1.0..=1.25),
        ("negative", throttled().header("retry-after", "-3"), 1.0..=1.25),
        ("zero", throttled().header("retry-after-ms", "0"), 1.0..=1.25),
        ("a day", throttled().header("retry-after", "86400"), 1.0..=1.25),
        (
            "garbage",
            throttled().header("retry-after", "soon").json_body(json!({"retry_after_ms": []})),
            1.0..=1.25,
        ),
    ];
    for (name, step, window) in hints {
        let service = Service::default();
        let (server, client, _) = harness::in_front_of(&service).await;
        let sampler = hasty(&client).await;
        server.script("asample", [step]).then_behave();
        let start = Instant::now();
        assert!(!client.in_backoff());
        let error = sampler.sample(request(&[0])).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(429)), "{name}");
        assert_eq!(
            error.retry_after().is_some(),
            *window.start() != 1.0,
            "{name}: {:?}",
            error.retry_after()
        );
        assert!(client.in_backoff(), "{name}: S1-07");

        all_well(fan_out(&sampler, 20)).await;
        let at = asamples(&server, start);
        assert_eq!(at.len(), 21, "{name}");
        at[1..].iter().for_each(|at| assert_within(*at, window.clone(), name));
        assert!(!client.in_backoff(), "{name}: S1-07");
        let mut ids = server.seq_ids("asample");
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..=20), "{name}");
    }
}

/// C-2, F-13: an HTTP date as the hint. The wall clock runs in real time, so the bounds are a second apart.
#[tokio::test(start_paused = true)]
async fn a_window_may_end_at_a_date() {
    let (server, client, _) = harness::in_front_of(&Service::default()).await;
    let sampler = hasty(&client).await;
    let now = tinkex_http::WallClock::default().now();
    let date = httpdate::fmt_http_date(now + Duration::from_secs(30));
    server.script("asample", [Step::status(429).header("retry-after", &date)]).then_behave();
    let start = Instant::now();
    sampler.sample(request(&[0])).await.unwrap_err();
    all_well(fan_out(&sampler, 5)).await;
    asamples(&server, start)[1..].iter().for_each(|at| assert_within(*at, 27.0..=31.0, "the date"));
}

/// The seed's wording: "a subsequent call waits". By default the 429 itself is repeated under its identity (C-3).
#[tokio::test(start_paused = true)]
async fn a_429_is_repeated_after_its_window() {
    let service = Service::default();
    let (server, _client, sampler) = harness::in_front_of(&service).await;
    server.script("asample", [Step::status(429).header("retry-after-ms", "200").repeat(30)]).then_behave();
    let start = Instant::now();
    sampler.sample(request(&[0])).await.unwrap();
    // No limit of count holds for throttling, and the delays do not grow.
    assert_within(start.elapsed().as_secs_f64(), 6.005..=30.0 * 0.25 + 0.005, "30 windows");
    assert_eq!((server.count("asample"), service.samples_accepted()), (31, 1));
    server.assert_idempotency_pattern("asample");
}

/// PROTOCOL 15.4, vector `sampling_backpressure`: without a hint a small prompt waits 1 s, one over 131,072 estimated
/// bytes 5 s.
#[tokio::test(start_paused = true)]
async fn without_a_hint_the_window_goes_by_the_size_of_the_prompt() {
    for (tokens, window) in [(1, 1.0..=1.25), (13_107, 1.0..=1.25), (13_108, 5.0..=6.0), (20_000, 5.0..=6.0)]
    {
        let (server, _client, sampler) = harness::in_front_of(&Service::default()).await;
        server.script("asample", [Step::status(429)]).then_behave();
        let start = Instant::now();
        sampler.sample(request(&vec![7; tokens])).await.unwrap();
        assert_within(asamples(&server, start)[1], window, "the fallback");
    }
}

/// RL-2, F-01: the late success of a request sent before the 429 does not end the window.
#[tokio::test(start_paused = true)]
async fn a_late_success_does_not_end_a_window() {
    let (server, client, sampler) = harness::in_front_of(&Service::default()).await;
    let gate = Gate::new();
    let throttled = Step::status(429).header("retry-after", "2");
    server.script("asample", [Step::behave().gate(&gate), throttled]).then_behave();
    let start = Instant::now();
    let early = sampler.sample(request(&[1]));
    gate.arrived(1).await;
    let refused = sampler.sample(request(&[2]));
    server.wait_for("asample", 2).await;
    gate.open();
    early.await.unwrap();
    assert_within(start.elapsed().as_secs_f64(), 0.0..=0.01, "the early one is not held back");
    assert!(client.in_backoff());
    all_well(fan_out(&sampler, 10)).await;
    refused.await.unwrap();
    asamples(&server, start)[2..].iter().for_each(|at| assert_within(*at, 2.0..=2.5, "the window stands"));
    assert_eq!(server.count("asample"), 13);
}

/// RL-3, F-01: of two penalties the longer window holds, in whichever order they come.
#[tokio::test(start_paused = true)]
async fn the_longest_window_wins() {
    for hints in [["5000", "50"], ["50", "5000"]] {
        let (server, _client, sampler) = harness::in_front_of(&Service::default()).await;
        let gates = [Gate::new(), Gate::new()];
        let steps = [0, 1].map(|n| Step::status(429).header("retry-after-ms", hints[n]).gate(&gates[n]));
        server.script("asample", steps).then_behave();
        let start = Instant::now();
        let handles = fan_out(&sampler, 2);
        gates[1].arrived(1).await;
        gates[0].open();
        tokio::time::sleep(Duration::from_millis(10)).await;
        gates[1].open();
        all_well(handles).await;
        asamples(&server, start)[2..].iter().for_each(|at| assert_within(*at, 5.0..=6.02, "the longer one"));
        assert_eq!(server.count("asample"), 4, "{hints:?}");
    }
}

/// RL-4, F-03: a window that grows while samples wait for its end holds them on.
#[tokio::test(start_paused = true)]
async fn a_window_that_grows_holds_those_who_wait() {
    let (server, client, sampler) = harness::in_front_of(&Service::default()).await;
    let gate = Gate::new();
    let late = Step::status(429).header("retry-after-ms", "3000").gate(&gate);
    server.script("asample", [late, Step::status(429).header("retry-after-ms", "1000")]).then_behave();
    let start = Instant::now();
    let mut handles = fan_out(&sampler, 2);
    server.wait_for("asample", 2).await;
    server.wait_for_in_flight("asample", 1).await; // the other one has its answer
    handles.extend(fan_out(&sampler, 20));
    tokio::time::sleep(Duration::from_millis(500)).await;
    gate.open();
    all_well(handles).await;
    let at = asamples(&server, start);
    assert_eq!(at.len(), 24);
    at[2..].iter().for_each(|at| assert_within(*at, 3.5..=4.252, "the grown window"));
    assert!(!client.in_backoff());
}

/// RL-5, F-03: fifty who waited for the same end leave spread out over a quarter of the window.
#[tokio::test(start_paused = true)]
async fn waiters_leave_spread_out() {
    let (server, _client, sampler) = harness::in_front_of(&Service::default()).await;
    server.script("asample", [Step::status(429).header("retry-after", "2")]).then_behave();
    let start = Instant::now();
    let first = sampler.sample(request(&[0]));
    server.wait_for("asample", 1).await;
    server.wait_for_in_flight("asample", 0).await; // it has its answer
    all_well(fan_out(&sampler, 49)).await;
    first.await.unwrap();
    let at = asamples(&server, start);
    assert_eq!(at.len(), 51);
    at[1..].iter().for_each(|at| assert_within(*at, 2.0..=2.5, "the spread"));
    let milliseconds: BTreeSet<_> = at[1..].iter().map(|at| (at * 1000.0) as u64).collect();
    assert!(milliseconds.len() >= 25, "{} different milliseconds", milliseconds.len());
    let (first, last) = (milliseconds.first().unwrap(), milliseconds.last().unwrap());
    assert!(last - first >= 250, "from {first} to {last} ms");
}
