//! The flags a server sets, and their effect on sampling (PROTOCOL 4).

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tinkex_client::{ErrorKind, FinishReason, LossFn, SamplingClient};
use tinkex_testkit::{Gate, Received, Step};
use tokio::time::Instant;

use super::{MINUTE, SECOND, arrivals, pass, settle, steered, with_flags};
use crate::harness::{self, MODEL};

fn payload(request: &Received) -> bool {
    request.route() == "retrieve_future" && request.field("allow_metadata_only") == Some(&json!(false))
}

/// PROTOCOL 4.2: the dynamic flags are fetched again after their own interval, 10 s at least. A failure keeps what was
/// known, and is not repeated before its time.
#[tokio::test(start_paused = true)]
async fn dynamic_flags_are_refreshed() {
    let (behind, server) = steered();
    behind.set_dynamic_config(&json!({ "refresh_interval_sec": 1 }));
    let (_service, sampler) = harness::sampler(&server).await;
    let flags = |sampler: &SamplingClient| sampler.handle().holder.client_dynamic_config;
    let connected = Instant::now();
    pass(15 * SECOND).await;
    behind.set_dynamic_config(&json!({ "refresh_interval_sec": 60, "sample_cancel_max_batch_size": 3 }));
    pass(10 * SECOND).await;
    assert_eq!(flags(&sampler).sample_cancel_max_batch_size, 3);
    // At 80 s it fails, at 140 s too, at 200 s it is well again.
    server.script("client/dynamic_config", [Step::status(500), Step::reset()]).then_behave();
    behind.set_dynamic_config(&json!({ "refresh_interval_sec": 30, "sample_cancel_max_batch_size": 9 }));
    pass(120 * SECOND).await;
    assert_eq!(flags(&sampler).sample_cancel_max_batch_size, 3, "failures keep what was known");
    pass(95 * SECOND).await;
    assert_eq!(flags(&sampler).sample_cancel_max_batch_size, 9);
    let seconds: Vec<_> =
        arrivals(&server, "client/dynamic_config", connected)[1..].iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [10, 20, 80, 140, 200, 230]);
}

/// PROTOCOL 4.2, at its edges: nothing is asked more often than every 10 s; an endpoint that is gone keeps what was known,
/// and is asked again; an interval beyond all time is none.
#[tokio::test(start_paused = true)]
async fn dynamic_flags_at_their_edges() {
    let (behind, server) = steered();
    behind.set_latency(100 * 60 * MINUTE);
    behind.set_dynamic_config(&json!({ "refresh_interval_sec": 0, "sample_cancel_enabled": true }));
    let (_service, sampler) = harness::sampler(&server).await;
    let connected = Instant::now();
    let given_up = async || {
        let before = server.count("retrieve_future");
        let sample = sampler.sample(harness::request(&[1]));
        server.wait_for("retrieve_future", before + 1).await;
        drop(sample);
        settle().await;
        behind.cancelled().len()
    };
    server.script("client/dynamic_config", [Step::status(404).repeat(2)]).then_behave();
    pass(25 * SECOND).await;
    assert_eq!(given_up().await, 1, "still wanted");
    behind.set_dynamic_config(&json!({ "refresh_interval_sec": u64::MAX }));
    pass(10 * SECOND).await;
    assert_eq!(given_up().await, 1, "not wanted any more");
    pass(12 * 60 * MINUTE).await;
    let asked = arrivals(&server, "client/dynamic_config", connected);
    assert_eq!(asked[1..].iter().map(Duration::as_secs).collect::<Vec<_>>(), [10, 20, 30]);
}

/// `use_pyqwest_transport` selects a part of the reference SDK; no byte on the wire depends on it (PROTOCOL 4.1).
#[tokio::test(start_paused = true)]
async fn the_flag_without_effect() {
    let traffic = async |flags| {
        let (behind, server) = steered();
        behind.set_client_config(&flags);
        let (service, sampler) = harness::sampler(&server).await;
        sampler.sample(harness::request(&[1])).await.unwrap();
        let trainer = service.lora_training_client(MODEL).rank(4).seed(7).create().await.unwrap();
        let pass = trainer.forward_backward(vec![harness::example("flag")], LossFn::CrossEntropy);
        pass.await.unwrap();
        service.close(FinishReason::Success).await.unwrap();
        let shown = |request: &Received| {
            let mut headers = request.headers.clone();
            // Each server has a name of its own.
            headers.remove("host");
            // A random one; whether it is there is all that can be compared.
            if let Some(key) = headers.get_mut("x-idempotency-key") {
                *key = "key".parse().unwrap();
            }
            (request.path.clone(), headers, request.body.clone())
        };
        server.all_requests().iter().map(|request| shown(request)).collect::<Vec<_>>()
    };
    let with = traffic(json!({ "use_pyqwest_transport": true })).await;
    assert_eq!(with, traffic(json!({ "use_pyqwest_transport": false })).await);
    assert_eq!(with, traffic(json!({})).await);
}

