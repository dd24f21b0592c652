//! The pause log: which answers write which line, and how often.

use std::time::Duration;

use futures_util::future::join_all;
use metrics_util::debugging::DebuggingRecorder;
use serde_json::{Value, json};
use tinkex_client::{QueueState, QueueStateObserver};
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, Step};
use tokio::time::Instant;
use tracing::Level;

use super::{PATIENCE, Told, counts, line, lines_of, observed, transitions, try_again, try_again_because};
use crate::harness::{self, MODEL, assert_within, request};
use crate::log_capture::LogCapture;

/// QS-1, S1-16, S2-04, S2-05, S2-06, S2-10, S2-13, S2-16, S2-23: a sample that is paused by the rate limit writes the exact
/// line once, counts one transition to the pause and one to its end, and still returns its result.
#[tokio::test(start_paused = true)]
async fn a_paused_sample_writes_one_line() {
    let recorder = DebuggingRecorder::new();
    let _metrics = metrics::set_default_local_recorder(&recorder);
    let (log, _guard) = LogCapture::start();
    let (server, _client, sampler) = harness::in_front_of(&Service::default()).await;
    server.script("retrieve_future", [try_again("paused_rate_limit").repeat(3)]).then_behave();
    let reply = sampler.sample(request(&[1])).await.unwrap();
    assert_eq!(reply.sequences.len(), 1);
    assert_eq!(server.count("retrieve_future"), 4);

    let lines = log.pauses();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = &lines[0];
    let id = sampler.sampling_session_id();
    assert_eq!(line.message, format!("Sampling is paused for {id}. Reason: concurrent LoRA rate limit hit"));
    assert_eq!((line.level, line.target.as_str()), (Level::WARN, "tinkex_observer"));
    let fields: Vec<_> = line.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        fields,
        [
            ("client", "sampling"),
            ("id", id),
            ("queue_state", "paused_rate_limit"),
            ("reason", "concurrent LoRA rate limit hit"),
        ]
    );
    assert_eq!(transitions(&recorder), counts(&[("active", 1), ("paused_rate_limit", 1)]));
}

/// The same through the stateful service, which holds its polls and tells each pause as it comes.
#[tokio::test(start_paused = true)]
async fn a_paused_queue_writes_one_line() {
    let (log, _guard) = LogCapture::start();
    let service = Service::default();
    let (_server, client, sampler) = harness::in_front_of(&service).await;
    service.pause(QueueState::PausedCapacity, None, Some(Duration::from_secs(50)));
    let handle = sampler.sample(request(&[1]));
    tokio::time::sleep(Duration::from_secs(40)).await;
    let row = &client.inflight()[0];
    assert_eq!((row.queue_state.clone(), row.polls), (Some(QueueState::PausedCapacity), 3));
    handle.await.unwrap();
    let lines: Vec<_> = log.pause_texts();
    assert_eq!(lines, [line(&sampler, "out of capacity")]);
}

/// S2-06, S2-08, S2-09, QS-7, C-5, C-10, C-11: what answers lead to which line: all states, reasons given, blank and
/// missing, words in any case, as 200, 408 and 429.
#[tokio::test(start_paused = true)]
async fn answers_and_their_lines() {
    const RATE: &str = "concurrent LoRA rate limit hit";
    let with = |status: u16, body: Value| Step::status(status).json_body(body);
    let cases: Vec<(&str, Step, Option<&str>)> = vec![
        ("rate limit", try_again("paused_rate_limit"), Some(RATE)),
        ("capacity", try_again("paused_capacity"), Some("out of capacity")),
        ("a state from the future", try_again("paused_maintenance"), Some("unknown")),
        ("capitals and blanks", try_again(" PAUSED_Capacity "), Some("out of capacity")),
        ("active", try_again("active"), None),
        ("active with a reason", try_again_because("active", "all is well"), None),
        (
            "a reason",
            try_again_because("paused_rate_limit", "3 of 3 adapters busy"),
            Some("3 of 3 adapters busy"),
        ),
        ("an empty reason", try_again_because("paused_rate_limit", ""), Some(RATE)),
        ("a blank reason", try_again_because("paused_rate_limit", "  "), Some(RATE)),
        ("a reason over two lines", try_again_because("paused_capacity", "a\nb"), Some("a b")),
        (
            "a reason alone",
            Step::json(json!({"type": "try_again", "queue_state_reason": "wait"})),
            Some("wait"),
        ),
        ("nothing", Step::json(json!({"type": "try_again"})), None),
        ("an empty state", try_again(""), None),
        ("408", with(408, json!({"queue_state": "paused_capacity"})), Some("out of capacity")),
        (
            "408 with a reason",
            with(408, json!({"queue_state": "paused_capacity", "queue_state_reason": "full"})),
            Some("full"),
        ),
        ("408, unknown state", with(408, json!({"queue_state": "draining"})), Some("unknown")),
        ("408 without a state", with(408, json!({"queue_state_reason": "full"})), None),
        ("408 without a body", Step::status(408).body(""), None),
        ("429", with(429, json!({"queue_state": "paused_rate_limit"})), Some(RATE)),
        (
            "429 with a reason",
            with(429, json!({"queue_state": "paused_rate_limit", "queue_state_reason": "calm"})),
            Some("calm"),
        ),
        ("429 without a state", with(429, json!({"detail": "slow down"})), None),
        ("503 with a state", with(503, json!({"queue_state": "paused_capacity"})), None),
    ];
    for (name, step, reason) in cases {
        let expected: Vec<_> =
            reason.iter().map(|reason| format!("Sampling is paused for <id>. Reason: {reason}")).collect();
        assert_eq!(lines_of(vec![step.repeat(2)]).await, expected, "{name}");
    }
}

