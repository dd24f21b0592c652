//! When events are sent, how many at a time, and what becomes of those that are not accepted.

use futures_util::future::join_all;
use metrics_util::debugging::DebuggingRecorder;
use serde_json::json;
use tinkex_client::FinishReason;
use tinkex_testkit::{FakeServer, Step};
use tokio::time::Instant;
use tracing::Level;

use super::{SECOND, batches, counted, counts, events, invalid, name, names, reporting, settle};
use crate::harness::{arrivals, assert_within, request};
use crate::log_capture::LogCapture;

/// What is not urgent waits for the next flush, which comes every 10 s; nothing is sent where there is nothing.
#[tokio::test(start_paused = true)]
async fn a_flush_every_ten_seconds() {
    let server = FakeServer::new();
    let start = Instant::now();
    let (_service, sampler) = reporting(&server).await;
    tokio::time::sleep_until(start + SECOND * 35).await;
    let at = arrivals(&server, "telemetry", start);
    assert_eq!(at.len(), 1, "{at:?}");
    assert_within(at[0], 10.0..=10.0, "the first flush");
    assert_eq!(names(&events(&server)), ["SESSION_START"]);

    server.script("retrieve_future", [Step::status(500)]).then_behave();
    sampler.sample(request(&[1])).await.unwrap();
    tokio::time::sleep_until(start + SECOND * 60).await;
    let at = arrivals(&server, "telemetry", start);
    assert_eq!(at.len(), 2, "{at:?}");
    assert_within(at[1], 40.0..=40.0, "a later flush");
    assert_eq!(names(&batches(&server)[1]), ["APIFuture.result_async.api_status_error"]);
}

/// A batch has 100 events at most, and a flush sends all that there are, in order and numbered without gaps.
#[tokio::test(start_paused = true)]
async fn a_hundred_events_in_a_batch() {
    let recorder = DebuggingRecorder::new();
    let _metrics = metrics::set_default_local_recorder(&recorder);
    let server = FakeServer::new();
    let start = Instant::now();
    let (_service, sampler) = reporting(&server).await;
    server.script("retrieve_future", [Step::status(503).repeat(250)]).then_behave();
    let samples = join_all((0..250).map(|n| sampler.sample(request(&[n])))).await;
    assert!(samples.iter().all(Result::is_ok));
    assert!(start.elapsed() < SECOND * 10);
    assert_eq!(server.count("telemetry"), 0);
    tokio::time::sleep_until(start + SECOND * 11).await;
    assert_eq!(batches(&server).iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 51]);
    let numbers: Vec<_> =
        events(&server).iter().map(|e| e["event_session_index"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..251).collect::<Vec<_>>());
    assert_eq!(counted(&recorder), counts(&[("sent", 251)]));
}

/// An error that leaves an operation is reported at once, with what was queued before it: the user's errors and others.
#[tokio::test(start_paused = true)]
async fn at_once_after_an_exception() {
    for (category, last) in [("user", "user_error"), ("server", "UNHANDLED_EXCEPTION")] {
        let server = FakeServer::new();
        let (_service, sampler) = reporting(&server).await;
        tokio::time::sleep(SECOND * 3).await;
        let failure = json!({ "error": "bad", "category": category });
        server.script("retrieve_future", [Step::json(failure)]);
        let failed = Instant::now();
        sampler.sample(request(&[1])).await.unwrap_err();
        settle().await;
        let at = arrivals(&server, "telemetry", failed);
        assert_eq!(at.len(), 1, "{category}: {at:?}");
        assert_within(at[0], 0.0..=0.0, category);
        let expected = [
            "SESSION_START",
            "APIFuture.result_async.application_error",
            "RetryHandler.execute.exception",
            last,
        ];
        assert_eq!(names(&events(&server)), expected);
    }
}

