//! The driver in virtual time: flows, durations, deadlines, cancellation.

use std::error::Error;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use tinkex_future::{
    ByteBudget, Outcome, PayloadEncoding, PollErrorKind, PollPolicy, PollProgress, Poller, PromiseRef,
    RawResponse, retrieve_fn,
};
use tinkex_types::{ErrorCategory, QueueStateChange, RequestType};
use tokio::time::Instant;

use crate::support::{HELD, Log, Script, cut_off, done, json, ms, refused, secs};

fn promise() -> PromiseRef {
    PromiseRef::new("req-s", RequestType::Sample)
}

/// W-2 and flow `retrieve_future_try_again_408_proto`: iterations count up, and the round trip is told once.
#[tokio::test(start_paused = true)]
async fn polls_until_the_result() {
    let script = Script::held([
        json(200, r#"{"type":"try_again","queue_state":"paused_capacity"}"#),
        json(408, r#"{"queue_state":"active"}"#),
        cut_off(),
        RawResponse::protobuf(200, &b"\x01\x02"[..]).into(),
    ]);
    let poller = Poller::new(script.clone());
    let payload = poller.poll(promise().with_create_roundtrip(ms(30))).await.unwrap();
    assert_eq!((payload.encoding, &payload.body[..]), (PayloadEncoding::Protobuf, &b"\x01\x02"[..]));
    let asked = script.asked();
    assert_eq!(asked.iter().map(|asked| asked.iteration).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(
        asked.iter().map(|asked| asked.create_roundtrip).collect::<Vec<_>>(),
        [Some(ms(30)), None, None, None]
    );
    assert!(asked.iter().all(|asked| asked.allow_metadata_only && asked.request_id == "req-s"));
    // The server held each call, so nothing is waited in between.
    let held = HELD.as_millis();
    assert_eq!(script.arrivals(), [0, held, 2 * held, 3 * held]);
}

/// Every row of REQUIREMENTS 3.2 that ends or goes on, through the driver.
#[tokio::test(start_paused = true)]
async fn rows_of_the_table() {
    let ends: [(Outcome, &str); 12] = [
        (json(200, r#"{"status":"completed","result":{}}"#), "ok"),
        (json(200, r#"{"sequences":[]}"#), "ok"),
        (json(200, r#"{"metrics":{}}"#), "ok"),
        (json(200, r#"{"status":"failed","error":{"message":"m","category":"user"}}"#), "failed user"),
        (json(200, r#"{"status":"failed","error":"text"}"#), "failed unknown"),
        (json(200, r#"{"error":"text","category":"server"}"#), "failed server"),
        (json(200, "nonsense"), "decode unknown"),
        (json(401, ""), "status user"),
        (json(404, r#"{"detail":"unknown id"}"#), "status user"),
        (json(409, r#"{"detail":"expected 4"}"#), "failed unknown"),
        (json(410, ""), "expired unknown"),
        (json(501, ""), "status server"),
    ];
    for (outcome, expected) in ends {
        let shown = format!("{outcome:?}");
        let script = Script::instant([outcome]);
        let end = Poller::new(script.clone()).poll(promise()).await;
        let end = end.map_or_else(|e| format!("{} {}", e.kind().label(), e.category()), |_| "ok".to_owned());
        assert_eq!(end, expected, "{shown}");
        assert_eq!((script.count(), script.arrivals()[0]), (1, 0), "{shown}");
    }
    // Bounds of the wait before the next poll, in milliseconds.
    let goes_on: [(Outcome, u128, u128); 9] = [
        (json(200, r#"{"status":"pending"}"#), 37, 51),
        (json(200, r#"{"type":"TRY_AGAIN"}"#), 37, 51),
        (json(200, r#"{"type":"try_again","retry_after_ms":330.5}"#), 330, 332),
        (json(408, ""), 37, 51),
        (cut_off(), 37, 51),
        (json(503, ""), 375, 501),
        (json(429, ""), 1000, 1001),
        (json(400, ""), 50, 51),
        (json(402, ""), 5000, 5001),
    ];
    for (outcome, least, most) in goes_on {
        let shown = format!("{outcome:?}");
        let script = Script::instant([outcome, done()]);
        Poller::new(script.clone()).poll(promise()).await.unwrap();
        let wait = script.arrivals()[1];
        assert!((least..=most).contains(&wait), "{shown}: {wait}");
    }
}

/// Flow `retrieve_future_429_then_ok`: 1 s, then 2 s.
#[tokio::test(start_paused = true)]
async fn throttled_polls_back_off_exactly() {
    let script = Script::instant([json(429, ""), refused(), done()]);
    Poller::new(script.clone()).poll(promise()).await.unwrap();
    assert_eq!(script.arrivals(), [0, 1000, 3000]);
}

/// Flow `retrieve_future_400_budget`: four polls, then the error.
#[tokio::test(start_paused = true)]
async fn four_bad_requests_end_the_poll() {
    let script = Script::instant((0..4).map(|_| json(400, r#"{"detail":"bad"}"#)));
    let error = Poller::new(script.clone()).poll(promise()).await.unwrap_err();
    assert_eq!((error.kind(), error.polls()), (PollErrorKind::Failed, 4));
    assert_eq!(script.arrivals(), [0, 50, 150, 350]);
}

/// FU-3: ten minutes of instant 503s or 408s cost a bounded number of polls, and not too few either.
#[tokio::test(start_paused = true)]
async fn endless_trouble_is_polled_at_a_bounded_rate() {
    for (status, least, most) in [(503, 60, 90), (408, 590, 820), (429, 20, 30)] {
        let script = Script::endless(move || (Duration::ZERO, json(status, "")));
        let policy = PollPolicy::default().deadline(secs(600));
        let started = Instant::now();
        let error = Poller::new(script.clone()).policy(policy).seed(7).poll(promise()).await.unwrap_err();
        assert_eq!(error.kind(), PollErrorKind::Timeout);
        assert_eq!(started.elapsed(), secs(600), "{status}");
        assert!((least..=most).contains(&script.count()), "{status}: {}", script.count());
    }
}

/// F-19: an instant answer with any wait of its own still never spins.
#[tokio::test(start_paused = true)]
async fn a_server_that_answers_at_once_is_not_hammered() {
    let script =
        Script::endless(|| (ms(1), json(200, r#"{"type":"try_again","queue_state":"paused_rate_limit"}"#)));
    let policy = PollPolicy::default().deadline(ms(200));
    Poller::new(script.clone()).policy(policy).poll(promise()).await.unwrap_err();
    assert!((2..=5).contains(&script.count()), "{}", script.count());
}

/// The deadline is exact while polling, while waiting, and while waiting for budget; a result at the last moment
/// still counts.
#[tokio::test(start_paused = true)]
async fn deadlines_are_exact() {
    let policy = PollPolicy::default().deadline(ms(7_300));
    let full = Arc::new(ByteBudget::new(1));
    let _held = full.acquire(2).await;
    let metadata = || json(200, r#"{"status":"complete_metadata","response_payload_size":9}"#);
    let cases = [
        ("in a poll", Script::timed([(secs(7), json(408, "")), (secs(40), done())]), 2),
        ("in a wait", Script::instant([refused(), refused(), refused(), refused()]), 4),
        ("for budget", Script::instant([metadata()]), 1),
    ];
    for (name, script, polls) in cases {
        let started = Instant::now();
        let poller = Poller::new(script.clone()).policy(policy).payload_budget(full.clone());
        let error = poller.poll(promise()).await.unwrap_err();
        assert_eq!(error.kind(), PollErrorKind::Timeout, "{name}");
        assert_eq!(started.elapsed(), ms(7_300), "{name}");
        assert_eq!((error.elapsed(), error.polls()), (ms(7_300), polls), "{name}");
        assert_eq!(error.to_string().matches("7.3 s").count(), 2, "{error}");
    }
    for (late, ok) in [(ms(7_300), true), (ms(7_301), false)] {
        let script = Script::timed([(late, done())]);
        assert_eq!(Poller::new(script).policy(policy).poll(promise()).await.is_ok(), ok, "{late:?}");
    }
}

/// REQUIREMENTS 3.2, `timeout: 0`: an immediate error, no poll, no panic.
#[tokio::test(start_paused = true)]
async fn a_zero_deadline_fails_at_once() {
    let script = Script::instant([]);
    let policy = PollPolicy::default().deadline(Duration::ZERO);
    let error = Poller::new(script.clone()).policy(policy).poll(promise()).await.unwrap_err();
    assert_eq!((error.kind(), error.polls(), script.count()), (PollErrorKind::Timeout, 0, 0));
    assert!(error.source().is_none());
    // The other end of the range is no deadline at all.
    let policy = PollPolicy::default().deadline(Duration::MAX);
    assert!(Poller::new(Script::held([json(408, ""), done()])).policy(policy).poll(promise()).await.is_ok());
}

/// A timeout keeps the last failure as its source; a healthy long poll cut short does not replace it.
#[tokio::test(start_paused = true)]
async fn a_timeout_names_the_last_failure() {
    let policy = PollPolicy::default().deadline(secs(60));
    let script = Script::timed([
        (secs(0), json(503, r#"{"detail":"restarting"}"#)),
        (secs(45), cut_off()),
        (secs(45), done()),
    ]);
    let error = Poller::new(script).policy(policy).poll(promise()).await.unwrap_err();
    assert_eq!(error.kind(), PollErrorKind::Timeout);
    assert_eq!(error.source().unwrap().to_string(), "HTTP 503: restarting");
    assert!(!error.to_string().contains("restarting"), "the source is not printed");
}

/// An outage ends after half an hour by default, an endless queue never.
#[tokio::test(start_paused = true)]
async fn only_outages_end_without_a_deadline() {
    let script = Script::endless(|| (Duration::ZERO, refused()));
    let started = Instant::now();
    let error = Poller::new(script).poll(promise()).await.unwrap_err();
    assert_eq!((error.kind(), error.category()), (PollErrorKind::Outage, ErrorCategory::Unknown));
    assert!((secs(1800)..=secs(1830)).contains(&started.elapsed()), "{:?}", started.elapsed());

    let mut steps: Vec<_> = (0..2000).map(|n| if n % 2 == 0 { json(408, "") } else { cut_off() }).collect();
    steps.push(done());
    Poller::new(Script::held(steps)).poll(promise()).await.unwrap();
}

/// PROTOCOL 7.4: the line is written once a minute, whatever the number of promises, and the poll goes on.
#[tokio::test(start_paused = true)]
async fn a_billing_pause_is_told_once_a_minute() {
    let (log, _guard) = Log::capture();
    let pauses = |n| (0..n).map(|_| json(402, r#"{"detail":"pay"}"#)).chain([done()]).collect::<Vec<_>>();
    let long = Script::instant(pauses(15));
    let poller = Poller::new(long.clone());
    let other = Poller::new(Script::instant(pauses(5)));
    poller.poll(promise()).await.unwrap();
    let lines = log.lines_with("WARN");
    assert_eq!(lines.len(), 2, "at 0 s and at 60 s: {lines:?}");
    let text = r#"The job is paused due to billing status. Error: Error code: 402 - {"detail":"pay"}"#;
    assert!(lines[0].contains(text), "{lines:?}");
    assert_eq!(long.arrivals()[14], 70_000);
    // Another poller has a clock of its own; its clones share it.
    let clone = other.clone();
    other.poll(promise()).await.unwrap();
    assert_eq!(log.lines_with("WARN").len(), 3);
    drop(clone);
}

/// A poll that goes well writes nothing; a first failure is a debug line; then a warning at most once a minute.
#[tokio::test(start_paused = true)]
async fn the_log_is_quiet() {
    let (log, _guard) = Log::capture();
    let steps = (0..100).map(|_| json(408, r#"{"queue_state":"paused_capacity"}"#)).chain([done()]);
    Poller::new(Script::held(steps)).poll(promise()).await.unwrap();
    assert_eq!(log.lines_with(""), Vec::<String>::new());
    let script = Script::endless(|| (Duration::ZERO, refused()));
    let policy = PollPolicy::default().deadline(secs(300));
    Poller::new(script).policy(policy).poll(promise()).await.unwrap_err();
    assert_eq!(log.lines_with("DEBUG").len(), 1);
    let warnings = log.lines_with("WARN");
    assert!((4..=6).contains(&warnings.len()), "{warnings:?}");
    assert!(warnings[0].contains("polling keeps failing: connection refused"), "{warnings:?}");
}

/// Polls that the server leaves unanswered are pending ones, and no outage: it may hold them longer than the client
/// waits. But nothing waits for long without being visible: from the fifth minute on there is a line a minute, until an
/// answer comes.
#[tokio::test(start_paused = true)]
async fn a_long_silence_is_told() {
    let (log, _guard) = Log::capture();
    let policy = PollPolicy::default().deadline(secs(2 * 3600)).outage_limit(secs(60));
    let silent = Script::endless(|| (secs(45), cut_off()));
    let error = Poller::new(silent).policy(policy).poll(promise()).await.unwrap_err();
    assert_eq!(error.kind(), PollErrorKind::Timeout, "the silence ends with the deadline, not as an outage");
    let lines = log.lines_with("the server has not answered a poll for");
    assert!((76..=116).contains(&lines.len()), "every 90 s at most, after 5 minutes: {}", lines.len());
    assert!(lines[0].contains("for 315 s; polling goes on"), "{}", lines[0]);

    let (log, _guard) = Log::capture();
    let now_and_then = (0..30).map(|n| if n % 5 == 4 { json(408, "{}") } else { cut_off() }).chain([done()]);
    Poller::new(Script::held(now_and_then)).poll(promise()).await.unwrap();
    assert_eq!(log.lines_with("WARN"), Vec::<String>::new());
}

/// Dropping the future stops the poll at once; the same id can be polled again.
#[tokio::test(start_paused = true)]
async fn dropping_stops_and_polling_again_resumes() {
    let script = Script::timed([(secs(30), json(408, "")), (secs(30), done())]);
    let poller = Poller::new(script.clone());
    assert!(tokio::time::timeout(secs(40), poller.poll(promise())).await.is_err());
    assert_eq!(script.count(), 2);
    tokio::time::sleep(secs(300)).await;
    assert_eq!(script.count(), 2, "nobody polls any more");
    let again = Script::instant([done()]);
    Poller::new(again.clone()).poll(promise()).await.unwrap();
    assert_eq!(again.asked()[0].iteration, 0);
}

/// FU-1: a poll that ends badly does not disturb its siblings.
#[tokio::test(start_paused = true)]
async fn siblings_are_independent() {
    let poller = Poller::new(retrieve_fn(|ask| {
        let outcome = if ask.request_id.ends_with('3') { json(200, "\u{0}") } else { done() };
        async move {
            tokio::time::sleep(ms(10)).await;
            outcome
        }
    }));
    let polls = (0..40).map(|n| poller.poll(PromiseRef::new(format!("r{n}"), RequestType::Sample)));
    let ends = join_all(polls).await;
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 36);
    assert!(ends.iter().flat_map(|end| end.as_ref().err()).all(|e| e.kind() == PollErrorKind::Decode));
}

mockall::mock! {
    Progress {}
    impl PollProgress for Progress {
        fn polled(&self, iteration: u32);
        fn observed(&self, observation: &QueueStateChange);
    }
}

/// Progress shows each poll before it is made, and each state.
#[tokio::test(start_paused = true)]
async fn progress_is_told() {
    let mut order = mockall::Sequence::new();
    let mut progress = MockProgress::new();
    for iteration in 0..2_u32 {
        let is_it = mockall::predicate::eq(iteration);
        progress.expect_polled().with(is_it).times(1).in_sequence(&mut order).return_const(());
        let last = iteration == 1;
        progress
            .expect_observed()
            .withf(move |change| change.state.is_active() == last && &*change.request_id == "req-s")
            .times(1)
            .in_sequence(&mut order)
            .return_const(());
    }
    let script = Script::held([json(408, r#"{"queue_state":"paused_capacity"}"#), done()]);
    Poller::new(script).progress(Arc::new(progress)).poll(promise()).await.unwrap();
}

/// `tinkex_polls_total` counts every poll under labels from closed sets.
#[test]
fn polls_are_counted() {
    let recorder = DebuggingRecorder::new();
    let counts = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let script = Script::instant([json(408, ""), json(503, ""), json(408, ""), done()]);
            Poller::new(script).poll(promise()).await.unwrap();
        });
    });
    let mut seen: Vec<_> = counts
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, _, value)| {
            let labels: Vec<_> = key.key().labels().map(|label| label.value().to_owned()).collect();
            let DebugValue::Counter(count) = value else { panic!("not a counter") };
            (key.key().name().to_owned(), labels.join("/"), count)
        })
        .collect();
    seen.sort();
    let name = || "tinkex_polls_total".to_owned();
    assert_eq!(
        seen,
        [
            (name(), "Sample/payload".to_owned(), 1),
            (name(), "Sample/pending".to_owned(), 2),
            (name(), "Sample/server_error".to_owned(), 1),
        ]
    );
}

/// A transport that never answers holds the poll, and nothing else, up to the deadline.
#[tokio::test(start_paused = true)]
async fn a_hanging_transport_is_cut_at_the_deadline() {
    let poller =
        Poller::new(retrieve_fn(|_| pending::<Outcome>())).policy(PollPolicy::default().deadline(secs(90)));
    let started = Instant::now();
    let error = poller.poll(promise()).await.unwrap_err();
    assert_eq!((error.kind(), error.polls(), started.elapsed()), (PollErrorKind::Timeout, 1, secs(90)));
}

/// The same poller over another seam: its policy holds there too, and what the first seam does is not its business.
#[tokio::test(start_paused = true)]
async fn a_poller_over_another_seam() {
    let unused = Script::instant([]);
    let script = Script::held([json(408, "{}"), json(408, "{}")]);
    let poller =
        Poller::new(unused.clone()).policy(PollPolicy::default().deadline(HELD)).over(script.clone());
    let error = poller.poll(promise()).await.unwrap_err();
    assert_eq!(error.kind(), PollErrorKind::Timeout);
    assert_eq!((unused.asked().len(), script.asked().len()), (0, 1));
}
