//! Failed polls: the truth table of the poller, promises that expired or failed, and their limits.

use std::error::Error as _;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::json;
use tinkex_client::{ErrorCategory, ErrorKind, PollPolicy, RetryPolicy, SampleOptions};
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, Step};
use tokio::time::Instant;

use super::{FIRST_BACKOFF, repeats_a_source, seconds};
use crate::harness::{self, MODEL, arrivals, assert_within, request};

type Fault = fn() -> Step;

/// What a poll answer leads to.
enum After {
    /// Another poll, between these seconds later.
    Polls(f64, f64),
    /// The end, after so many polls.
    Fails { polls: u32, kind: ErrorKind, status: Option<u16>, category: ErrorCategory, says: &'static str },
}

fn poll_rows() -> Vec<(&'static str, Fault, After)> {
    use ErrorCategory::{Server, Unknown, User};
    fn fails(polls: u32, kind: ErrorKind, status: u16, category: ErrorCategory, says: &'static str) -> After {
        let status = (status > 0).then_some(status);
        After::Fails { polls, kind, status, category, says }
    }
    use ErrorKind::{RequestFailed, Status};
    let quick = || After::Polls(0.0375, 0.05);
    let server = || After::Polls(FIRST_BACKOFF.0, FIRST_BACKOFF.1);
    let setback = || After::Polls(1.0, 1.0);
    vec![
        ("400 once", || Step::status(400).body(" "), After::Polls(0.05, 0.05)),
        ("400 for good", || Step::status(400).body(" ").repeat(4), fails(4, Status, 400, User, "HTTP 400")),
        // Not the service's word (PROTOCOL 7.3), so it does not count towards the fourth.
        ("400 from the edge", || Step::status(400).body(""), setback()),
        (
            "400 with words",
            || Step::status(400).json_body(json!({"detail": "bad prompt"})).repeat(4),
            fails(4, RequestFailed, 400, User, "bad prompt"),
        ),
        ("401", || Step::status(401), fails(1, Status, 401, User, "HTTP 401")),
        ("402", || Step::status(402), After::Polls(5.0, 5.0)),
        ("403", || Step::status(403), fails(1, Status, 403, User, "HTTP 403")),
        ("404", || Step::status(404), fails(1, Status, 404, User, "HTTP 404")),
        ("408", || Step::status(408).body(""), quick()),
        ("408 with a body", || Step::status(408).json_body(json!({"queue_state": "active"})), quick()),
        ("409", || Step::status(409).body(""), fails(1, Status, 409, Unknown, "HTTP 409")),
        (
            "409 with words",
            || Step::status(409).json_body(json!({"detail": "out of order"})),
            fails(1, RequestFailed, 409, Unknown, "out of order"),
        ),
        (
            "422 with words",
            || Step::status(422).json_body(json!({"detail": "too long"})),
            fails(1, RequestFailed, 422, User, "too long"),
        ),
        ("429", || Step::status(429), setback()),
        ("429 with a hint", || Step::status(429).header("retry-after-ms", "300"), After::Polls(0.3, 0.3)),
        ("500", || Step::status(500), server()),
        ("501", || Step::status(501), fails(1, Status, 501, Server, "HTTP 501")),
        ("503", || Step::status(503), server()),
        ("503 with a hint", || Step::status(503).header("retry-after", "0.25"), After::Polls(0.25, 0.25)),
        ("connection refused", Step::refuse, setback()),
        ("connection reset", Step::reset, setback()),
        // The server holds this poll until the sample is ready, 5 ms after its acceptance.
        ("half a body", || Step::close_mid_body(3), After::Polls(1.005, 1.005)),
        ("not HTTP", || Step::garbage("SSH-2.0"), setback()),
        ("no answer", Step::hang, After::Polls(45.0, 45.0)),
        (
            "failed, the user's fault",
            || Step::json(json!({"error": "unsafe prompt", "category": "user"})),
            fails(1, RequestFailed, 0, User, "unsafe prompt"),
        ),
        (
            "failed, the server's fault",
            || Step::json(json!({"error": "a worker died", "category": "server"})),
            fails(1, RequestFailed, 0, Server, "a worker died"),
        ),
        (
            "failed, nobody's fault",
            || Step::json(json!({"error": "hm", "category": "unknown"})),
            fails(1, RequestFailed, 0, Unknown, "hm"),
        ),
    ]
}

/// ER-1 to ER-12 on `retrieve_future`, where the poller repeats: the retry policy of submissions and
/// `x-should-retry` change nothing there.
#[tokio::test(start_paused = true)]
async fn the_truth_table_of_polls() {
    for (name, fault, after) in poll_rows() {
        for retries in [true, false] {
            for asked in [None, Some("true"), Some("false")] {
                one_poll(
                    &format!("{name}, retries {retries}, x-should-retry {asked:?}"),
                    fault,
                    &after,
                    retries,
                    asked,
                )
                .await;
            }
        }
    }
}

async fn one_poll(name: &str, fault: fn() -> Step, after: &After, retries: bool, asked: Option<&str>) {
    let service = Service::default();
    let server = FakeServer::with(service.clone());
    let builder = harness::builder(&server);
    let builder = if retries { builder } else { builder.retry_policy(RetryPolicy::none()) };
    let client = builder.build().await.unwrap();
    let sampler = client.sampling_client().base_model(MODEL).create().await.unwrap();
    let fault = match asked {
        Some(text) => fault().header("x-should-retry", text),
        None => fault(),
    };
    server.script("retrieve_future", [fault]).then_behave();

    let start = Instant::now();
    let result = sampler.sample(request(&[1, 2, 3])).await;
    let took = seconds(start.elapsed());
    let at = arrivals(&server, "retrieve_future", start);
    assert_eq!(server.count("asample"), 1, "{name}: nothing is submitted anew");
    match after {
        After::Polls(least, most) => {
            result.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(at.len(), 2, "{name}");
            assert_within(at[1] - at[0], *least..=*most, name);
            let iterations: Vec<_> = server
                .requests("retrieve_future")
                .iter()
                .map(|r| r.header("x-tinker-request-iteration").unwrap().to_owned())
                .collect();
            assert_eq!(iterations, ["0", "1"], "{name}");
        }
        After::Fails { polls, kind, status, category, says } => {
            let error = result.unwrap_err();
            assert_eq!(at.len() as u32, *polls, "{name}");
            assert_within(took, 0.0..=if *polls > 1 { 0.35 } else { 0.0 }, name);
            assert_eq!((error.kind(), error.status()), (*kind, *status), "{name}: {error}");
            assert_eq!(error.category(), *category, "{name}");
            assert_eq!(error.is_user_error(), *category == ErrorCategory::User, "{name}");
            let may_pass = *kind == ErrorKind::RequestFailed && *category != ErrorCategory::User;
            assert_eq!(error.is_retryable(), may_pass, "{name}");
            assert_eq!(error.attempts(), *polls, "{name}");
            assert_eq!(error.request_id(), Some("req-00000001"), "{name}");
            let message = error.to_string();
            assert!(message.contains("req-00000001") && message.contains(says), "{name}: {message}");
            assert!(message.contains(&format!("after {polls} poll")), "{name}: {message}");
            assert!(!repeats_a_source(&error), "{name}: {error:?}");
        }
    }
    assert!(client.inflight().is_empty(), "{name}");
    server.verify().unwrap();
}

/// FU-4, F-14: a promise the server lost is submitted anew, under a new sequence id and a new idempotency key.
#[tokio::test(start_paused = true)]
async fn an_expired_promise_is_submitted_anew() {
    let service = Service::default();
    let (server, _client, sampler) = harness::in_front_of(&service).await;
    service.expire_next();
    let start = Instant::now();
    let reply = sampler.sample(request(&[1])).await.unwrap();
    assert_eq!(server.seq_ids("asample"), [0, 1]);
    let at = arrivals(&server, "asample", start);
    assert_within(at[1] - 0.005, FIRST_BACKOFF.0..=FIRST_BACKOFF.1, "the pause before the second submission");
    let keys: Vec<_> =
        server.requests("asample").iter().map(|r| r.idempotency_key().unwrap().to_owned()).collect();
    assert_ne!(keys[0], keys[1]);
    // The ids that come back are those of the attempt that gave the result.
    let id = format!("{}:1:0", sampler.sampling_session_id());
    assert_eq!(reply.sequences[0].sequence_id.as_deref(), Some(id.as_str()));
}

/// FU-4: submitting anew is bounded by the retry policy, and off with it. The error says what to do.
#[tokio::test(start_paused = true)]
async fn resubmissions_are_bounded() {
    for (policy, submissions) in [
        (RetryPolicy::none(), 1),
        (RetryPolicy::default().max_retries(Some(2)), 3),
        (RetryPolicy::default(), 11),
    ] {
        let service = Service::default();
        let server = FakeServer::with(service.clone());
        let client = harness::builder(&server).retry_policy(policy).build().await.unwrap();
        let sampler = client.sampling_client().base_model(MODEL).create().await.unwrap();
        (0..20).for_each(|_| service.expire_next());
        let error = sampler.sample(request(&[1])).await.unwrap_err();
        assert_eq!(server.count("asample"), submissions);
        server.assert_contiguous_seq_ids("asample");
        assert_eq!((error.kind(), error.status()), (ErrorKind::Expired, Some(410)));
        assert!(error.is_retryable() && !error.is_user_error());
        assert_eq!(error.request_id(), Some(format!("req-{submissions:08x}").as_str()));
        assert!(error.to_string().contains("the promise has expired; submit a new request"), "{error}");
        let told = error
            .to_string()
            .ends_with(&format!("; it was submitted {submissions} times and lost each time"));
        assert_eq!(told, submissions > 1, "{error}");
    }
}

/// Failed promises by category, as the stateful service tells them: final, and never submitted anew.
#[tokio::test(start_paused = true)]
async fn failed_promises_are_final() {
    let service = Service::default();
    let (server, _client, sampler) = harness::in_front_of(&service).await;
    for category in [ErrorCategory::User, ErrorCategory::Server, ErrorCategory::Unknown] {
        service.fail_next(category, "the generation broke");
        let error = sampler.sample(request(&[1])).await.unwrap_err();
        assert_eq!((error.kind(), error.category()), (ErrorKind::RequestFailed, category));
        assert_eq!(error.is_user_error(), category == ErrorCategory::User);
        assert_eq!(error.is_retryable(), category != ErrorCategory::User);
        assert!(error.to_string().ends_with(": the generation broke"), "{error}");
    }
    assert_eq!((server.count("asample"), server.count("retrieve_future")), (3, 3));
}

/// FU-3, F-19: ten minutes of an endless failure are a bounded number of polls.
#[tokio::test(start_paused = true)]
async fn endless_failures_are_polled_in_moderation() {
    let held = || Step::status(408).delay(Duration::from_secs(30));
    let cases: [(Fault, RangeInclusive<u64>); 5] = [
        // 0.5 s, doubling to 10 s, less up to a quarter.
        (|| Step::status(503), 60..=90),
        // 50 ms, doubling to 1 s, less up to a quarter.
        (|| Step::status(408).body(""), 600..=810),
        (held, 20..=21),
        // 1 s, doubling to 30 s.
        (|| Step::status(429), 23..=26),
        (Step::refuse, 23..=26),
    ];
    for (number, (step, bounds)) in cases.into_iter().enumerate() {
        let (server, _client, sampler) = harness::in_front_of(&Service::default()).await;
        server.script("retrieve_future", [step()]).then_repeat_last();
        let options = SampleOptions::default().deadline(Duration::from_secs(600));
        let error = sampler.sample_with(request(&[1]), options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let polls = server.count("retrieve_future");
        assert!(bounds.contains(&polls), "case {number}: {polls} polls");
    }
}

/// An outage of polls ends at the poll policy's limit, and names the last failure.
#[tokio::test(start_paused = true)]
async fn an_outage_of_polls_ends_at_its_limit() {
    let server = FakeServer::new();
    let policy = PollPolicy::default().outage_limit(Duration::from_secs(120));
    let client = harness::builder(&server).poll_policy(policy).build().await.unwrap();
    let sampler = client.sampling_client().base_model(MODEL).create().await.unwrap();
    server
        .script("retrieve_future", [Step::status(503).json_body(json!({"detail": "no workers"}))])
        .then_repeat_last();
    let start = Instant::now();
    let error = sampler.sample(request(&[1])).await.unwrap_err();
    assert_within(seconds(start.elapsed()), 120.0..=130.0, "the limit, and one delay at most");
    assert_eq!((error.kind(), error.status()), (ErrorKind::Connection, Some(503)));
    assert!(error.is_retryable());
    assert!(error.to_string().contains("limit 120.0 s"), "{error}");
    assert!(error.to_string().ends_with("; the last failure: HTTP 503: no workers"), "{error}");
    assert!(error.source().is_none(), "nothing is said twice");
    assert_eq!(u64::from(error.attempts()), server.count("retrieve_future"));
}
