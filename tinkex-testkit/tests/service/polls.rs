//! Long polls, in virtual time: `retrieve_future` and `retrieve_futures`.

use std::time::Duration;

use serde_json::{Value, json};
use tinkex_testkit::service::{Dialect, PendingStyle, ServiceOptions};
use tinkex_types::{ErrorCategory, QueueState};
use tokio::time::Instant;

use crate::caller::{Caller, refusal, text};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Exactly as long as expected: the timers of virtual time are exact to a millisecond.
fn assert_took(start: Instant, expected: Duration) {
    let took = start.elapsed();
    assert!(took >= expected && took < expected + ms(2), "took {took:?} instead of {expected:?}");
}

async fn with_latency(latency: Duration) -> Caller {
    Caller::with_options(ServiceOptions { latency, ..ServiceOptions::default() }).await
}

fn ids(reply: &Value) -> Vec<String> {
    let completions = reply["completions"].as_array().unwrap();
    completions.iter().map(|c| c["request_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_poll_is_held_until_the_result_is_ready_and_a_second_one_is_answered_at_once() {
    let caller = with_latency(ms(700)).await;
    let start = Instant::now();
    let id = caller.submit(0, json!({})).await;
    assert_eq!(caller.retrieve(&id).await.status, 200);
    assert_took(start, ms(700));
    let again = Instant::now();
    assert_eq!(caller.retrieve(&id).await.status, 200, "an answer may have been lost");
    assert_took(again, ms(0));
}

/// PROTOCOL 22: held about 30 s, less than the client's 45 s.
#[tokio::test(start_paused = true)]
async fn a_poll_of_a_slow_promise_ends_pending_after_the_hold_time() {
    let caller = with_latency(Duration::from_secs(70)).await;
    let id = caller.submit(0, json!({})).await;
    for _ in 0..2 {
        let start = Instant::now();
        let reply = caller.retrieve(&id).await;
        assert_took(start, Duration::from_secs(30));
        assert_eq!(reply.status, 408);
        let body = reply.to_json().unwrap();
        assert_eq!(body, json!({ "type": "try_again", "request_id": id, "queue_state": "active" }));
    }
    let start = Instant::now();
    assert_eq!(caller.retrieve(&id).await.status, 200);
    assert_took(start, Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn many_polls_of_many_promises_are_answered_together() {
    let caller = with_latency(ms(200)).await;
    let start = Instant::now();
    let mut polls = Vec::new();
    for seq in 0..50 {
        let id = caller.submit(seq, json!({})).await;
        polls.push(async {
            let id = id;
            caller.retrieve(&id).await.status
        });
    }
    assert_eq!((caller.service.in_progress(), caller.service.most_in_progress()), (50, 50));
    let statuses = futures_util::future::join_all(polls).await;
    assert!(statuses.iter().all(|status| *status == 200));
    assert_took(start, ms(200));
    assert_eq!(caller.service.in_progress(), 0);
}

/// S2-24, QS-1: a pause is told at once, then held, and ends by itself.
#[tokio::test(start_paused = true)]
async fn a_pause_is_told_at_once_then_held_and_ends_by_itself() {
    let caller = with_latency(ms(100)).await;
    let start = Instant::now();
    caller.service.pause(QueueState::PausedCapacity, Some("warming up"), Some(Duration::from_secs(2)));
    let id = caller.submit(0, json!({})).await;
    let told = caller.retrieve(&id).await;
    assert_took(start, ms(0));
    let body = told.to_json().unwrap();
    assert_eq!(
        (told.status.as_u16(), &body["queue_state"], &body["queue_state_reason"]),
        (408, &json!("paused_capacity"), &json!("warming up"))
    );
    assert_eq!(caller.service.queue_state(), QueueState::PausedCapacity);
    assert_eq!(caller.retrieve(&id).await.status, 200, "held through the rest of the pause and the work");
    assert_took(start, ms(2100));
    assert_eq!(caller.service.queue_state(), QueueState::Active);
}

#[tokio::test(start_paused = true)]
async fn a_pause_reaches_polls_that_are_held_and_keeps_the_work_that_was_left() {
    let caller = with_latency(ms(1000)).await;
    let start = Instant::now();
    let id = caller.submit(0, json!({})).await;
    let service = caller.service.clone();
    let pausing = async move {
        tokio::time::sleep(ms(400)).await;
        service.pause(QueueState::PausedRateLimit, None, None);
    };
    let (told, ()) = tokio::join!(caller.retrieve(&id), pausing);
    assert_took(start, ms(400));
    assert_eq!(told.to_json().unwrap()["queue_state"], "paused_rate_limit");
    let service = caller.service.clone();
    let resuming = async move {
        tokio::time::sleep(ms(5000)).await;
        service.resume();
    };
    let (result, ()) = tokio::join!(caller.retrieve(&id), resuming);
    assert_eq!(result.status, 200);
    assert_took(start, ms(400 + 5000 + 600));
}

#[tokio::test(start_paused = true)]
async fn another_pause_is_news_the_same_one_is_not() {
    let caller = with_latency(ms(100)).await;
    caller.service.pause(QueueState::PausedCapacity, None, None);
    let id = caller.submit(0, json!({})).await;
    let state = async || caller.retrieve(&id).await.to_json().unwrap()["queue_state"].clone();
    let start = Instant::now();
    assert_eq!(state().await, "paused_capacity");
    assert_took(start, ms(0));
    assert_eq!(state().await, "paused_capacity");
    assert_took(start, Duration::from_secs(30));
    caller.service.pause(QueueState::PausedRateLimit, None, None);
    assert_eq!(state().await, "paused_rate_limit");
    caller.service.pause(QueueState::PausedRateLimit, Some("busy"), None);
    assert_eq!(state().await, "paused_rate_limit");
    assert_took(start, Duration::from_secs(30));
    assert_eq!(caller.service.in_progress(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_sample_alone_can_be_paused() {
    let caller = with_latency(ms(100)).await;
    caller.service.pause_next(QueueState::PausedRateLimit, Some("slow down"), ms(900));
    let (paused, free) = (caller.submit(0, json!({})).await, caller.submit(1, json!({})).await);
    let start = Instant::now();
    let told = caller.retrieve(&paused).await.to_json().unwrap();
    assert_eq!(
        (told["queue_state"].clone(), told["queue_state_reason"].clone()),
        (json!("paused_rate_limit"), json!("slow down"))
    );
    assert_eq!(caller.retrieve(&free).await.status, 200);
    assert_took(start, ms(100));
    assert_eq!(caller.retrieve(&paused).await.status, 200);
    assert_took(start, ms(1000));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_hold_answers_at_once() {
    let dialect = Dialect { pending: PendingStyle::TryAgain, ..Dialect::production() };
    let options = ServiceOptions { latency: ms(500), hold: Some(ms(0)), ..ServiceOptions::of(dialect) };
    let caller = Caller::with_options(options).await;
    let id = caller.submit(0, json!({})).await;
    let start = Instant::now();
    let reply = caller.retrieve(&id).await;
    assert_eq!((reply.status.as_u16(), text(&reply, "type").as_str()), (200, "try_again"));
    assert_took(start, ms(0));
}

#[tokio::test(start_paused = true)]
async fn unknown_and_forgotten_promises_are_told_apart() {
    let options = ServiceOptions { keep_promises: 3, keep_retrieved: 1, ..ServiceOptions::default() };
    let caller = Caller::with_options(options).await;
    for unknown in ["nonsense", "req-00000099", "req-99"] {
        assert_eq!(refusal(&caller.retrieve(unknown).await).0, 404, "{unknown}");
    }
    let mut ids = Vec::new();
    for seq in 0..4 {
        ids.push(caller.submit(seq, json!({})).await);
    }
    assert_eq!(caller.service.promises(), 3);
    assert_eq!(refusal(&caller.retrieve(&ids[0]).await).0, 410, "the oldest was lost");
    for id in &ids[1..] {
        assert_eq!(caller.retrieve(id).await.status, 200);
    }
    assert_eq!(caller.service.promises(), 1, "retrieved results are forgotten but for the last");
    assert_eq!(caller.retrieve(&ids[3]).await.status, 200);
    assert_eq!(refusal(&caller.retrieve(&ids[1]).await).0, 410);
}

/// PROTOCOL 16.6: the poll waits for the first completion, and tells all that are there.
#[tokio::test(start_paused = true)]
async fn retrieve_futures_waits_for_completions_and_repeats_them_until_acknowledged() {
    let caller = with_latency(ms(300)).await;
    let start = Instant::now();
    let (a, b) = (caller.submit(0, json!({})).await, caller.submit(1, json!({})).await);
    let first = caller.poll(0, json!({})).await.to_json().unwrap();
    assert_took(start, ms(300));
    assert_eq!((ids(&first), &first["cursor"]), (vec![a.clone(), b.clone()], &json!(2)));
    let size = first["completions"][0]["response_payload_uncompressed_size"].as_u64().unwrap();
    let payload = caller.retrieve_with(&a, json!({}), "application/x-protobuf").await;
    assert_eq!(size, payload.body.len() as u64);
    let repeated = caller.poll(0, json!({})).await.to_json().unwrap();
    assert_eq!(repeated, first, "not acknowledged, so told again, at once");
    let half = caller.poll(1, json!({})).await.to_json().unwrap();
    assert_eq!((ids(&half), &half["cursor"]), (vec![b.clone()], &json!(2)));
    assert_took(start, ms(300));
    let acknowledged = caller.poll(2, json!({ "timeout": 0.0 })).await.to_json().unwrap();
    assert_eq!(acknowledged, json!({ "completions": [], "cursor": 2 }));
    assert_took(start, ms(300));
    let late = caller.poll(0, json!({ "timeout": 0.0 })).await.to_json().unwrap();
    assert_eq!(late["completions"], json!([]), "what was acknowledged does not come back");
}

#[tokio::test(start_paused = true)]
async fn retrieve_futures_is_held_for_the_hold_time_or_the_time_out() {
    let caller = with_latency(ms(300)).await;
    let empty = json!({ "completions": [], "cursor": 0 });
    let start = Instant::now();
    assert_eq!(caller.poll(0, json!({})).await.to_json(), Some(empty.clone()));
    assert_took(start, Duration::from_secs(30));
    let start = Instant::now();
    assert_eq!(caller.poll(0, json!({ "timeout": 2.5 })).await.to_json(), Some(empty));
    assert_took(start, ms(2500));
    assert_eq!(caller.poll(5, json!({ "timeout": 0.0 })).await.to_json().unwrap()["cursor"], 5);
}

#[tokio::test(start_paused = true)]
async fn retrieve_futures_wakes_for_samples_submitted_while_it_is_held() {
    let caller = with_latency(ms(300)).await;
    let start = Instant::now();
    let submitting = async {
        tokio::time::sleep(ms(1000)).await;
        caller.submit(0, json!({})).await
    };
    let (reply, id) = tokio::join!(caller.poll(0, json!({})), submitting);
    assert_eq!(ids(&reply.to_json().unwrap()), [id]);
    assert_took(start, ms(1300));
}

#[tokio::test(start_paused = true)]
async fn retrieve_futures_sees_pauses_and_their_end() {
    let caller = with_latency(ms(300)).await;
    caller.service.pause(QueueState::PausedCapacity, None, Some(ms(4000)));
    let start = Instant::now();
    let id = caller.submit(0, json!({})).await;
    assert_eq!(ids(&caller.poll(0, json!({})).await.to_json().unwrap()), [id]);
    assert_took(start, ms(4300));
}

/// PROTOCOL 16.6: each clone has a poller of its own.
#[tokio::test(start_paused = true)]
async fn retrieve_futures_tells_each_clone_its_own() {
    let caller = with_latency(ms(300)).await;
    let (own, cloned) = (caller.submit(0, json!({})).await, caller.submit(3_000_000_000, json!({})).await);
    assert_eq!(ids(&caller.poll(0, json!({})).await.to_json().unwrap()), [own]);
    let clone = json!({ "target": { "cloned_sampler_id": 3 } });
    assert_eq!(ids(&caller.poll(0, clone).await.to_json().unwrap()), [cloned]);
    let unknown = json!({ "target": { "sampling_session_id": "none" } });
    assert_eq!(refusal(&caller.poll(0, unknown).await).0, 404);
    assert_eq!(refusal(&caller.poll(0, json!({ "target": { "type": "model" } })).await).0, 400);
}

#[tokio::test(start_paused = true)]
async fn retrieve_futures_tells_failures_and_forgets_what_was_retrieved_or_cancelled() {
    let caller = with_latency(ms(300)).await;
    caller.service.fail_next(ErrorCategory::User, "bad");
    caller.service.expire_next();
    let failed = caller.submit(0, json!({})).await;
    let lost = caller.submit(1, json!({})).await;
    let good = caller.submit(2, json!({})).await;
    let cancelled = caller.submit(3, json!({})).await;
    assert_eq!(caller.post("cancel_future", json!({ "request_id": cancelled })).await.status, 200);
    let reply = caller.poll(0, json!({})).await.to_json().unwrap();
    let states: Vec<&str> =
        reply["completions"].as_array().unwrap().iter().map(|c| c["state"].as_str().unwrap()).collect();
    assert_eq!(
        (ids(&reply), states),
        (vec![failed.clone(), lost, good.clone()], vec!["failed", "failed", "finished"])
    );
    assert_eq!(caller.retrieve(&failed).await.to_json(), Some(json!({ "error": "bad", "category": "user" })));
    assert_eq!(caller.retrieve(&good).await.status, 200);
    let done = json!({ "timeout": 0.0, "retrieved_request_ids": [failed, good] });
    let reply = caller.poll(3, done).await.to_json().unwrap();
    assert_eq!(reply, json!({ "completions": [], "cursor": 3 }));
    assert_eq!(refusal(&caller.retrieve(&good).await).0, 410, "retrieved and forgotten");
}

/// Memory stays bounded over many samples, whether they are fetched or abandoned, and sequence numbers of forgotten
/// samples leave nothing behind.
#[tokio::test(start_paused = true)]
async fn many_samples_leave_a_bounded_memory() {
    let options = ServiceOptions {
        keep_promises: 200,
        keep_retrieved: 50,
        keep_records: 300,
        ..ServiceOptions::default()
    };
    let caller = Caller::with_options(options).await;
    let tiny = json!({ "sampling_params": { "max_tokens": 1 } });
    for seq in 0..1000 {
        let id = caller.submit(seq, tiny.clone()).await;
        if seq % 2 == 0 {
            assert_eq!(caller.retrieve(&id).await.status, 200);
        }
        assert!(caller.service.promises() <= 200);
    }
    assert_eq!(caller.service.samples_accepted(), 1000);
    assert_eq!(caller.service.seq_ids(&caller.sampler).len(), 300);
    assert_eq!(caller.service.in_progress(), 1, "the last one was abandoned");
    tokio::time::sleep(ms(10)).await;
    assert_eq!(caller.service.in_progress(), 0);
    let told = caller.poll(0, json!({ "timeout": 0.0 })).await.to_json().unwrap();
    assert!(ids(&told).len() <= 200);
}
