//! Sessions: whose beginning and end is told, and by whom.

use std::time::{Duration, SystemTime};

use tinkex_client::{FinishReason, WallClock};
use tinkex_testkit::{FakeServer, Step};

use super::{SECOND, events, invalid, name, names, reporting, settle};
use crate::harness::{self, request};

/// The beginning of the session, by the wall clock, in UTC with microseconds.
#[tokio::test(start_paused = true)]
async fn times_come_from_the_wall_clock() {
    let server = FakeServer::new();
    let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_290_617_155_398);
    let service = harness::reporting_builder(&server).wall_clock(WallClock::fixed(at)).build().await.unwrap();
    service.close(FinishReason::Success).await.unwrap();
    let events = events(&server);
    assert_eq!(names(&events), ["SESSION_START", "SESSION_END"]);
    assert!(events.iter().all(|event| event["timestamp"] == "2026-11-21T19:50:17.155398Z"), "{events:?}");
    let batch = server.requests("telemetry")[0].json().unwrap().clone();
    assert_eq!(batch["session_id"], *service.session_id().unwrap());
}

/// Two services of one process share its id, and each counts its own events.
#[tokio::test(start_paused = true)]
async fn one_id_for_the_process() {
    let server = FakeServer::new();
    for _ in 0..2 {
        let (service, _) = reporting(&server).await;
        service.close(FinishReason::Success).await.unwrap();
    }
    let batches = server.requests("telemetry");
    let field = |n: usize, name: &str| batches[n].json().unwrap()[name].clone();
    assert_eq!(batches.len(), 2);
    assert_eq!(field(0, "process_uuid"), field(1, "process_uuid"));
    assert_ne!(field(0, "session_id"), field(1, "session_id"));
    let numbers: Vec<_> =
        events(&server).iter().map(|e| e["event_session_index"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [0, 1, 0, 1]);
    let ids: std::collections::BTreeSet<_> =
        events(&server).iter().map(|event| event["event_id"].to_string()).collect();
    assert_eq!(ids.len(), 4);
}

/// PROTOCOL 15.7: a sampler that was opened from a handle reports its failures under the session of the handle, and neither
/// its beginning nor its end, which are not its own.
#[tokio::test(start_paused = true)]
async fn a_sampler_opened_from_a_handle() {
    let server = FakeServer::new();
    let (service, sampler) = harness::sampler(&server).await;
    let opened = harness::reporting_builder(&server).open_sampler(&sampler.handle()).await.unwrap();
    opened.sample(request(&[1])).await.unwrap();
    tokio::time::sleep(SECOND * 25).await;
    assert_eq!(server.count("telemetry"), 0, "nothing failed");
    server.script("asample", [Step::status(422)]);
    opened.sample(request(&[1])).await.unwrap_err();
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    opened.close().await;
    let sent = server.count("telemetry");
    settle().await;
    assert!(tokio::runtime::Handle::current().metrics().num_alive_tasks() < tasks);
    drop(opened);
    tokio::time::sleep(SECOND * 25).await;
    assert_eq!((sent, server.count("telemetry")), (1, 1), "closing waits for what is left");
    let requests = server.requests("telemetry");
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].json().unwrap()["session_id"], *service.session_id().unwrap());
    let events = events(&server);
    assert!(events.iter().all(|event| !name(event).starts_with("SESSION_")), "{events:?}");
    assert_eq!(name(events.last().unwrap()), "user_error");
    assert_eq!(events[0]["event_session_index"], 0);
}

/// A session that does not come about is not reported, and neither is what fails for want of it.
#[tokio::test(start_paused = true)]
async fn without_a_session() {
    let server = FakeServer::new();
    server.script("create_session", [Step::status(403)]).then_behave();
    let service = harness::reporting_builder(&server).connect_lazily().build().await.unwrap();
    service.sampling_client().base_model(harness::MODEL).create().await.unwrap_err();
    service.sampling_client().base_model("").create().await.unwrap_err();
    tokio::time::sleep(SECOND * 25).await;
    assert_eq!(server.count("telemetry"), 0);
    let sampler = service.sampling_client().base_model(harness::MODEL).create().await.unwrap();
    drop(sampler.sample(invalid()));
    settle().await;
    assert_eq!(names(&events(&server)), ["SESSION_START", "user_error"]);
}
