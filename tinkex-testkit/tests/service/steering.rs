//! Failures, losses, limits, cancellation, reset.

use std::time::Duration;

use serde_json::json;
use tinkex_testkit::service::ServiceOptions;
use tinkex_types::{ErrorCategory, QueueState};
use tokio::time::Instant;

use crate::caller::{Caller, refusal, text};

/// PROTOCOL 16.4: a failed promise is a 200 with a body, in the order the failures were asked for.
#[tokio::test(start_paused = true)]
async fn the_next_samples_fail_as_told() {
    let caller = Caller::production().await;
    caller.service.fail_next(ErrorCategory::Server, "boom");
    caller.service.fail_next(ErrorCategory::User, "bad prompt");
    let replies = [
        caller.submit(0, json!({})).await,
        caller.submit(1, json!({})).await,
        caller.submit(2, json!({})).await,
    ];
    for (id, expected) in replies.iter().zip([("boom", "server"), ("bad prompt", "user")]) {
        let reply = caller.retrieve(id).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.to_json(), Some(json!({ "error": expected.0, "category": expected.1 })));
        assert_eq!(caller.retrieve(id).await, reply, "a failure is final");
    }
    assert!(caller.retrieve(&replies[2]).await.to_json().unwrap()["sequences"].is_array());
}

/// FU-4: a lost promise answers 410, and the client's new request goes through.
#[tokio::test(start_paused = true)]
async fn a_lost_promise_is_gone_for_good() {
    let caller = Caller::production().await;
    caller.service.expire_next();
    let id = caller.submit(0, json!({})).await;
    for _ in 0..2 {
        assert_eq!(refusal(&caller.retrieve(&id).await).0, 410);
    }
    caller.sample(1, json!({})).await;
}

/// RL-1, S1-07: more samples than the limit get a 429 with a hint; a repeated request is no new sample.
#[tokio::test(start_paused = true)]
async fn samples_over_the_limit_get_429_until_others_are_done() {
    let caller =
        Caller::with_options(ServiceOptions { latency: Duration::from_secs(1), ..ServiceOptions::default() })
            .await;
    caller.service.limit_inflight(2, Duration::from_millis(250));
    let start = Instant::now();
    let first = caller.submit(0, json!({})).await;
    caller.submit(1, json!({})).await;
    let refused = caller.asample(2, json!({})).await;
    assert_eq!((refused.status.as_u16(), &refused.headers["retry-after-ms"]), (429, &"250".parse().unwrap()));
    assert_eq!(text(&caller.asample(0, json!({})).await, "request_id"), first);
    assert_eq!((caller.service.samples_accepted(), caller.service.samples_refused()), (2, 1));
    tokio::time::sleep_until(start + Duration::from_millis(999)).await;
    assert_eq!(caller.asample(2, json!({})).await.status, 429);
    tokio::time::sleep_until(start + Duration::from_millis(1001)).await;
    assert_eq!(caller.asample(2, json!({})).await.status, 200, "the refused id was not used up");
    caller.service.limit_inflight(0, Duration::from_millis(1));
    assert_eq!(caller.asample(3, json!({})).await.status, 429);
    caller.service.lift_limit();
    assert_eq!(caller.asample(3, json!({})).await.status, 200);
}

/// CA-1, PROTOCOL 15.8: a cancelled sample leaves the queue and fails.
#[tokio::test(start_paused = true)]
async fn a_cancelled_sample_leaves_the_queue() {
    let caller =
        Caller::with_options(ServiceOptions { latency: Duration::from_secs(1), ..ServiceOptions::default() })
            .await;
    let (running, held) = (caller.submit(0, json!({})).await, {
        caller.service.pause(QueueState::PausedCapacity, None, None);
        caller.submit(1, json!({})).await
    });
    for id in [&running, &held] {
        assert_eq!(
            caller.post("cancel_future", json!({ "request_id": id })).await.to_json(),
            Some(json!({}))
        );
    }
    assert_eq!(caller.service.in_progress(), 0);
    assert_eq!(caller.service.cancelled(), [running.clone(), held]);
    let reply = caller.retrieve(&running).await.to_json().unwrap();
    assert_eq!((&reply["category"], reply["error"].is_string()), (&json!("user"), true));
    assert_eq!(caller.post("cancel_future", json!({ "request_id": "none" })).await.status, 404);
    caller.service.resume();
    let done = caller.submit(2, json!({})).await;
    caller.retrieve(&done).await;
    assert_eq!(caller.post("cancel_future", json!({ "request_id": done })).await.status, 200);
    assert_eq!(caller.retrieve(&done).await.status, 200, "what is finished stays finished");
}

#[tokio::test(start_paused = true)]
async fn a_reset_forgets_all_and_ends_polls_that_are_held() {
    let caller =
        Caller::with_options(ServiceOptions { latency: Duration::from_secs(9), ..ServiceOptions::default() })
            .await;
    caller.service.set_client_config(&json!({ "x": 1 }));
    let id = caller.submit(0, json!({})).await;
    let start = Instant::now();
    let resetting = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        caller.service.reset();
    };
    let (reply, ()) = tokio::join!(caller.retrieve(&id), resetting);
    assert_eq!((refusal(&reply).0, start.elapsed().as_secs()), (404, 1));
    assert!(caller.service.sessions().is_empty());
    assert_eq!(caller.service.samples_accepted(), 0);
    assert_eq!(caller.post("client/config", json!({})).await.to_json(), Some(json!({})));
}

#[tokio::test(start_paused = true)]
async fn latency_and_hold_change_for_what_comes_after() {
    let caller = Caller::production().await;
    caller.service.set_latency(Duration::from_secs(5));
    caller.service.set_hold(Duration::from_secs(2));
    let start = Instant::now();
    let id = caller.submit(0, json!({})).await;
    assert_eq!(caller.retrieve(&id).await.status, 408);
    assert_eq!(start.elapsed().as_millis() / 10, 200);
    assert_eq!(caller.retrieve(&id).await.status, 408);
    assert_eq!(caller.retrieve(&id).await.status, 200);
    assert_eq!(start.elapsed().as_millis() / 10, 500);
    caller.service.set_latency(Duration::MAX);
    caller.submit(1, json!({})).await;
    caller.service.pause(QueueState::PausedCapacity, None, Some(Duration::MAX));
    caller.service.resume();
    assert_eq!(caller.service.in_progress(), 1);
}
