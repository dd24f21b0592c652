//! Failed submissions: the truth table through the wire, identities, and the limits of retries.

use std::time::Duration;

use serde_json::json;
use tinkex_client::{ErrorCategory, ErrorKind, RetryPolicy};
use tinkex_testkit::service::{Dialect, Service};
use tinkex_testkit::{FakeServer, Step};
use tokio::time::Instant;

use super::{FIRST_BACKOFF, SMALL_WINDOW, repeats_a_source, seconds};
use crate::harness::{self, MODEL, arrivals, assert_within, request};

/// One row of REQUIREMENTS 2.3, for `asample`.
struct Row {
    name: &'static str,
    fault: fn() -> Step,
    /// Whether it is repeated where the answer says nothing about it, and then after how many seconds.
    repeated: Option<(f64, f64)>,
    /// How long the failing attempt takes, in seconds.
    takes: f64,
    kind: ErrorKind,
    status: Option<u16>,
    category: ErrorCategory,
    retryable: bool,
    /// A part of the error's message.
    says: &'static str,
}

impl Row {
    const fn refused(
        name: &'static str,
        status: u16,
        category: ErrorCategory,
        fault: fn() -> Step,
        says: &'static str,
    ) -> Self {
        Self {
            name,
            fault,
            repeated: None,
            takes: 0.0,
            kind: ErrorKind::Status,
            status: Some(status),
            category,
            retryable: false,
            says,
        }
    }

    const fn passing(
        name: &'static str,
        status: u16,
        category: ErrorCategory,
        fault: fn() -> Step,
        says: &'static str,
    ) -> Self {
        let row = Self::refused(name, status, category, fault, says);
        Self { repeated: Some(FIRST_BACKOFF), retryable: true, ..row }
    }

    const fn broken(name: &'static str, fault: fn() -> Step, says: &'static str) -> Self {
        let row = Self::passing(name, 0, ErrorCategory::Unknown, fault, says);
        Self { kind: ErrorKind::Connection, status: None, ..row }
    }

    /// Whether the failure is an answer, so that headers can ride on it.
    fn is_answer(&self) -> bool {
        self.status.is_some()
    }
}

fn saying(status: u16, category: &str) -> Step {
    Step::status(status).json_body(json!({"error": "the server's words", "category": category}))
}