/// `sample_max_concurrent_requests` limits samples from submission to result; the client's own limit can be lower.
#[tokio::test(start_paused = true)]
async fn the_flag_for_concurrent_samples() {
    let (_behind, server, service, sampler) =
        with_flags(json!({ "sample_max_concurrent_requests": 3 })).await;
    let gate = Gate::new();
    server.script("retrieve_future", [Step::behave().gate(&gate)]).then_repeat_last();
    let handles: Vec<_> = (0..8).map(|n| sampler.sample(harness::request(&[n]))).collect();
    gate.arrived(3).await;
    settle().await;
    assert_eq!(server.count("asample"), 3);
    let lower = service.sampling_client().base_model(MODEL).max_in_flight(2).create().await.unwrap();
    let higher = service.sampling_client().base_model(MODEL).max_in_flight(9).create().await.unwrap();
    let more: Vec<_> =
        (0..5).flat_map(|n| [&lower, &higher].map(|s| s.sample(harness::request(&[n])))).collect();
    gate.arrived(8).await;
    settle().await;
    assert_eq!(server.count("asample"), 3 + 2 + 3, "each sampling client has its own limit");
    gate.open();
    assert!(join_all(handles).await.iter().chain(&join_all(more).await).all(Result::is_ok));
    assert_eq!(server.max_in_flight("retrieve_future"), 8);
}

/// `sample_dispatch_bytes_semaphore_size` limits the estimated bytes being submitted; the budget may be overdrawn by
/// one (PROTOCOL 12.5), so with 10 bytes two prompts of 10 are on their way.
#[tokio::test(start_paused = true)]
async fn the_flag_for_submission_bytes() {
    let (_behind, server, service, sampler) =
        with_flags(json!({ "sample_dispatch_bytes_semaphore_size": 10 })).await;
    let gate = Gate::new();
    server.script("asample", [Step::behave().gate(&gate)]).then_repeat_last();
    let handles: Vec<_> = (0..6).map(|n| sampler.sample(harness::request(&[n]))).collect();
    gate.arrived(2).await;
    settle().await;
    assert_eq!(server.count("asample"), 2);
    assert_eq!(service.dispatch_available().unwrap().1, -10);
    gate.open();
    assert!(join_all(handles).await.iter().all(Result::is_ok));
    assert_eq!(server.max_in_flight("asample"), 2);
    assert_eq!(service.dispatch_available().unwrap().1, 10);
}

/// `inflight_response_bytes_semaphore_size` limits announced results being fetched.
#[tokio::test(start_paused = true)]
async fn the_flag_for_response_bytes() {
    let (behind, server, _service, sampler) =
        with_flags(json!({ "inflight_response_bytes_semaphore_size": 1 })).await;
    behind.set_metadata_threshold(0);
    let gate = Gate::new();
    server.script_when("retrieve_future", payload, [Step::behave().gate(&gate)]).then_repeat_last();
    let handles: Vec<_> = (0..5).map(|n| sampler.sample(harness::request(&[n]))).collect();
    for _ in 0..5 {
        gate.arrived(1).await;
        settle().await;
        assert_eq!(gate.waiting(), 1, "one result is larger than the budget, so they come one by one");
        gate.release(1);
        settle().await;
    }
    assert!(join_all(handles).await.iter().all(Result::is_ok));
    let fetched = server.requests("retrieve_future").iter().filter(|request| payload(request)).count();
    assert_eq!(fetched, 5);
}

/// `sample_no_retries` lifts the limit of samples in flight and lets a lost promise surface.
#[tokio::test(start_paused = true)]
async fn the_flag_for_no_retries() {
    let flags = json!({ "sample_no_retries": true, "sample_max_concurrent_requests": 1 });
    let (behind, server, _service, sampler) = with_flags(flags).await;
    let gate = Gate::new();
    server.script("asample", [Step::behave().gate(&gate)]).then_repeat_last();
    let handles: Vec<_> = (0..4).map(|n| sampler.sample(harness::request(&[n]))).collect();
    tokio::time::timeout(MINUTE, gate.arrived(4)).await.expect("all four at once");
    gate.open();
    assert!(join_all(handles).await.iter().all(Result::is_ok));
    behind.expire_next();
    let lost = sampler.sample(harness::request(&[1])).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Expired);
    assert!(lost.is_retryable());
    assert_eq!(server.count("asample"), 5);

    let (behind, server, _service, sampler) = with_flags(json!({})).await;
    behind.expire_next();
    sampler.sample(harness::request(&[1])).await.unwrap();
    assert_eq!(server.seq_ids("asample"), [0, 1], "without the flag it is submitted anew");
}

