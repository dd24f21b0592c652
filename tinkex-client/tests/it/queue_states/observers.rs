//! User observers, transitions and their counter.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use futures_util::future::join_all;
use metrics_util::debugging::DebuggingRecorder;
use serde_json::json;
use tinkex_client::{
    ClientKind, ErrorKind, LogPolicy, LogWording, QueueLog, QueueState, QueueStateObserver, ServiceClient,
};
use tinkex_testkit::{FakeServer, Step};
use tokio::time::Instant;

use super::{Changes, PATIENCE, Told, counts, line, observed, transitions, try_again, try_again_because};
use crate::harness::{self, MODEL, assert_within, request};
use crate::log_capture::LogCapture;

/// An observer by the trait's one-argument form.
#[derive(Clone, Default)]
struct OneArgument(Told);

impl QueueStateObserver for OneArgument {
    fn on_queue_state_change(&self, state: QueueState) {
        self.0.0.lock().unwrap().push(state);
    }
}

/// S2-03, S2-17, S2-18, S2-19, C-6: user observers in all three forms get every transition, those of the service and
/// those of the sampler, and the built-in line is written all the same. The end of a pause is told as `active`.
#[tokio::test(start_paused = true)]
async fn user_observers_are_told_besides_the_log() {
    let (log, _guard) = LogCapture::start();
    let server = FakeServer::new();
    let (closure, one_argument, changes) = (Told::default(), OneArgument::default(), Changes::default());
    let client = harness::builder(&server).queue_state_observer(closure.closure()).build().await.unwrap();
    let builder = client.sampling_client().base_model(MODEL);
    let builder = builder.queue_state_observer(one_argument.clone()).queue_state_observer(changes.clone());
    let sampler = builder.create().await.unwrap();
    let paused = || try_again("paused_rate_limit");
    server.script("retrieve_future", [paused(), paused(), try_again("active"), paused()]).then_behave();
    sampler.sample(request(&[1])).await.unwrap();

    assert!(sampler.flush_observers(PATIENCE));
    let expected = ["paused_rate_limit", "active", "paused_rate_limit", "active"];
    assert_eq!(closure.words(), expected);
    assert_eq!(one_argument.0.words(), expected);
    let changes = changes.all();
    assert_eq!(changes.iter().map(|change| change.state.as_str()).collect::<Vec<_>>(), expected);
    for (change, previous) in
        changes.iter().zip([None, Some("paused_rate_limit"), Some("active"), Some("paused_rate_limit")])
    {
        assert_eq!(change.previous.as_ref().map(QueueState::as_str), previous);
        assert_eq!(
            (change.client, &*change.client_id),
            (ClientKind::Sampling, sampler.sampling_session_id())
        );
        assert_eq!((&*change.request_id, change.is_transition()), ("req-00000001", true));
    }
    assert_eq!(log.pauses().len(), 1);
}

/// S2-17: a changed reason is a change; a failed promise ends a pause as well.
#[tokio::test(start_paused = true)]
async fn reasons_and_failures_count_as_changes() {
    let server = FakeServer::new();
    let changes = Changes::default();
    let sampler = observed(&server, changes.clone()).await;
    let paused = |reason| try_again_because("paused_capacity", reason);
    let failed = Step::json(json!({"error": "the worker died", "category": "server"}));
    server.script("retrieve_future", [paused("a"), paused("a"), paused("b"), failed]);
    let error = sampler.sample(request(&[1])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RequestFailed);
    assert!(sampler.flush_observers(PATIENCE));
    let changes = changes.all();
    let seen: Vec<_> =
        changes.iter().map(|change| (change.state.as_str(), change.reason.as_deref())).collect();
    assert_eq!(seen, [("paused_capacity", Some("a")), ("paused_capacity", Some("b")), ("active", None)]);
}