fn rows() -> Vec<Row> {
    use ErrorCategory::{Server, Unknown, User};
    // In memory a broken connection has the testkit's words, over a real one the transport's own.
    let own = |words| if harness::is_in_memory() { words } else { "" };
    let detail = own("the fake server");
    vec![
        Row::refused(
            "400 with a detail",
            400,
            User,
            || Step::status(400).json_body(json!({"detail": "bad top_p"})),
            "HTTP 400: bad top_p",
        ),
        Row::refused("400 in plain text", 400, User, || Step::status(400).body("no"), "HTTP 400: no"),
        Row::broken(
            "400 without a body",
            || Step::status(400).body(""),
            "something in front of the service turned the request down",
        ),
        Row::refused(
            "401",
            401,
            User,
            || Step::status(401).json_body(json!({"detail": "unknown key"})),
            "HTTP 401: unknown key",
        ),
        Row::refused("403", 403, User, || Step::status(403), "HTTP 403"),
        Row::refused("404", 404, User, || Step::status(404), "HTTP 404"),
        Row::refused("410", 410, Unknown, || Step::status(410), "HTTP 410"),
        Row::refused("413", 413, User, || Step::status(413), "HTTP 413"),
        Row::refused(
            "422",
            422,
            User,
            || Step::status(422).json_body(json!({"detail": [{"msg": "no", "loc": ["body"]}]})),
            "HTTP 422: [{",
        ),
        Row::refused("501", 501, Server, || Step::status(501), "HTTP 501"),
        Row {
            repeated: Some(SMALL_WINDOW),
            ..Row::refused(
                "402",
                402,
                User,
                || Step::status(402).json_body(json!({"detail": "no credit"})),
                "HTTP 402: no credit",
            )
        },
        Row::passing("408", 408, Unknown, || Step::status(408), "HTTP 408"),
        Row::passing(
            "409",
            409,
            Unknown,
            || Step::status(409).json_body(json!({"detail": "sequence"})),
            "HTTP 409: sequence",
        ),
        Row {
            repeated: Some(SMALL_WINDOW),
            ..Row::passing(
                "429",
                429,
                Unknown,
                || Step::status(429).json_body(json!({"detail": "slow down"})),
                "HTTP 429: slow down",
            )
        },
        Row::passing(
            "500",
            500,
            Server,
            || Step::status(500).json_body(json!({"detail": "oops"})),
            "HTTP 500: oops",
        ),
        Row::passing("502", 502, Server, || Step::status(502).body("<html>bad gateway</html>"), "HTTP 502"),
        Row::passing(
            "503",
            503,
            Server,
            || Step::status(503).json_body(json!({"message": "busy"})),
            "HTTP 503: busy",
        ),
        Row {
            repeated: Some((2.0, 2.0)),
            ..Row::passing(
                "503 with a hint",
                503,
                Server,
                || Step::status(503).header("retry-after", "2"),
                "HTTP 503",
            )
        },
        Row::passing("504", 504, Server, || Step::status(504), "HTTP 504"),
        Row::passing("529", 529, Server, || Step::status(529), "HTTP 529"),
        Row::refused(
            "500, the user's fault",
            500,
            User,
            || saying(500, "user"),
            "HTTP 500: the server's words",
        ),
        Row::refused(
            "503, the user's fault in capitals",
            503,
            User,
            || saying(503, "USER"),
            "the server's words",
        ),
        Row::refused("409, the user's fault", 409, User, || saying(409, "user"), "the server's words"),
        Row::passing("400, the server's fault", 400, Server, || saying(400, "server"), "the server's words"),
        Row::passing("404, nobody's fault", 404, Unknown, || saying(404, "unknown"), "the server's words"),
        Row::passing(
            "422, of an unheard-of category",
            422,
            Unknown,
            || saying(422, "weather"),
            "the server's words",
        ),
        Row::refused("501, the server's fault", 501, Server, || saying(501, "server"), "the server's words"),
        Row::broken("connection refused", Step::refuse, detail),
        Row::broken("connection reset", Step::reset, detail),
        Row::broken("closed before any answer", Step::close_before_headers, detail),
        Row::broken("half a body", || Step::close_mid_body(5), own("middle of the body")),
        Row::broken("a body shorter than announced", Step::wrong_content_length, own("announced length")),
        Row {
            kind: ErrorKind::Timeout,
            takes: 60.0,
            repeated: Some((60.375, 60.5)),
            ..Row::broken("no answer", Step::hang, "no complete response within 60 s")
        },
        Row {
            kind: ErrorKind::Timeout,
            takes: 60.0,
            repeated: Some((60.375, 60.5)),
            ..Row::broken(
                "no body",
                Step::stall_after_headers,
                "the response body stalled after 0 bytes: it was not complete within 60 s",
            )
        },
        Row {
            kind: ErrorKind::Decode,
            repeated: None,
            retryable: false,
            ..Row::broken("not HTTP", || Step::garbage("SSH-2.0"), "not HTTP")
        },
    ]
}

/// ER-1 to ER-12, S1-09, S1-10, S1-11, C-1, C-3, F-04, F-14: the truth table through the wire, for retries on and off
/// and `x-should-retry` absent, true and false: exact calls, times, identities and errors.
#[tokio::test(start_paused = true)]
async fn the_truth_table_of_submissions() {
    for row in rows() {
        for retries in [true, false] {
            for asked in [None, Some(true), Some(false)] {
                if asked.is_none() || row.is_answer() {
                    one_submission(&row, retries, asked).await;
                }
            }
        }
    }
}