/// C-5: the 429 of a submission may carry a state too. It is told like any other, once more as over when the sample is
/// taken in, and shown in the table of requests in flight.
#[tokio::test(start_paused = true)]
async fn a_refused_submission_tells_its_state() {
    let (log, _guard) = LogCapture::start();
    let (server, client, sampler) = harness::in_front_of(&Service::default()).await;
    let told = Told::default();
    let watched = client
        .sampling_client()
        .base_model(MODEL)
        .queue_state_observer(told.closure())
        .create()
        .await
        .unwrap();
    let paused =
        json!({"detail": "slow down", "queue_state": "paused_rate_limit", "queue_state_reason": "calm"});
    let limited = Step::status(429).header("retry-after", "2").json_body(paused);
    server.script("asample", [limited.repeat(2)]).then_behave();
    let handle = watched.sample(request(&[1]));
    server.wait_for("asample", 2).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let row = client.inflight()[0].clone();
    assert_eq!((row.queue_state, row.reason.as_deref()), (Some(QueueState::PausedRateLimit), Some("calm")));
    handle.await.unwrap();
    assert_eq!(log.pause_texts(), [line(&watched, "calm")]);
    assert!(watched.flush_observers(PATIENCE));
    assert_eq!(told.states(), [QueueState::PausedRateLimit, QueueState::Active]);
    drop(sampler);
}

/// QS-3, F-06: fifty samples paused at once write exactly one line.
#[tokio::test(start_paused = true)]
async fn many_paused_samples_write_one_line() {
    let (log, _guard) = LogCapture::start();
    let (server, _client, sampler) = harness::in_front_of(&Service::default()).await;
    server.script("retrieve_future", [try_again("paused_capacity").repeat(50)]).then_behave();
    let handles: Vec<_> = (0..50).map(|_| sampler.sample(request(&[1]))).collect();
    for result in join_all(handles).await {
        result.unwrap();
    }
    assert_eq!(log.pauses().len(), 1);
}

/// The same on a runtime with threads: the line is claimed by one of many threads.
#[test]
fn many_threads_write_one_line() {
    let (log, _guard) = LogCapture::start();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let sampler = runtime.block_on(async { harness::in_front_of(&Service::default()).await.2 });
    let dispatch = tracing::dispatcher::get_default(Clone::clone);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let _clock = runtime.handle().enter();
                tracing::dispatcher::with_default(&dispatch, || {
                    (0..100).for_each(|_| sampler.on_queue_state_change(QueueState::PausedCapacity));
                });
            });
        }
    });
    assert_eq!(log.pauses().len(), 1);
}

/// QS-4, S2-11, S2-15: ten flaps within five seconds are one line and twenty transitions.
#[tokio::test(start_paused = true)]
async fn flapping_writes_one_line() {
    let recorder = DebuggingRecorder::new();
    let _metrics = metrics::set_default_local_recorder(&recorder);
    let (log, _guard) = LogCapture::start();
    let server = FakeServer::new();
    let told = Told::default();
    let sampler = observed(&server, told.closure()).await;
    // A quarter of a second each: the answer's time and the pause it asks for.
    let step = |state: &str| {
        let body = json!({"type": "try_again", "queue_state": state, "retry_after_ms": 50});
        Step::json(body).delay(Duration::from_millis(200))
    };
    let flap = || [step("paused_rate_limit"), step("active")];
    server.script("retrieve_future", (0..10).flat_map(|_| flap())).then_behave();
    let start = Instant::now();
    sampler.sample(request(&[1])).await.unwrap();
    assert_within(start.elapsed().as_secs_f64(), 5.0..=5.05, "the flapping");
    assert_eq!(log.pauses().len(), 1);
    assert_eq!(transitions(&recorder), counts(&[("active", 10), ("paused_rate_limit", 10)]));
    assert!(sampler.flush_observers(PATIENCE));
    assert_eq!(told.states().len(), 20);
}

