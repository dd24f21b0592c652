//! The end: what `close` waits for, and what a drop does not.

use std::time::Duration;

use metrics_util::debugging::DebuggingRecorder;
use tinkex_client::FinishReason;
use tinkex_testkit::{FakeServer, Step};
use tokio::time::Instant;

use super::{SECOND, batches, counted, counts, events, invalid, name, names, reporting, settle};
use crate::harness::{assert_within, request};

/// `close` sends everything that is queued, the end of the session last, after the server was told of it; then nothing is
/// reported any more, and the task is gone.
#[tokio::test(start_paused = true)]
async fn closing_sends_what_is_queued() {
    let server = FakeServer::new();
    let (service, sampler) = reporting(&server).await;
    tokio::time::sleep(Duration::from_millis(3_723_004)).await;
    for _ in 0..250 {
        drop(sampler.sample(invalid()));
    }
    let begun = Instant::now();
    service.close(FinishReason::Success).await.unwrap();
    assert_within(begun.elapsed().as_secs_f64(), 0.0..=0.0, "a server that answers");
    assert_eq!(batches(&server).iter().map(Vec::len).collect::<Vec<_>>(), [1, 100, 100, 51]);
    let events = events(&server);
    let end = events.last().unwrap();
    assert_eq!((name(end), &end["severity"]), ("SESSION_END", &serde_json::json!("INFO")));
    assert_eq!(end["duration"], "1:02:03.004000");
    server.assert_order(&["telemetry", "sessions/*/finish", "telemetry", "telemetry", "telemetry"]);

    let before = server.all_requests().len();
    service.close(FinishReason::Success).await.unwrap();
    drop(sampler.sample(invalid()));
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(server.all_requests().len(), before);
}

/// Whatever the endpoint does, `close` waits 5 s in all, and succeeds.
#[tokio::test(start_paused = true)]
async fn closing_waits_five_seconds_at_most() {
    let faults = [
        ("hangs", Step::hang()),
        ("stalls", Step::stall_after_headers()),
        ("is slow", Step::behave().delay(SECOND * 4)),
        ("fails", Step::status(500)),
        ("throttles", Step::status(429).header("retry-after", "30")),
        ("refuses connections", Step::refuse()),
        ("resets", Step::reset()),
    ];
    for (what, fault) in faults {
        let recorder = DebuggingRecorder::new();
        let _metrics = metrics::set_default_local_recorder(&recorder);
        let server = FakeServer::new();
        let (service, sampler) = reporting(&server).await;
        server.script("telemetry", [fault]).then_repeat_last();
        for _ in 0..250 {
            drop(sampler.sample(invalid()));
        }
        let begun = Instant::now();
        service.close(FinishReason::Success).await.unwrap();
        assert_within(begun.elapsed().as_secs_f64(), 5.0..=5.0, what);
        let sent = if what == "is slow" { 100 } else { 0 };
        // The batch that was on its way, and those behind it; the end of the session is one of these.
        let mut expected = counts(&[("failed", 100), ("dropped", 152 - sent)]);
        if sent > 0 {
            expected.insert("sent".to_owned(), sent);
        }
        settle().await;
        assert_eq!(counted(&recorder), expected, "{what}");
        let before = server.count("telemetry");
        tokio::time::sleep(SECOND * 60).await;
        assert_eq!(server.count("telemetry"), before, "{what}: nothing is sent any more");
    }
}

/// What is queued is sent also where the server could not be told of the end, and once: the next `close` has nothing to add.
#[tokio::test(start_paused = true)]
async fn closing_that_fails() {
    let server = FakeServer::new();
    server.script("sessions/*/finish", [Step::status(403)]).then_behave();
    let (service, _sampler) = reporting(&server).await;
    service.close(FinishReason::Success).await.unwrap_err();
    assert_eq!(names(&events(&server)), ["SESSION_START", "SESSION_END"]);
    service.close(FinishReason::Success).await.unwrap();
    assert_eq!(server.count("telemetry"), 1);
}

/// Dropping the last client takes no time and leaves no task, also with a batch on its way.
#[tokio::test(start_paused = true)]
async fn dropping_leaves_nothing() {
    let tasks = tokio::runtime::Handle::current().metrics();
    let before = tasks.num_alive_tasks();
    for underway in [false, true] {
        let recorder = DebuggingRecorder::new();
        let _metrics = metrics::set_default_local_recorder(&recorder);
        let server = FakeServer::new();
        server.script("telemetry", [Step::hang()]).then_repeat_last();
        let (service, sampler) = reporting(&server).await;
        sampler.sample(request(&[1])).await.unwrap();
        assert!(tasks.num_alive_tasks() > before);
        if underway {
            drop(sampler.sample(invalid()));
            settle().await;
            assert_eq!(server.in_flight("telemetry"), 1);
            drop(sampler.sample(invalid()));
        }
        let begun = Instant::now();
        drop((service, sampler));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        settle().await;
        assert_eq!(tasks.num_alive_tasks(), before);
        assert_eq!(server.in_flight("telemetry"), 0);
        let expected =
            if underway { counts(&[("failed", 2), ("dropped", 1)]) } else { counts(&[("dropped", 1)]) };
        assert_eq!(counted(&recorder), expected);
        tokio::time::sleep(SECOND * 60).await;
        assert_eq!(server.count("telemetry"), u64::from(underway));
    }
}
