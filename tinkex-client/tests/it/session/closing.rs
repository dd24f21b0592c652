//! The end of a session.

use std::time::Duration;

use serde_json::json;
use tinkex_client::{ErrorKind, FinishReason};
use tinkex_testkit::{FakeServer, Gate, Step};
use tokio::time::Instant;

use super::{MINUTE, pass, settle, steered};
use crate::harness::{self, MODEL};

/// PROTOCOL 10.3: the end of a session, with a detail and without; the body says null then.
#[tokio::test(start_paused = true)]
async fn closing() {
    let (behind, server) = steered();
    let reasons = [
        (FinishReason::Success, Some("training complete"), "success"),
        (FinishReason::Errored, Some("it broke"), "errored"),
        (FinishReason::Interrupted, None, "interrupted"),
    ];
    for (reason, detail, word) in reasons {
        let service = harness::service(&server).await;
        let id = service.session_id().unwrap();
        match detail {
            Some(detail) => service.close_with_detail(reason, detail).await.unwrap(),
            None => service.close(reason).await.unwrap(),
        }
        let requests = server.requests("sessions/*/finish");
        let request = requests.last().unwrap();
        assert_eq!(request.route(), format!("sessions/{id}/finish"));
        assert_eq!(*request.json().unwrap(), json!({ "reason": { "type": word }, "detail": detail }));
    }
    assert!(behind.sessions().iter().all(|session| session.finished.is_some()));
}

/// After `close` new calls fail with a kind of their own and nothing is sent any more; what is in flight goes on.
#[tokio::test(start_paused = true)]
async fn calls_after_close() {
    let server = FakeServer::new();
    let (service, sampler) = harness::sampler(&server).await;
    let gate = Gate::new();
    server.script("retrieve_future", [Step::behave().gate(&gate)]);
    let pending = sampler.sample(harness::request(&[1]));
    gate.arrived(1).await;
    service.close(FinishReason::Success).await.unwrap();

    let late = sampler.sample(harness::request(&[2])).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
    assert!(!late.is_retryable());
    let late = sampler.compute_logprobs(vec![1]).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
    let late = sampler.resume("req-00000001").await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
    let late = service.sampling_client().base_model(MODEL).create().await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
    service.clone().close(FinishReason::Errored).await.unwrap();
    assert_eq!(server.count("sessions/*/finish"), 1, "closing twice is closing once");
    assert_eq!(server.count("asample"), 1);

    gate.open();
    pending.await.unwrap();
    let before = server.all_requests().len();
    pass(10 * MINUTE).await;
    let after: Vec<_> = server.all_requests()[before..].iter().map(|r| r.route().to_owned()).collect();
    assert_eq!(after, Vec::<String>::new(), "heartbeat and refresh have ended");
}

/// Closing what was never connected sends nothing.
#[tokio::test(start_paused = true)]
async fn closing_before_connecting() {
    let server = FakeServer::new();
    let service = harness::builder(&server).connect_lazily().build().await.unwrap();
    service.close(FinishReason::Success).await.unwrap();
    let late = service.sampling_client().base_model(MODEL).create().await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
    assert_eq!(server.all_requests().len(), 0);
}

/// Closing while the client connects: the session that comes of it is finished, and what wanted it fails.
#[tokio::test(start_paused = true)]
async fn closing_while_connecting() {
    let (behind, server) = steered();
    let gate = Gate::new();
    server.script("create_session", [Step::behave().gate(&gate)]);
    let service = harness::builder(&server).connect_lazily().build().await.unwrap();
    let creating = tokio::spawn(service.sampling_client().base_model(MODEL).create());
    gate.arrived(1).await;
    let closing = tokio::spawn({
        let service = service.clone();
        async move { service.close(FinishReason::Interrupted).await }
    });
    settle().await;
    gate.open();
    let late = creating.await.unwrap().unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
    closing.await.unwrap().unwrap();
    assert!(behind.sessions()[0].finished.is_some());
    pass(MINUTE).await;
    assert_eq!((server.count("create_sampling_session"), server.count("session_heartbeat")), (0, 0));
}

/// A server that cannot be told is an error of `close`, and the client is closed all the same. Closing again tells it.
#[tokio::test(start_paused = true)]
async fn closing_that_fails() {
    let server = FakeServer::new();
    server.script("sessions/*/finish", [Step::status(403)]).then_behave();
    let service = harness::service(&server).await;
    let error = service.close(FinishReason::Success).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(403)));
    pass(MINUTE).await;
    assert_eq!(server.count("session_heartbeat"), 0);
    service.close(FinishReason::Success).await.unwrap();
    service.close(FinishReason::Success).await.unwrap();
    assert_eq!(server.count("sessions/*/finish"), 2, "once more, and then never again");
}