/// A sample that was never paused tells nothing; a pause that a 408 or a 429 told of is ended by the result.
#[tokio::test(start_paused = true)]
async fn completion_is_told_as_active_where_there_was_a_pause() {
    let server = FakeServer::new();
    let told = Told::default();
    let sampler = observed(&server, told.closure()).await;
    let pauses =
        [408, 429].map(|status| Step::status(status).json_body(json!({"queue_state": "paused_capacity"})));
    let [timed_out, throttled] = pauses;
    server.script("retrieve_future", [Step::behave(), timed_out, Step::behave(), throttled]).then_behave();
    for expected in [0, 2, 4] {
        sampler.sample(request(&[1])).await.unwrap();
        assert!(sampler.flush_observers(PATIENCE));
        assert_eq!(told.states().len(), expected, "{:?}", told.words());
    }
    assert_eq!(told.words(), ["paused_capacity", "active", "paused_capacity", "active"]);
}

/// S2-16: the counter of transitions is the same with the log on or off, with observers or without.
#[tokio::test(start_paused = true)]
async fn transitions_are_counted_whoever_listens() {
    for (log, observer) in [(true, false), (true, true), (false, false), (false, true)] {
        let recorder = DebuggingRecorder::new();
        let _metrics = metrics::set_default_local_recorder(&recorder);
        let server = FakeServer::new();
        let builder = harness::builder(&server);
        let builder = if log { builder } else { builder.queue_log(QueueLog::Off) };
        let told = Told::default();
        let builder = if observer { builder.queue_state_observer(told.closure()) } else { builder };
        let client = builder.build().await.unwrap();
        let sampler = client.sampling_client().base_model(MODEL).create().await.unwrap();
        let (paused, active) = (try_again("paused_capacity"), try_again("active"));
        let steps = [
            paused.repeat(3),
            active.repeat(2),
            try_again("from_the_future"),
            try_again("paused_rate_limit"),
        ];
        server.script("retrieve_future", steps).then_behave();
        sampler.sample(request(&[1])).await.unwrap();
        let expected =
            counts(&[("active", 2), ("paused_capacity", 1), ("paused_rate_limit", 1), ("unknown", 1)]);
        assert_eq!(transitions(&recorder), expected, "log {log}, observer {observer}");
        assert!(sampler.flush_observers(PATIENCE));
        assert_eq!(told.states().len(), if observer { 5 } else { 0 });
    }
}

/// C-6, S2-19: the log can be turned off, and observers hear on; it can be set to another wording and interval.
#[tokio::test(start_paused = true)]
async fn the_log_is_a_choice() {
    let ten_seconds = LogPolicy::new().interval(Duration::from_secs(10)).wording(LogWording::V0_38);
    for (choice, expected) in [(QueueLog::Off, 0), (QueueLog::default(), 1), (ten_seconds.into(), 4)] {
        let (log, _guard) = LogCapture::start();
        let server = FakeServer::new();
        let told = Told::default();
        let builder =
            harness::builder(&server).queue_log(choice.clone()).queue_state_observer(told.closure());
        let client = builder.build().await.unwrap();
        let sampler = client.sampling_client().base_model(MODEL).create().await.unwrap();
        let held = try_again("paused_capacity").delay(Duration::from_secs(10));
        server.script("retrieve_future", [held.repeat(4)]).then_behave();
        sampler.sample(request(&[1])).await.unwrap();
        let lines = log.pauses();
        assert_eq!(lines.len(), expected, "{choice:?}");
        if expected == 4 {
            let id = sampler.sampling_session_id();
            let reason = "Tinker backend is running short on capacity, please wait";
            assert_eq!(lines[0].message, format!("Sampling is paused for sampler {id}. Reason: {reason}"));
        }
        assert!(sampler.flush_observers(PATIENCE));
        assert_eq!(told.words(), ["paused_capacity", "active"], "{choice:?}");
    }
}