/// 10,000 events wait; what comes then is dropped, counted, and told in one line a minute. Its numbers are used up.
#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded() {
    let recorder = DebuggingRecorder::new();
    let _metrics = metrics::set_default_local_recorder(&recorder);
    let (log, _guard) = LogCapture::start();
    let server = FakeServer::new();
    let (_service, sampler) = reporting(&server).await;
    let fill = |events: usize| (0..events).for_each(|_| drop(sampler.sample(invalid())));
    // No other task runs meanwhile, so nothing is sent. One event, the start of the session, is queued already.
    fill(9_999);
    assert_eq!(log.warnings("telemetry").len(), 0);
    fill(101);
    assert_eq!(counted(&recorder), counts(&[("dropped", 101)]));
    let lines = log.warnings("telemetry");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].message, "10000 telemetry events wait to be sent already; dropped 1 more");

    settle().await;
    assert_eq!(batches(&server).iter().map(Vec::len).collect::<Vec<_>>(), [100; 100]);
    assert_eq!(counted(&recorder), counts(&[("sent", 10_000)]));
    drop(sampler.sample(invalid()));
    settle().await;
    assert_eq!(events(&server).last().unwrap()["event_session_index"], 10_101);

    tokio::time::sleep(SECOND * 61).await;
    fill(10_005);
    let lines = log.warnings("telemetry");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[1].message, "10000 telemetry events wait to be sent already; dropped 101 more");
}

/// A batch that the server does not accept is lost and counted, with one warning a minute. Later ones are sent.
#[tokio::test(start_paused = true)]
async fn a_batch_that_is_not_accepted() {
    for refusal in
        [Step::status(403), Step::status(402), Step::json(json!({ "status": "ok" })), Step::json(json!([]))]
    {
        let recorder = DebuggingRecorder::new();
        let _metrics = metrics::set_default_local_recorder(&recorder);
        let (log, _guard) = LogCapture::start();
        let server = FakeServer::new();
        server.script("telemetry", [refusal.repeat(2)]).then_behave();
        let (_service, sampler) = reporting(&server).await;
        for _ in 0..3 {
            drop(sampler.sample(invalid()));
            settle().await;
        }
        assert_eq!(server.count("telemetry"), 3);
        assert_eq!(counted(&recorder), counts(&[("failed", 3), ("sent", 1)]));
        let lines = log.messages(Level::WARN);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("dropped 2 telemetry events: "), "{lines:?}");
        assert_eq!(log.messages(Level::ERROR), [""; 0]);
    }
}

/// A batch that cannot be sent is repeated, under one identity, for a minute at most; then the next one has its turn.
#[tokio::test(start_paused = true)]
async fn a_batch_does_not_keep_the_next_for_ever() {
    let (log, _guard) = LogCapture::start();
    let server = FakeServer::new();
    let first =
        |request: &tinkex_testkit::Received| request.json().unwrap()["events"][0]["event"] == "SESSION_START";
    server.script_when("telemetry", first, [Step::hang()]).then_repeat_last();
    let start = Instant::now();
    let (_service, sampler) = reporting(&server).await;
    tokio::time::sleep_until(start + SECOND * 15).await;
    drop(sampler.sample(invalid()));
    tokio::time::sleep_until(start + SECOND * 90).await;
    let requests = server.requests("telemetry");
    let at = arrivals(&server, "telemetry", start);
    let (last, tried) = at.split_last().unwrap();
    assert_within(*last, 70.0..=70.0, "the next batch, a minute after the first");
    assert_eq!(name(&requests.last().unwrap().json().unwrap()["events"][0]), "user_error");
    assert!((6..=11).contains(&tried.len()), "{tried:?}");
    assert!(tried.windows(2).all(|pair| pair[1] - pair[0] >= 5.0), "an attempt has five seconds: {tried:?}");
    let keys: std::collections::BTreeSet<_> =
        requests[..tried.len()].iter().map(|request| request.idempotency_key()).collect();
    assert_eq!(keys.len(), 1);
    let lines = log.messages(Level::WARN);
    assert_eq!(lines, ["dropped 1 telemetry events: not accepted within 60 s"]);
}

/// A server without the endpoint is not asked again, and that is told once, for developers.
#[tokio::test(start_paused = true)]
async fn a_server_that_takes_no_telemetry() {
    for status in [404, 405, 501] {
        let (log, _guard) = LogCapture::start();
        let server = FakeServer::new();
        server.script("telemetry", [Step::status(status)]);
        let (service, sampler) = reporting(&server).await;
        for _ in 0..10 {
            drop(sampler.sample(invalid()));
            tokio::time::sleep(SECOND * 20).await;
        }
        service.close(FinishReason::Success).await.unwrap();
        assert_eq!(server.count("telemetry"), 1);
        assert_eq!(log.messages(Level::WARN), [""; 0]);
        let debug = log.messages(Level::DEBUG);
        let told: Vec<_> = debug.iter().filter(|line| line.contains("no telemetry")).collect();
        assert_eq!(told.len(), 1, "{debug:?}");
        server.verify().unwrap();
    }
}