/// `sample_use_retrieve_futures`: one poll announces results, and only finished ones are fetched.
#[tokio::test(start_paused = true)]
async fn the_flag_for_the_session_poller() {
    let flags = json!({ "sample_use_retrieve_futures": true, "sample_max_concurrent_requests": 1 });
    let (behind, server, service, sampler) = with_flags(flags).await;
    behind.set_latency(50 * SECOND);
    let replies = join_all((0..10).map(|n| sampler.sample(harness::request(&[n])))).await;
    assert!(replies.iter().all(Result::is_ok));
    assert_eq!(server.count("retrieve_future"), 10, "no poll of a pending promise");
    assert_eq!(server.max_in_flight("retrieve_futures"), 1);
    assert!(server.max_in_flight("asample") == 10, "the flag lifts the limit of samples in flight");
    let polls = server.requests("retrieve_futures");
    let target = json!({
        "type": "sampling_session",
        "sampling_session_id": sampler.sampling_session_id(),
        "cloned_sampler_id": 0,
    });
    assert!(polls.iter().all(|poll| poll.field("target") == Some(&target)));
    sampler.close().await;
    let late = sampler.sample(harness::request(&[1])).await.unwrap_err();
    assert_ne!(late.kind(), ErrorKind::InvalidInput);
    assert!(service.inflight().is_empty());
}

/// `sample_cancel_enabled` and `sample_cancel_max_batch_size` (PROTOCOL 15.8), read when they are needed.
#[tokio::test(start_paused = true)]
async fn the_flags_for_cancellation() {
    let (behind, server) = steered();
    behind.set_latency(60 * MINUTE);
    behind.set_dynamic_config(&json!({ "refresh_interval_sec": 10 }));
    let (service, sampler) = harness::sampler(&server).await;
    let start = |count: u64| {
        let handles: Vec<_> = (0..count).map(|n| sampler.sample(harness::request(&[n as i32]))).collect();
        let before = server.count("retrieve_future");
        (handles, before + count)
    };
    let (quiet, polls) = start(2);
    server.wait_for("retrieve_future", polls).await;
    drop(quiet);
    pass(5 * SECOND).await;
    assert_eq!(server.count("cancel_future"), 0, "not wanted");

    behind.set_dynamic_config(&json!({ "sample_cancel_enabled": true, "sample_cancel_max_batch_size": 2 }));
    pass(10 * SECOND).await;
    let gate = Gate::new();
    server.script("cancel_future", [Step::behave().gate(&gate)]).then_repeat_last();
    let (handles, polls) = start(5);
    server.wait_for("retrieve_future", polls).await;
    let mut wanted: Vec<_> = handles.iter().map(|handle| handle.request_id().unwrap().to_string()).collect();
    drop(handles);
    gate.arrived(1).await;
    settle().await;
    assert!(gate.waiting() <= 2, "{} at once", gate.waiting());
    gate.open();
    server.wait_for("cancel_future", 5).await;
    settle().await;
    assert!(server.max_in_flight("cancel_future") <= 2);
    let mut cancelled = behind.cancelled();
    cancelled.sort();
    wanted.sort();
    assert_eq!(cancelled, wanted);
    // What the batch limit holds back when the session is closed is sent before the session is finished.
    let (handles, polls) = start(5);
    server.wait_for("retrieve_future", polls).await;
    drop(handles);
    settle().await;
    service.close(FinishReason::Interrupted).await.unwrap();
    assert_eq!(behind.cancelled().len(), 10);
    assert_eq!(server.all_requests().last().unwrap().segments().last(), Some("finish"));
}

/// `pjwt_auth_enabled` (PROTOCOL 3.4): the key is exchanged, and everything but flags and exchange carries the token.
/// Without the flag the key itself does.
#[tokio::test(start_paused = true)]
async fn the_flag_for_the_jwt_exchange() {
    for enabled in [true, false] {
        let flags = json!({ "pjwt_auth_enabled": enabled });
        let (_behind, server, _service, sampler) = with_flags(flags).await;
        sampler.sample(harness::request(&[1])).await.unwrap();
        assert_eq!(server.count("auth/token"), u64::from(enabled));
        for request in server.all_requests() {
            let key = request.header("x-api-key").unwrap();
            let with_key = !enabled || ["client/config", "auth/token"].contains(&request.route());
            assert_eq!(key == "tml-test", with_key, "{}", request.route());
            assert_eq!(key.starts_with("eyJ"), !with_key, "{}", request.route());
        }
    }
}

/// PROTOCOL 16.6: an answer that ends the session poll fails whoever waits; samples after that are not even sent.
#[tokio::test(start_paused = true)]
async fn a_session_poll_that_has_ended() {
    let (behind, server) = steered();
    behind.set_client_config(&json!({"sample_use_retrieve_futures": true}));
    server.script("retrieve_futures", [Step::status(403).body(r#"{"detail":"not yours"}"#)]).then_behave();
    let (_service, sampler) = harness::sampler(&server).await;
    let waiting = sampler.sample(harness::request(&[1])).await.unwrap_err();
    assert_eq!((waiting.kind(), waiting.status()), (ErrorKind::Status, Some(403)), "{waiting}");
    let late = sampler.sample(harness::request(&[2])).await.unwrap_err();
    assert_eq!((late.kind(), late.status()), (ErrorKind::Status, Some(403)));
    assert!(
        late.to_string().starts_with("nothing was sent: the session poll has ended: HTTP 403: not yours"),
        "{late}"
    );
    assert_eq!((server.count("asample"), server.count("retrieve_futures")), (1, 1));
}
