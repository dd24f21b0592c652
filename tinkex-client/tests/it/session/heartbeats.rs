//! Heartbeats: when they come, what their failure means, and when they end.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tinkex_testkit::{FakeServer, Step};
use tokio::time::Instant;
use tracing::Level;

use super::{MINUTE, SECOND, arrivals, pass, settle, steered};
use crate::harness;
use crate::log_capture::LogCapture;

/// PROTOCOL 10.2: a heartbeat every 10 s, the first after 10 s.
#[tokio::test(start_paused = true)]
async fn heartbeats() {
    let (behind, server) = steered();
    let service = harness::service(&server).await;
    let connected = Instant::now();
    pass(35 * SECOND).await;
    let came = arrivals(&server, "session_heartbeat", connected);
    assert_eq!(came.len(), 3);
    for (n, at) in came.iter().enumerate() {
        let due = (n as u32 + 1) * 10 * SECOND;
        assert!(*at >= due && *at < due + Duration::from_millis(100), "heartbeat {n} came at {at:?}");
    }
    let id = service.session_id().unwrap();
    assert_eq!(behind.heartbeats(&id), 3);
    let body = server.requests("session_heartbeat")[0].json().unwrap().clone();
    assert_eq!(body, json!({ "session_id": *id, "type": "session_heartbeat" }));
}

/// PROTOCOL 10.2: 410 ends the heartbeat for good, quietly.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_over() {
    let (log, _guard) = LogCapture::start();
    let server = FakeServer::new();
    server.script("session_heartbeat", [Step::behave(), Step::status(410)]);
    let service = harness::service(&server).await;
    pass(10 * MINUTE).await;
    assert_eq!(server.count("session_heartbeat"), 2);
    let told: Vec<_> = log.lines().into_iter().filter(|line| line.level == Level::INFO).collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].fields["session_id"], *service.session_id().unwrap());
    assert!(log.messages(Level::WARN).is_empty());
}

/// SE-1: after 120 s without a success every failing heartbeat is a warning, until one succeeds.
#[tokio::test(start_paused = true)]
async fn failing_heartbeats() {
    let (log, _guard) = LogCapture::start();
    let server = FakeServer::new();
    let failing = Step::status(500);
    server
        .script("session_heartbeat", [Step::behave(), failing.clone().repeat(15), Step::behave(), failing])
        .then_repeat_last();
    let _service = harness::service(&server).await;
    let connected = Instant::now();
    // The last success is at 10 s; at 130 s exactly 120 s have passed, which is not yet too long.
    pass(135 * SECOND).await;
    assert_eq!(log.messages(Level::WARN), Vec::<String>::new());
    pass(30 * SECOND).await;
    let silences = |log: &LogCapture| -> Vec<String> {
        let warnings = log.messages(Level::WARN).into_iter();
        warnings.map(|text| text.split_once(" s;").unwrap().0.to_owned()).collect()
    };
    let expected = [130, 140, 150].map(|s| format!("no successful heartbeat for {s}"));
    assert_eq!(silences(&log), expected);
    // One attempt each time: failures are not repeated in between.
    assert_eq!(arrivals(&server, "session_heartbeat", connected).len(), 16);
    // The success at 170 s begins the count anew.
    pass(125 * SECOND).await;
    assert_eq!(silences(&log), expected);
    pass(15 * SECOND).await;
    assert_eq!(silences(&log)[3..], ["no successful heartbeat for 130"]);
}

/// SE-1, F-17: a heartbeat that hangs is given up after 10 s, and does not delay those of another session.
#[tokio::test(start_paused = true)]
async fn hanging_heartbeats() {
    let server = FakeServer::new();
    let a = harness::service(&server).await;
    let b = harness::service(&server).await;
    let connected = Instant::now();
    let id = a.session_id().unwrap();
    server
        .script_when(
            "session_heartbeat",
            {
                let id = id.clone();
                move |request| request.text("session_id") == Some(&id)
            },
            [Step::hang()],
        )
        .then_repeat_last();
    pass(65 * SECOND).await;
    let of = |session: &Arc<str>| -> Vec<u64> {
        let all = server.requests("session_heartbeat");
        let own = all.iter().filter(|request| request.text("session_id") == Some(session));
        own.map(|request| (request.at - connected).as_secs()).collect()
    };
    assert_eq!(of(&b.session_id().unwrap()), [10, 20, 30, 40, 50, 60]);
    assert_eq!(of(&id), [10, 30, 50], "10 s of pause and 10 s of waiting");
}

/// F-18: tasks end with their last owner, and not before: a pending sample keeps the session alive.
#[tokio::test(start_paused = true)]
async fn tasks_end_with_the_last_client() {
    let (behind, server) = steered();
    behind.set_dynamic_config(&json!({ "refresh_interval_sec": 15 }));
    behind.set_latency(10 * MINUTE);
    let (service, sampler) = harness::sampler(&server).await;
    let clone = sampler.clone();
    let pending = sampler.sample(harness::request(&[1]));
    drop((service, sampler));
    pass(MINUTE).await;
    assert_eq!(server.count("session_heartbeat"), 5, "at 10, 20, 30, 40, 50 s");
    drop(clone);
    pass(MINUTE).await;
    assert!(server.count("session_heartbeat") >= 10, "the sample still wants its result");
    assert!(server.count("client/dynamic_config") >= 5);

    drop(pending);
    settle().await;
    let before = server.all_requests().len();
    pass(10 * MINUTE).await;
    assert_eq!(server.all_requests().len(), before, "{}", server.summary());
    assert_eq!(server.in_flight("**"), 0);
}