/// QS-6, S2-20, F-09: an observer that panics is told of once, and hurts neither the poll nor the other observers.
#[tokio::test(start_paused = true)]
async fn a_panicking_observer_hurts_nobody() {
    let (log, _guard) = LogCapture::start();
    let server = FakeServer::new();
    let (calls, told) = (Arc::new(AtomicUsize::new(0)), Told::default());
    let counted = Arc::clone(&calls);
    let panicking = move |_: QueueState| {
        counted.fetch_add(1, Ordering::SeqCst);
        std::panic::resume_unwind(Box::new("an observer's own affair"));
    };
    let client = harness::service(&server).await;
    let builder = client.sampling_client().base_model(MODEL);
    let builder = builder.queue_state_observer(panicking).queue_state_observer(told.closure());
    let sampler = builder.create().await.unwrap();
    server
        .script("retrieve_future", [try_again("paused_capacity"), try_again("paused_rate_limit")])
        .then_behave();
    let start = Instant::now();
    let (victim, sibling) = (sampler.sample(request(&[1])), sampler.sample(request(&[2])));
    victim.await.unwrap();
    sibling.await.unwrap();
    assert_within(start.elapsed().as_secs_f64(), 0.04..=0.2, "no delay");
    assert!(sampler.flush_observers(PATIENCE));
    assert_eq!((calls.load(Ordering::SeqCst), told.states().len()), (4, 4));
    assert_eq!(log.warnings("panicked").len(), 1);
    assert_eq!(log.pauses().len(), 1);
}

/// QS-6, S2-20: an observer that blocks for as long as it likes delays no poll, and gets what it missed afterwards.
#[tokio::test(start_paused = true)]
async fn a_blocking_observer_delays_nobody() {
    let server = FakeServer::new();
    let (release, blocked) = mpsc::channel::<()>();
    let (blocked, told) = (Mutex::new(blocked), Told::default());
    let tell = told.closure();
    let blocking = move |state: QueueState| {
        // Waits until the test lets go, and from then on not at all.
        let _ = blocked.lock().unwrap().recv();
        tell(state);
    };
    let sampler = observed(&server, blocking).await;
    server.script("retrieve_future", [try_again("paused_capacity").repeat(20)]).then_behave();
    let start = Instant::now();
    let handles: Vec<_> = (0..20).map(|_| sampler.sample(request(&[1]))).collect();
    for result in join_all(handles).await {
        result.unwrap();
    }
    assert_within(start.elapsed().as_secs_f64(), 0.0375..=0.1, "one pause of the poll, no more");
    assert!(told.states().is_empty(), "the observer is still blocked");
    drop(release);
    assert!(sampler.flush_observers(PATIENCE));
    assert_eq!(told.states().len(), 40);
}

/// QS-6: an observer that is gone with its client, while the sample goes on, hurts nothing either.
#[tokio::test(start_paused = true)]
async fn a_dropped_client_and_observer_hurt_nobody() {
    let server = FakeServer::new();
    let told = Told::default();
    let sampler = observed(&server, told.closure()).await;
    let held = try_again("paused_capacity").delay(Duration::from_secs(1));
    server.script("retrieve_future", [held.repeat(3)]).then_behave();
    let handle = sampler.sample(request(&[1]));
    drop((sampler, told));
    handle.await.unwrap();
}

/// F-27: a session's own metadata cannot reach into observations or lines.
#[tokio::test(start_paused = true)]
async fn metadata_does_not_reach_the_log() {
    let (log, _guard) = LogCapture::start();
    let server = FakeServer::new();
    let client: ServiceClient = harness::builder(&server)
        .user_metadata("sampling_session_id", "evil")
        .user_metadata("id", "evil")
        .build()
        .await
        .unwrap();
    let sampler = client.sampling_client().base_model(MODEL).create().await.unwrap();
    server.script("retrieve_future", [try_again("paused_capacity")]).then_behave();
    sampler.sample(request(&[1])).await.unwrap();
    let lines: Vec<_> = log.pause_texts();
    assert_eq!(lines, [line(&sampler, "out of capacity")]);
}
