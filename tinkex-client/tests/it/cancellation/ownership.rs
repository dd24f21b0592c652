//! Who keeps what alive.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tinkex_client::{ErrorKind, QueueState};
use tinkex_testkit::{Gate, Step};

use super::{all_well, assert_nothing_leaks, cancelled, connected, fan_out, settle};
use crate::harness::request;

/// Dropping the service and the sampler leaves samples in flight alone; with the last handle everything ends: no
/// heartbeat, no task.
#[tokio::test(start_paused = true)]
async fn handles_outlive_their_clients() {
    let tasks = tokio::runtime::Handle::current().metrics();
    let before = tasks.num_alive_tasks();
    let (service, server, client, sampler) = connected(true, json!({})).await;
    service.pause(QueueState::PausedCapacity, None, Some(Duration::from_secs(25)));
    let mut handles = fan_out(&sampler, 20);
    server.wait_for_in_flight("retrieve_future", 20).await;
    let left = handles.split_off(10);
    drop((client, sampler));
    all_well(handles).await;
    let session = service.sessions().remove(0);
    assert_eq!(session.heartbeats, 2, "the session lives as long as a sample needs it");
    all_well(left).await;
    settle().await;
    assert_eq!(tasks.num_alive_tasks(), before);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(service.heartbeats(&session.id), 2);

    // And so it is where everything goes at once.
    let (_, server, client, sampler) = connected(false, json!({})).await;
    let gate = Gate::new();
    server.script("asample", [Step::behave().gate(&gate)]).then_repeat_last();
    let handles = fan_out(&sampler, 20);
    gate.arrived(20).await;
    drop((handles, client, sampler));
    gate.open();
    settle().await;
    assert_eq!(tasks.num_alive_tasks(), before);
}

/// Cancellations of samples that go together with their last client are sent all the same, and then nothing is left.
#[tokio::test(start_paused = true)]
async fn cancellations_outlive_the_last_client() {
    let tasks = tokio::runtime::Handle::current().metrics();
    let before = tasks.num_alive_tasks();
    let (service, server, client, sampler) = connected(true, json!({})).await;
    service.pause(QueueState::PausedCapacity, None, None);
    let handles = fan_out(&sampler, 20);
    server.wait_for_in_flight("retrieve_future", 20).await;
    server.script("cancel_future", [Step::behave().delay(Duration::from_millis(100))]).then_repeat_last();
    drop((handles, client, sampler));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(cancelled(&service).len(), 20);
    assert_eq!(tasks.num_alive_tasks(), before);
}

/// A closed service refuses new samples, sends the cancellations it still has, and finishes the session.
#[tokio::test(start_paused = true)]
async fn closing_sends_what_is_queued() {
    let (service, server, client, sampler) = connected(true, json!({})).await;
    service.pause(QueueState::PausedCapacity, None, None);
    let handles = fan_out(&sampler, 30);
    server.wait_for_in_flight("retrieve_future", 30).await;
    server.script("cancel_future", [Step::behave().delay(Duration::from_millis(100))]).then_repeat_last();
    drop(handles);
    settle().await;
    client.close(tinkex_client::FinishReason::Interrupted).await.unwrap();
    assert_eq!(cancelled(&service).len(), 30);
    assert!(service.sessions()[0].finished.is_some());
    server.assert_order(&["sessions/*/finish"]);
    let error = sampler.sample(request(&[1])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

/// Handles may be sent to other threads and dropped there.
#[tokio::test(start_paused = true)]
async fn handles_may_be_dropped_on_any_thread() {
    let (service, server, client, sampler) = connected(true, json!({})).await;
    service.pause(QueueState::PausedCapacity, None, None);
    let handles = fan_out(&sampler, 8);
    server.wait_for_in_flight("retrieve_future", 8).await;
    let service = Arc::new(service);
    std::thread::scope(|scope| {
        for handle in handles {
            scope.spawn(move || drop(handle));
        }
    });
    settle().await;
    assert_eq!(cancelled(&service).len(), 8);
    assert_nothing_leaks(&client).await;
}