async fn one_submission(row: &Row, retries: bool, asked: Option<bool>) {
    let name = format!("{}, retries {retries}, x-should-retry {asked:?}", row.name);
    let service = Service::new(Dialect::production());
    let server = FakeServer::with(service.clone());
    let builder = harness::builder(&server);
    let builder = if retries { builder } else { builder.sampling_retry_policy(RetryPolicy::none()) };
    let client = builder.build().await.unwrap();
    let sampler = client.sampling_client().base_model(MODEL).create().await.unwrap();
    let fault = (row.fault)();
    let fault = match asked {
        Some(asked) => fault.header("x-should-retry", if asked { "true" } else { "false" }),
        None => fault,
    };
    server.script("asample", [fault]).then_behave();

    let start = Instant::now();
    let result = sampler.sample(request(&[1, 2, 3])).await;
    let took = seconds(start.elapsed());
    let at = arrivals(&server, "asample", start);

    if retries && asked.unwrap_or(row.repeated.is_some()) {
        let reply = result.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(reply.sequences.len(), 1, "{name}");
        assert_eq!(at.len(), 2, "{name}");
        let (least, most) = row.repeated.unwrap_or(FIRST_BACKOFF);
        assert_within(at[1], least..=most, &name);
        // One logical request, one identity; one generation on the server.
        assert_eq!(server.seq_ids("asample"), [0, 0], "{name}");
        server.assert_idempotency_pattern("asample");
        let keys: Vec<_> =
            server.requests("asample").iter().map(|r| r.idempotency_key().unwrap().to_owned()).collect();
        assert_eq!(keys[0], keys[1], "{name}");
        assert_eq!(service.samples_accepted(), 1, "{name}");
    } else {
        let error = result.unwrap_err();
        assert_eq!(at.len(), 1, "{name}");
        assert_within(took, row.takes..=row.takes, &name);
        assert_eq!(server.count("retrieve_future"), 0, "{name}");
        assert_eq!((error.kind(), error.status()), (row.kind, row.status), "{name}: {error}");
        assert_eq!(error.category(), row.category, "{name}");
        assert_eq!(error.is_user_error(), row.category == ErrorCategory::User, "{name}");
        assert_eq!(error.attempts(), 1, "{name}");
        assert_eq!(error.request_id(), None, "{name}: there never was a promise");
        if asked.is_none() {
            assert_eq!(error.is_retryable(), row.retryable, "{name}");
        }
        let message = error.to_string();
        assert!(message.starts_with("asample: ") && message.contains(row.says), "{name}: {message}");
        assert!(message.contains("after 1 attempt in"), "{name}: {message}");
        assert!(!repeats_a_source(&error), "{name}: {error:?}");
        // C-3: a 429 that surfaces has closed the gate all the same. A 402 closes it only while it is waited out.
        assert_eq!(client.in_backoff(), row.status == Some(429), "{name}");
    }
    assert!(client.inflight().is_empty(), "{name}");
    assert_eq!(client.dispatch_available(), Some((400, 10_485_760)), "{name}");
    server.verify().unwrap();
}

/// F-13: a success is a success, whatever its headers say.
#[tokio::test(start_paused = true)]
async fn a_success_is_never_repeated() {
    let (server, _client, sampler) = harness::in_front_of(&Service::default()).await;
    server.script("asample", [Step::behave().header("x-should-retry", "true").header("retry-after", "9")]);
    let start = Instant::now();
    sampler.sample(request(&[1])).await.unwrap();
    assert_within(seconds(start.elapsed()), 0.005..=0.005, "a plain success");
    assert_eq!(server.count("asample"), 1);
}