/// QS-5, C-12: a pause that changes inside the minute and lasts is told when the minute is over, in its new state.
#[tokio::test(start_paused = true)]
async fn a_lasting_pause_is_told_again() {
    let (log, _guard) = LogCapture::start();
    let (server, _client, sampler) = harness::in_front_of(&Service::default()).await;
    let after = |seconds, step: Step| step.delay(Duration::from_secs(seconds));
    let mut steps = vec![try_again("paused_rate_limit"), after(10, try_again("paused_capacity"))];
    steps.extend((0..23).map(|_| after(5, try_again("paused_capacity"))));
    server.script("retrieve_future", steps).then_behave();
    let start = Instant::now();
    sampler.sample(request(&[1])).await.unwrap();
    let lines: Vec<_> =
        log.pauses().into_iter().map(|line| ((line.at - start).as_secs_f64(), line.message)).collect();
    let (rate, capacity) =
        (line(&sampler, "concurrent LoRA rate limit hit"), line(&sampler, "out of capacity"));
    let messages: Vec<_> = lines.iter().map(|(_, message)| message.as_str()).collect();
    assert_eq!(messages, [&rate, &capacity, &capacity], "the pause lasts 125 s");
    assert_within(lines[0].0, 0.0..=0.0, "at once");
    assert_within(lines[1].0, 60.0..=65.0, "at the first poll after a minute");
    assert_within(lines[2].0 - lines[1].0, 60.0..=65.0, "and a minute later");
}

/// S2-12: the boundary of the minute, through the client: 59.999 s are too soon, 60 s are enough.
#[tokio::test(start_paused = true)]
async fn a_minute_between_lines() {
    let (log, _guard) = LogCapture::start();
    let (_server, _client, sampler) = harness::in_front_of(&Service::default()).await;
    let start = Instant::now();
    for (at, lines) in [(0.0, 1), (30.0, 1), (59.999, 1), (60.0, 2), (119.999, 2), (120.0, 3)] {
        tokio::time::advance(start + Duration::from_secs_f64(at) - Instant::now()).await;
        sampler.on_queue_state_change(QueueState::PausedCapacity);
        assert_eq!(log.pauses().len(), lines, "after {at} s");
    }
}

/// S2-02, S2-11: the client is an observer itself; `active` logs nothing and leaves the clock alone.
#[tokio::test(start_paused = true)]
async fn the_client_is_an_observer() {
    fn is_observer<T: QueueStateObserver>(_: &T) {}
    let (log, _guard) = LogCapture::start();
    let (_server, _client, sampler) = harness::in_front_of(&Service::default()).await;
    is_observer(&sampler);
    sampler.on_queue_state_change(QueueState::Active);
    assert!(log.pauses().is_empty());
    sampler.on_queue_state_change(QueueState::PausedRateLimit);
    sampler.on_queue_state_change(QueueState::Active);
    sampler.on_queue_state_change(QueueState::PausedRateLimit);
    let lines: Vec<_> = log.pause_texts();
    assert_eq!(lines, [line(&sampler, "concurrent LoRA rate limit hit")]);
}

/// S2-25: the clock is the client's own: two samplers that pause together write a line each; clones share one.
#[tokio::test(start_paused = true)]
async fn each_client_has_a_clock_of_its_own() {
    let (log, _guard) = LogCapture::start();
    let service = Service::default();
    let (_server, client, first) = harness::in_front_of(&service).await;
    let second = client.sampling_client().base_model(MODEL).create().await.unwrap();
    service.pause(QueueState::PausedCapacity, Some("one GPU is on fire"), Some(Duration::from_secs(5)));
    let handles = [&first, &first.clone(), &second].map(|sampler| sampler.sample(request(&[1])));
    for result in join_all(handles).await {
        result.unwrap();
    }
    let mut lines: Vec<_> = log.pause_texts();
    lines.sort();
    let mut expected = [&first, &second].map(|sampler| line(sampler, "one GPU is on fire"));
    expected.sort();
    assert_eq!(lines, expected);
}