/// A server of the older protocol has no such endpoint: its sessions end with their heartbeat.
#[tokio::test(start_paused = true)]
async fn closing_where_there_is_no_such_endpoint() {
    for status in [404, 405] {
        let server = FakeServer::new();
        server.script("sessions/*/finish", [Step::status(status)]);
        let service = harness::service(&server).await;
        service.close(FinishReason::Success).await.unwrap();
        service.close(FinishReason::Success).await.unwrap();
        assert_eq!(server.count("sessions/*/finish"), 1);
    }
}

/// A server that never answers holds `close` for half a minute, and a `close` that was dropped can be repeated.
#[tokio::test(start_paused = true)]
async fn closing_against_silence() {
    let server = FakeServer::new();
    server.script("sessions/*/finish", [Step::hang().repeat(2)]).then_behave();
    let service = harness::service(&server).await;
    let dropped = tokio::time::timeout(Duration::from_secs(1), service.close(FinishReason::Success)).await;
    assert!(dropped.is_err());
    let begun = Instant::now();
    let error = service.close(FinishReason::Success).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(
        (Duration::from_secs(30)..Duration::from_secs(31)).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
    service.close(FinishReason::Success).await.unwrap();
}

/// Where a connection is being made to a server that is silent, `close` does not wait for all of its attempts. A session
/// that comes about later is not kept alive, and the next `close` finishes it.
#[tokio::test(start_paused = true)]
async fn closing_while_the_connection_hangs() {
    let (behind, server) = steered();
    server.script("create_session", [Step::hang()]).then_behave();
    let service = harness::builder(&server).connect_lazily().build().await.unwrap();
    let creating = service.sampling_client().base_model(MODEL).create();
    let creating = tokio::spawn(creating);
    server.wait_for("create_session", 1).await;
    let begun = Instant::now();
    let error = service.close(FinishReason::Success).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.is_retryable());
    assert!(
        (Duration::from_secs(10)..Duration::from_secs(11)).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(creating.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(server.count("create_session"), 2, "the attempt that hung was repeated");
    pass(MINUTE).await;
    assert_eq!(server.count("session_heartbeat"), 0, "a session that nobody wants is not kept alive");
    service.close(FinishReason::Success).await.unwrap();
    assert!(behind.sessions().iter().all(|session| session.finished.is_some()));
}

/// PROTOCOL 10.3, 16.6: closing the service closes its samplers, which acknowledge what they have fetched; a sampler
/// closed on its own refuses new samples without sending them.
#[tokio::test(start_paused = true)]
async fn closing_reaches_the_samplers() {
    let (behind, server) = steered();
    behind.set_client_config(&serde_json::json!({"sample_use_retrieve_futures": true}));
    let (service, sampler) = harness::sampler(&server).await;
    sampler.sample(harness::request(&[1])).await.unwrap();
    let other = service.sampling_client().base_model(MODEL).create().await.unwrap();
    other.close().await;
    let sent = server.count("asample");
    let error = other.sample(harness::request(&[1])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert_eq!(server.count("asample"), sent);
    service.close(FinishReason::Success).await.unwrap();
    let last = server.requests("retrieve_futures").pop().unwrap();
    let told = server.requests("retrieve_futures").iter().any(|request| {
        request.json().is_some_and(|body| body["retrieved_request_ids"] != serde_json::json!([]))
    });
    assert!(told, "the fetched result was acknowledged, at the latest by {:?}", last.json());
}

/// What a client prints of itself holds no header value and no metadata: both may be secrets.
#[tokio::test(start_paused = true)]
async fn debug_shows_no_secrets() {
    let server = FakeServer::new();
    let builder =
        harness::builder(&server).header("authorization", "Bearer s3cret").user_metadata("note", "s3cret");
    let shown = format!("{builder:?}");
    let service = builder.build().await.unwrap();
    let creating = service.sampling_client().base_model(MODEL);
    let shown = format!("{shown} {service:?} {creating:?}");
    let sampler = creating.create().await.unwrap();
    let handle = sampler.sample(harness::request(&[1]));
    let shown = format!("{shown} {sampler:?} {handle:?} {:?} {:?}", sampler.handle(), service.rest_client());
    handle.await.unwrap();
    assert!(!shown.contains("s3cret") && !shown.contains("tml-test"), "{shown}");
}