/// The error of retries that were in vain: attempts, time and limit in words and by accessor; delays double.
#[tokio::test(start_paused = true)]
async fn giving_up_names_attempts_and_limit() {
    let server = FakeServer::new();
    let policy = RetryPolicy::default().max_retries(Some(3));
    let client = harness::builder(&server).sampling_retry_policy(policy).build().await.unwrap();
    let sampler = client.sampling_client().base_model(MODEL).create().await.unwrap();
    server.script("asample", [Step::status(503).json_body(json!({"detail": "no workers"})).repeat(4)]);
    let start = Instant::now();
    let error = sampler.sample(request(&[1])).await.unwrap_err();
    let at = arrivals(&server, "asample", start);
    for (n, full) in [0.5, 1.0, 2.0].into_iter().enumerate() {
        assert_within(at[n + 1] - at[n], full * 0.75..=full, "the delay doubles");
    }
    assert_eq!((error.attempts(), error.status(), error.is_retryable()), (4, Some(503), true));
    let message = error.to_string();
    assert!(message.starts_with("asample: HTTP 503: no workers (after 4 attempts in "), "{message}");
    assert!(message.ends_with("; gave up: limit of 3 retries)"), "{message}");
    assert_eq!(server.seq_ids("asample"), [0; 4]);
    server.assert_idempotency_pattern("asample");
}

/// S1-09, C-1: 503, 503, 200 is a success after three calls; the sampler's own policy wins over the service's.
#[tokio::test(start_paused = true)]
async fn server_errors_are_got_over() {
    let server = FakeServer::new();
    let client = harness::builder(&server).retry_policy(RetryPolicy::none()).build().await.unwrap();
    let patient = client.sampling_client().base_model(MODEL).retry_policy(RetryPolicy::default());
    let patient = patient.create().await.unwrap();
    let hasty = client.sampling_client().base_model(MODEL).create().await.unwrap();
    server.script("asample", [Step::status(503).repeat(3)]).then_behave();

    let error = hasty.sample(request(&[1])).await.unwrap_err();
    assert_eq!((error.status(), error.attempts()), (Some(503), 1));
    let start = Instant::now();
    patient.sample(request(&[1])).await.unwrap();
    assert_within(seconds(start.elapsed()), 0.375 + 0.75..=0.5 + 1.0 + 0.005, "two delays");
    assert_eq!(server.count("asample"), 4);
}

/// An outage of the service is sat out as long as the policy says, and no longer.
#[tokio::test(start_paused = true)]
async fn an_outage_ends_at_the_limit_of_time() {
    let server = FakeServer::new();
    let policy = RetryPolicy::patient(Duration::from_secs(60));
    let client = harness::builder(&server).sampling_retry_policy(policy).build().await.unwrap();
    let sampler = client.sampling_client().base_model(MODEL).create().await.unwrap();
    server.script("asample", [Step::refuse()]).then_repeat_last();
    let start = Instant::now();
    let error = sampler.sample(request(&[1])).await.unwrap_err();
    assert_within(seconds(start.elapsed()), 60.0..=70.0, "the limit, and one delay at most");
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.is_retryable() && !error.is_user_error());
    let calls = u32::try_from(server.count("asample")).unwrap();
    // 0.5, 1, 2, 4, 8, 10, 10, ... less up to a quarter.
    assert!((10..=14).contains(&calls), "{calls} calls");
    assert_eq!(error.attempts(), calls);
    assert!(error.to_string().ends_with("; gave up: limit of 60 s since the first failure)"), "{error}");
}

/// A lost response: the server has accepted the sample, so the second attempt gets the same promise.
#[tokio::test(start_paused = true)]
async fn a_lost_response_generates_once() {
    let service = Service::default();
    let (server, _client, sampler) = harness::in_front_of(&service).await;
    server.script("asample", [Step::behave().then_lose(), Step::close_mid_body(7)]).then_behave();
    let handle = sampler.sample(request(&[1, 2]));
    handle.await.unwrap();
    assert_eq!(server.seq_ids("asample"), [0, 0, 0]);
    assert_eq!((service.samples_accepted(), service.promises()), (1, 1));
    assert_eq!(service.seq_ids(sampler.sampling_session_id()), [0]);
    server.assert_idempotency_pattern("asample");
}
