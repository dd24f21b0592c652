//! The ways to abandon a sample, and what is sent for it.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tinkex_client::QueueState;
use tinkex_testkit::Step;
use tinkex_testkit::service::Service;
use tokio::time::Instant;

use super::{assert_nothing_leaks, cancelled, connected, drop_half, fan_out, settle};
use crate::harness::{self, assert_within, request};

/// `tokio::time::timeout`, a lost `select!` and the abort of a task that owns handles are all drops.
#[tokio::test(start_paused = true)]
async fn every_way_to_drop_a_handle_cancels() {
    let (service, server, client, sampler) = connected(true, json!({})).await;
    service.pause(QueueState::PausedCapacity, None, None);

    let start = Instant::now();
    let timed_out = tokio::time::timeout(Duration::from_secs(3), sampler.sample(request(&[1]))).await;
    assert!(timed_out.is_err());
    assert_within(start.elapsed().as_secs_f64(), 3.0..=3.0, "the timeout");
    settle().await;
    assert_eq!(service.cancelled(), ["req-00000001"]);

    tokio::select! {
        result = sampler.sample(request(&[2])) => panic!("a paused sample came back: {result:?}"),
        () = tokio::time::sleep(Duration::from_secs(1)) => {}
    }
    settle().await;
    assert_eq!(service.cancelled(), ["req-00000001", "req-00000002"]);

    let handles = fan_out(&sampler, 10);
    let owner = tokio::spawn(join_all(handles));
    server.wait_for_in_flight("retrieve_future", 10).await;
    owner.abort();
    assert!(owner.await.unwrap_err().is_cancelled());
    settle().await;
    assert_eq!(cancelled(&service).len(), 12);
    assert_eq!(service.in_progress(), 0);
    assert_nothing_leaks(&client).await;
}

/// A handle that gave its result is dropped without a trace.
#[tokio::test(start_paused = true)]
async fn a_finished_sample_is_not_cancelled() {
    let (service, server, client, sampler) = connected(true, json!({})).await;
    let mut handles = fan_out(&sampler, 5);
    for handle in &mut handles {
        handle.await.unwrap();
    }
    let unread = sampler.sample(request(&[1]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(handles);
    drop(unread);
    settle().await;
    assert!(service.cancelled().is_empty());
    assert_eq!(server.count("cancel_future"), 0);
    assert_nothing_leaks(&client).await;
}

/// PROTOCOL 15.8: cancellations go out a batch at a time, side by side, as many as the server says.
#[tokio::test(start_paused = true)]
async fn cancellations_go_out_in_batches() {
    for batch in [1, 8, 64] {
        let service = Service::default();
        let flags = json!({"sample_cancel_enabled": true, "sample_cancel_max_batch_size": batch});
        service.set_dynamic_config(&flags);
        let (server, client, sampler) = harness::in_front_of(&service).await;
        service.pause(QueueState::PausedCapacity, None, None);
        let handles = fan_out(&sampler, 100);
        server.wait_for_in_flight("retrieve_future", 100).await;
        server.script("cancel_future", [Step::behave().delay(Duration::from_secs(1))]).then_repeat_last();
        let start = Instant::now();
        drop(handles);
        server.wait_for("cancel_future", 100).await;
        server.wait_for_in_flight("cancel_future", 0).await;
        assert_eq!(cancelled(&service).len(), 100);
        assert_eq!(server.max_in_flight("cancel_future"), batch);
        let rounds = 100_usize.div_ceil(batch) as f64;
        assert_within(start.elapsed().as_secs_f64(), rounds..=rounds + 1.0, "one batch after the other");
        assert_nothing_leaks(&client).await;
    }
}

/// PROTOCOL 15.8: a cancellation that fails is repeated within reason and then dropped; samples do not notice.
#[tokio::test(start_paused = true)]
async fn failing_cancellations_hurt_nobody() {
    let (service, server, client, sampler) = connected(true, json!({})).await;
    service.pause_next(QueueState::PausedCapacity, None, Duration::from_secs(60));
    server.script("cancel_future", [Step::status(404), Step::status(503)]).then_behave();
    let handle = sampler.sample(request(&[1]));
    server.wait_for("retrieve_future", 1).await;
    drop(handle);
    settle().await;
    assert_eq!(server.count("cancel_future"), 1, "404 is final");
    service.pause_next(QueueState::PausedCapacity, None, Duration::from_secs(60));
    let handle = sampler.sample(request(&[1]));
    server.wait_for_in_flight("retrieve_future", 1).await;
    drop(handle);
    sampler.sample(request(&[2])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(server.count("cancel_future"), 3, "503 is repeated");
    assert_eq!(service.cancelled().len(), 1);
    assert_nothing_leaks(&client).await;
}

/// The flag is read when a sample is abandoned, and fetched anew while the session lives.
#[tokio::test(start_paused = true)]
async fn the_flag_is_read_at_the_time_of_use() {
    let service = Service::default();
    service.set_dynamic_config(&json!({"sample_cancel_enabled": false, "refresh_interval_sec": 30}));
    let (server, _client, sampler) = harness::in_front_of(&service).await;
    service.pause(QueueState::PausedCapacity, None, None);
    let handles = fan_out(&sampler, 4);
    server.wait_for_in_flight("retrieve_future", 4).await;
    let kept = drop_half(handles);
    settle().await;
    assert!(service.cancelled().is_empty());
    service.set_dynamic_config(&json!({"sample_cancel_enabled": true, "refresh_interval_sec": 30}));
    tokio::time::sleep(Duration::from_secs(31)).await;
    drop(kept);
    settle().await;
    assert_eq!(service.cancelled().len(), 2);
}
