//! The retry loop: attempts, waits, identity, limits (REQUIREMENTS 2.3, S1-08..S1-10, C-1, C-3, F-13, F-14).

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use tinkex_http::{
    ApiRequest, BackoffGate, Delivery, HttpErrorKind, RetryPolicy, TransportError, TransportErrorKind,
};
use tinkex_testkit::Step;
use tinkex_types::ErrorCategory;
use tokio::time::Instant;
use tracing::Level;

use crate::capture::Log;
use crate::support::{
    ROUTE, assert_exactly, assert_within, builder, ms, ok, post, scripted, secs, server, steady, waits,
};

/// S1-09, C-1: 503, 503, 200 is a success after three attempts, with the backoff between them.
#[tokio::test(start_paused = true)]
async fn server_errors_are_retried_with_backoff() {
    let (server, client) = scripted([Step::status(503), Step::status(500), ok()]);
    let started = Instant::now();
    let response = client.send(&post()).await.unwrap();
    assert_eq!(response.attempts, 3);
    assert_eq!(response.json::<serde_json::Value>().unwrap(), json!({"ok": true}));
    let waits = waits(&server, ROUTE);
    assert_exactly(waits[0], ms(500));
    assert_exactly(waits[1], secs(1));
    assert_exactly(response.elapsed, ms(1500));
    assert_exactly(started.elapsed(), ms(1500));
}

/// F-14: one logical request, one identity. The bytes and the idempotency key stay, the retry count goes up.
#[tokio::test(start_paused = true)]
async fn all_attempts_share_one_identity() {
    let (server, client) = scripted([Step::status(500).repeat(5), ok()]);
    client.send(&post()).await.unwrap();
    let requests = server.requests(ROUTE);
    let key = requests[0].idempotency_key().unwrap().to_owned();
    for (n, request) in requests.iter().enumerate() {
        assert_eq!(request.idempotency_key(), Some(key.as_str()));
        assert_eq!(request.header("x-stainless-retry-count"), Some(n.to_string().as_str()));
        assert_eq!(request.json(), Some(&json!({"n": 1})));
    }
    server.assert_idempotency_pattern(ROUTE);
}

#[tokio::test(start_paused = true)]
async fn each_call_has_an_identity_of_its_own_and_a_get_has_none() {
    let (server, client) = scripted([ok().repeat(4)]);
    let request = post();
    client.send(&request).await.unwrap();
    client.send(&request).await.unwrap();
    client.send(&post().idempotency_key(HeaderValue::from_static("mine"))).await.unwrap();
    client.send(&ApiRequest::get(ROUTE, "/api/v1/op")).await.unwrap();
    let keys: Vec<_> =
        server.requests(ROUTE).iter().map(|r| r.idempotency_key().map(str::to_owned)).collect();
    assert!(keys[0].is_some() && keys[1].is_some() && keys[0] != keys[1], "{keys:?}");
    assert_eq!(keys[2].as_deref(), Some("mine"));
    assert_eq!(keys[3], None);
    assert_eq!(server.requests(ROUTE)[3].header("content-type"), None, "a GET has no body to describe");
}

/// The waits of the default policy, with jitter, over all its eleven attempts; then the limit is named.
#[tokio::test(start_paused = true)]
async fn gives_up_after_ten_retries_and_says_so() {
    let server = server();
    server.script(ROUTE, [Step::status(503).repeat(11)]);
    let client = builder(&server).build().unwrap();
    let error = client.send(&post()).await.unwrap_err();
    assert_eq!((error.attempts(), error.limit()), (11, Some("limit of 10 retries")));
    assert_eq!((error.kind(), error.status()), (HttpErrorKind::Status, Some(503)));
    assert_eq!((error.category(), error.delivery()), (ErrorCategory::Server, Delivery::Uncertain));
    let full = [500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000, 10_000, 10_000];
    let waits = waits(&server, ROUTE);
    assert_eq!(waits.len(), full.len());
    for (wait, full) in waits.iter().zip(full) {
        assert_within(*wait, ms(full * 3 / 4), ms(full));
    }
    assert_eq!(waits.iter().sum::<Duration>(), error.elapsed());
    server.verify().unwrap();
}

/// F-11: what the last answer says of a request's fate: a refusal says that nothing was accepted, 501 too; anything
/// else, or an earlier attempt in doubt, leaves it open.
#[tokio::test(start_paused = true)]
async fn errors_say_how_far_the_call_got() {
    for (status, delivery) in [
        (400, Delivery::Rejected),
        (404, Delivery::Rejected),
        (409, Delivery::Rejected),
        (429, Delivery::Rejected),
        (501, Delivery::Rejected),
        (300, Delivery::Uncertain),
        (408, Delivery::Uncertain),
        (500, Delivery::Uncertain),
        (502, Delivery::Uncertain),
        (600, Delivery::Uncertain),
    ] {
        let (_, client) = scripted([Step::status(status)]);
        let error = client.send(&post().policy(RetryPolicy::none())).await.unwrap_err();
        assert_eq!(error.delivery(), delivery, "{status}");
    }
    let (_, client) = scripted([Step::reset(), Step::status(501)]);
    let error = client.send(&post()).await.unwrap_err();
    assert_eq!(
        (error.status(), error.delivery()),
        (Some(501), Delivery::Uncertain),
        "after an attempt in doubt"
    );
}

/// The limit of time counts from the first failure, and ends the call at the first failure beyond it.
#[tokio::test(start_paused = true)]
async fn gives_up_after_the_time_limit_and_says_so() {
    let (server, client) = scripted([Step::status(503).delay(secs(7)), Step::status(503).repeat(6)]);
    let patient = RetryPolicy::patient(secs(20)).backoff(steady().backoff);
    let error = client.send(&post().policy(patient)).await.unwrap_err();
    // Failures at 7, 7.5, 8.5, 10.5, 14.5, 22.5 and 32.5 s.
    assert_eq!((error.attempts(), error.limit()), (7, Some("limit of 20 s since the first failure")));
    assert_exactly(error.elapsed(), ms(32_500));
    assert_eq!(
        error.to_string(),
        "op: HTTP 503: scripted 503 (after 7 attempts in 32.5 s; gave up: limit of 20 s since the first failure)"
    );
    server.verify().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_nothing_is_no_retry() {
    for policy in [
        steady().max_retries(Some(0)),
        steady().max_elapsed(Some(Duration::ZERO)),
        steady().max_retries(None).max_elapsed(Some(Duration::ZERO)),
    ] {
        let (server, client) = scripted([Step::status(503)]);
        let error = client.send(&post().policy(policy)).await.unwrap_err();
        assert_eq!(error.attempts(), 1);
        assert!(error.limit().is_some());
        server.verify().unwrap();
    }
}

/// C-1, C-3, ER-*: with retries off every failure is one call, and a 429 still closes the gate.
#[tokio::test(start_paused = true)]
async fn retries_off_is_one_call_and_still_penalises_the_gate() {
    for status in [400, 408, 409, 429, 500, 503] {
        let (server, client) = scripted([Step::status(status).header("retry-after-ms", "300")]);
        let gate = Arc::new(BackoffGate::default());
        let request = post().policy(RetryPolicy::none()).gate(gate.clone());
        let started = Instant::now();
        let error = client.send(&request).await.unwrap_err();
        assert_eq!((error.status(), error.attempts(), error.limit()), (Some(status), 1, None));
        assert_eq!(error.retry_after(), Some(ms(300)));
        assert_eq!(started.elapsed(), Duration::ZERO, "no wait");
        assert_eq!(gate.until(), (status == 429).then(|| started + ms(300)), "{status}");
        server.verify().unwrap();
    }
}

/// S1-10: a user error is one call, one typed error, and no harm to anybody's gate.
#[tokio::test(start_paused = true)]
async fn user_errors_surface_at_once() {
    for (status, category) in [
        (400, ErrorCategory::User),
        (401, ErrorCategory::User),
        (403, ErrorCategory::User),
        (404, ErrorCategory::User),
        (410, ErrorCategory::Unknown),
        (422, ErrorCategory::User),
        (501, ErrorCategory::Server),
    ] {
        let (server, client) = scripted([Step::status(status)]);
        let gate = Arc::new(BackoffGate::default());
        let started = Instant::now();
        let error = client.send(&post().gate(gate.clone())).await.unwrap_err();
        assert_eq!((error.status(), error.attempts()), (Some(status), 1));
        assert_eq!((error.category(), error.limit()), (category, None), "{status}");
        assert_eq!(started.elapsed(), Duration::ZERO);
        assert_eq!(gate.until(), None);
        server.verify().unwrap();
    }
}

/// `x-should-retry` through the wire: exact words only, and the server's hint is honoured with it.
#[tokio::test(start_paused = true)]
async fn the_server_may_ask_for_a_retry_or_forbid_it() {
    let ask = |value: &str| Step::status(400).header("x-should-retry", value).header("retry-after-ms", "70");
    let (server, client) = scripted([ask("true"), ok()]);
    client.send(&post()).await.unwrap();
    assert_exactly(waits(&server, ROUTE)[0], ms(70));

    for value in ["TRUE", "True", "1", "yes", ""] {
        let (server, client) = scripted([ask(value)]);
        assert_eq!(client.send(&post()).await.unwrap_err().attempts(), 1, "{value:?}");
        server.verify().unwrap();
    }
    for status in [408, 409, 429, 500, 503] {
        let (server, client) = scripted([Step::status(status).header("x-should-retry", "false")]);
        let error = client.send(&post()).await.unwrap_err();
        assert_eq!((error.attempts(), error.limit()), (1, None), "{status}");
        server.verify().unwrap();
    }
    // F-13: a success is a success.
    let (server, client) = scripted([ok().header("x-should-retry", "true")]);
    assert_eq!(client.send(&post()).await.unwrap().attempts, 1);
    server.verify().unwrap();
}

/// Row 2 of the matrix through the wire: a category in the body (F-04).
#[tokio::test(start_paused = true)]
async fn a_category_in_the_body_counts() {
    let said = |status: u16, category: &str| {
        Step::status(status).json_body(json!({"error": "hm", "category": category}))
    };
    let (server, client) = scripted([said(400, "Server"), said(404, "unknown"), said(422, "new"), ok()]);
    assert_eq!(client.send(&post()).await.unwrap().attempts, 4);
    server.verify().unwrap();
    for status in [408, 429, 500] {
        let (server, client) = scripted([said(status, "user")]);
        let error = client.send(&post()).await.unwrap_err();
        assert_eq!((error.attempts(), error.category()), (1, ErrorCategory::User));
        assert_eq!(error.message(), "hm");
        server.verify().unwrap();
    }
}

/// Without a gate a 429 waits like everything else: the hint, or the backoff; and it counts.
#[tokio::test(start_paused = true)]
async fn a_429_without_a_gate_waits_by_its_hint() {
    let (server, client) = scripted([
        Step::status(429).header("retry-after-ms", "1200"),
        Step::status(429).header("Retry-After", "2.5"),
        Step::status(429).json_body(json!({"retry_after_ms": 40})),
        Step::status(429).header("retry-after", "3600"),
        ok(),
    ]);
    client.send(&post()).await.unwrap();
    let waits = waits(&server, ROUTE);
    for (wait, expected) in waits.iter().zip([ms(1200), ms(2500), ms(40), secs(4)]) {
        assert_exactly(*wait, expected);
    }
    let (_, client) = scripted([Step::status(429).repeat(3)]);
    let error = client.send(&post().policy(steady().max_retries(Some(2)))).await.unwrap_err();
    assert_eq!(error.limit(), Some("limit of 2 retries"));
}

/// Behind a gate a 429 is no failure of the call: the policy's limits do not see it, the gate does the waiting, and
/// the server's hint decides how long (S1-08: both bounds).
#[tokio::test(start_paused = true)]
async fn a_429_behind_a_gate_waits_there_and_does_not_count() {
    let (server, client) = scripted([Step::status(429).header("retry-after-ms", "200").repeat(20), ok()]);
    let gate = Arc::new(BackoffGate::default());
    let policy = steady().max_retries(Some(1)).max_elapsed(Some(secs(1)));
    let response = client.send(&post().gate(gate).policy(policy)).await.unwrap();
    assert_eq!(response.attempts, 21);
    for wait in waits(&server, ROUTE) {
        assert_within(wait, ms(200), ms(250));
    }
}

#[tokio::test(start_paused = true)]
async fn a_429_without_a_hint_closes_the_gate_for_a_second() {
    let (server, client) = scripted([Step::status(429), ok()]);
    client.send(&post().gate(Arc::new(BackoffGate::default()))).await.unwrap();
    assert_within(waits(&server, ROUTE)[0], secs(1), ms(1250));
}

/// Faults of the connection: retried, except bytes that are no answer.
#[tokio::test(start_paused = true)]
async fn transport_failures_are_retried() {
    let (server, client) = scripted([
        Step::refuse(),
        Step::reset(),
        Step::close_before_headers(),
        ok().then_close_mid_body(4),
        ok().then_lose(),
        ok(),
    ]);
    assert_eq!(client.send(&post()).await.unwrap().attempts, 6);
    server.assert_idempotency_pattern(ROUTE);

    let (server, client) = scripted([Step::garbage("SSH-2.0-nope")]);
    let error = client.send(&post()).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (HttpErrorKind::Decode, 1));
    server.verify().unwrap();
}

/// What a failed call says: its kind, its delivery, and the transport's own error as the source.
#[tokio::test(start_paused = true)]
async fn transport_failures_keep_their_kind_and_source() {
    for (step, kind, delivery, transport) in [
        (Step::refuse(), HttpErrorKind::Connect, Delivery::NeverSent, TransportErrorKind::Connect),
        (Step::reset(), HttpErrorKind::Interrupted, Delivery::Uncertain, TransportErrorKind::Interrupted),
        (Step::garbage("?"), HttpErrorKind::Decode, Delivery::Uncertain, TransportErrorKind::Decode),
        (Step::hang(), HttpErrorKind::Timeout, Delivery::Uncertain, TransportErrorKind::Timeout),
    ] {
        let (_, client) = scripted([step]);
        let error = client.send(&post().policy(RetryPolicy::none())).await.unwrap_err();
        assert_eq!((error.kind(), error.delivery()), (kind, delivery));
        assert_eq!(error.category(), ErrorCategory::Unknown);
        let source = error.source().unwrap().downcast_ref::<TransportError>().unwrap();
        assert_eq!(source.kind(), transport);
    }
}

/// The delivery of a call is the worst of its attempts: only a call whose every attempt was refused may be taken as
/// not delivered.
#[tokio::test(start_paused = true)]
async fn delivery_is_the_worst_of_all_attempts() {
    for (steps, expected) in [
        (vec![Step::refuse(), Step::refuse()], Delivery::NeverSent),
        (vec![Step::refuse(), Step::status(409)], Delivery::Rejected),
        (vec![Step::status(429), Step::refuse()], Delivery::Rejected),
        (vec![Step::reset(), Step::status(429)], Delivery::Uncertain),
        (vec![Step::status(408), Step::status(409)], Delivery::Uncertain),
    ] {
        let (_, client) = scripted(steps);
        let error = client.send(&post().policy(steady().max_retries(Some(1)))).await.unwrap_err();
        assert_eq!((error.attempts(), error.delivery()), (2, expected));
    }
}

/// OPEN_SERVERS, decision 6: a conflict that is final for the operation.
#[tokio::test(start_paused = true)]
async fn a_final_conflict_is_one_call() {
    let (server, client) = scripted([Step::status(409)]);
    let error = client.send(&post().retry_conflict(false)).await.unwrap_err();
    assert_eq!((error.status(), error.attempts()), (Some(409), 1));
    server.verify().unwrap();
}

/// `any_status`: the final response comes back whatever it is, after the retries that its status is worth.
#[tokio::test(start_paused = true)]
async fn any_status_gives_the_response_instead_of_an_error() {
    let (_, client) = scripted([Step::status(503), Step::status(410)]);
    let response = client.send(&post().any_status()).await.unwrap();
    assert_eq!((response.status.as_u16(), response.attempts), (410, 2));
    let (_, client) = scripted([Step::status(503).repeat(2)]);
    let request = post().any_status().policy(steady().max_retries(Some(1)));
    assert_eq!(client.send(&request).await.unwrap().status.as_u16(), 503);
    let (_, client) = scripted([Step::reset()]);
    assert!(client.send(&post().any_status().policy(RetryPolicy::none())).await.is_err());
}

/// PROTOCOL 7.4: 402 is waited out, 5 s at a time, outside the policy's limits, with one log line a minute.
#[tokio::test(start_paused = true)]
async fn a_billing_pause_is_waited_out() {
    let (log, _guard) = Log::start();
    let (server, client) = scripted([Step::status(402).json_body(json!({"detail": "pay"})).repeat(25), ok()]);
    let policy = steady().max_retries(Some(1)).max_elapsed(Some(secs(1)));
    let response = client.send(&post().policy(policy)).await.unwrap();
    assert_eq!(response.attempts, 26);
    for wait in waits(&server, ROUTE) {
        assert_exactly(wait, secs(5));
    }
    // At 0, 65 s (the first past 60 s) and then not before 130 s, which the pause does not reach.
    let lines = log.at(Level::WARN);
    assert_eq!(
        lines,
        vec!["The job is paused due to billing status. Error: Error code: 402 - {\"detail\":\"pay\"}"; 2]
    );
}

/// What nobody waits for is repeated in silence, and ends with a 402.
#[tokio::test(start_paused = true)]
async fn a_quiet_call() {
    let (log, _guard) = Log::start();
    let (server, client) = scripted([Step::status(503).repeat(6), Step::status(402)]);
    let error = client.send(&post().quiet()).await.unwrap_err();
    assert_eq!((error.status(), error.attempts(), error.limit()), (Some(402), 7, None));
    assert_eq!(log.at(Level::DEBUG).iter().filter(|line| line.contains("retrying")).count(), 6);
    assert_eq!((log.at(Level::WARN).len(), log.at(Level::ERROR).len()), (0, 0));
    server.verify().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_billing_pause_ends_with_its_window() {
    let (log, _guard) = Log::start();
    let (server, client) = scripted([Step::status(402).repeat(4)]);
    let error = client.send(&post().policy(steady().billing_pause(secs(12)))).await.unwrap_err();
    assert_eq!((error.status(), error.attempts()), (Some(402), 4));
    assert_eq!(error.limit(), Some("billing pause of 12 s"));
    assert_exactly(error.elapsed(), secs(15));
    assert_eq!(log.at(Level::ERROR).len(), 1);
    server.verify().unwrap();
}

/// PROTOCOL 7.4: five minutes after the last line a new incident begins, with a window of its own.
#[tokio::test(start_paused = true)]
async fn a_new_incident_has_a_window_of_its_own() {
    let (_, client) = scripted([Step::status(402), ok(), Step::status(402), Step::status(402), ok()]);
    let request = post().policy(steady().billing_pause(secs(100)));
    client.send(&request).await.unwrap();
    tokio::time::advance(secs(301)).await;
    assert_eq!(client.send(&request).await.unwrap().attempts, 3);
}

/// PROTOCOL 7.4, at the edges: each span must be exceeded, not reached. The window counts from the first 402 of the
/// incident, over all calls of the client.
#[tokio::test(start_paused = true)]
async fn the_spans_of_a_billing_pause_are_exclusive() {
    let (log, _guard) = Log::start();
    let (_, client) = scripted([Step::status(402), ok()].into_iter().cycle().take(14));
    let request = || post().policy(steady().billing_pause(secs(100)));
    let began = Instant::now();
    let at = async |seconds: u64| {
        tokio::time::advance((began + secs(seconds)) - Instant::now()).await;
        let sent = client.send(&request()).await.map(|_| ());
        (sent.map_err(|error| error.status()), log.at(Level::WARN).len(), log.at(Level::ERROR).len())
    };
    assert_eq!(at(0).await, (Ok(()), 1, 0), "a new incident is told");
    assert_eq!(at(60).await, (Ok(()), 1, 0), "not before a minute is over");
    assert_eq!(at(66).await, (Ok(()), 2, 0));
    assert_eq!(at(100).await, (Ok(()), 2, 0), "the window reaches its own end");
    assert_eq!(at(106).await, (Err(Some(402)), 2, 1), "and no further");
    // The ok() that the call before did not come to.
    assert_eq!(at(110).await, (Ok(()), 2, 1));
    assert_eq!(
        at(366).await,
        (Err(Some(402)), 2, 2),
        "five minutes after the last line it is the old incident"
    );
    assert_eq!(at(368).await, (Ok(()), 2, 2));
    assert_eq!(at(370).await, (Ok(()), 3, 2), "and then a new one, with a window of its own");
}

/// The gate does the waiting where there is one (PROTOCOL 7.4, sampling): one second, not five.
#[tokio::test(start_paused = true)]
async fn a_billing_pause_behind_a_gate_waits_there() {
    let (server, client) = scripted([Step::status(402), ok()]);
    client.send(&post().gate(Arc::new(BackoffGate::default()))).await.unwrap();
    assert_within(waits(&server, ROUTE)[0], secs(1), ms(1250));
}

/// A 402 that is not waited out closes nobody's gate.
#[tokio::test(start_paused = true)]
async fn a_final_402_closes_no_gate() {
    let forbidden = Step::status(402).header("x-should-retry", "false");
    for (step, policy) in [
        (Step::status(402), RetryPolicy::none()),
        (forbidden, steady()),
        (Step::status(402).json_body(json!({"error": "no", "category": "user"})), steady()),
    ] {
        let (_, client) = scripted([step]);
        let gate = Arc::new(BackoffGate::default());
        let error = client.send(&post().gate(gate.clone()).policy(policy)).await.unwrap_err();
        assert_eq!((error.status(), error.attempts(), gate.until()), (Some(402), 1, None));
    }
}

/// PROTOCOL 5.1: what every request says, and whose word wins.
#[tokio::test(start_paused = true)]
async fn headers_have_an_order_of_precedence() {
    let server = server();
    server.script(ROUTE, [ok()]);
    let own = |name: &'static str, value: &'static str| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    let headers = HeaderMap::from_iter([
        own("user-agent", "caller"),
        own("x-both", "client"),
        own("x-api-key", "other"),
        own("x-client", "1"),
    ]);
    let client = builder(&server).headers(headers).build().unwrap();
    let request = post()
        .header(HeaderName::from_static("x-both"), HeaderValue::from_static("request"))
        .header(USER_AGENT, HeaderValue::from_static("request"))
        .header(ACCEPT, HeaderValue::from_static("application/x-protobuf"))
        .timeout(secs(45));
    client.send(&request).await.unwrap();
    let requests = server.requests(ROUTE);
    let sent = &requests[0].headers;
    for name in sent.keys() {
        assert_eq!(sent.get_all(name).iter().count(), 1, "{name} is sent once");
    }
    for (name, value) in [
        ("user-agent", "request"),
        ("x-both", "request"),
        ("x-client", "1"),
        ("x-api-key", crate::support::KEY),
        ("accept", "application/x-protobuf"),
        ("content-type", "application/json"),
        ("x-stainless-retry-count", "0"),
        ("x-stainless-read-timeout", "45"),
        ("x-stainless-package-version", tinkex_types::PROTOCOL_SDK_VERSION),
    ] {
        assert_eq!(requests[0].header(name), Some(value), "{name}");
    }
    assert!(requests[0].header("accept-encoding").unwrap().starts_with("gzip, deflate"));
}

/// A path that makes no address is found before anything is sent.
#[tokio::test(start_paused = true)]
async fn an_unusable_path_is_the_callers_mistake() {
    let (server, client) = scripted([]);
    let error = client.send(&ApiRequest::get("op", "/api/v1/a b")).await.unwrap_err();
    assert_eq!(error.kind(), HttpErrorKind::InvalidRequest);
    assert_eq!((error.attempts(), error.delivery()), (0, Delivery::NeverSent));
    assert_eq!(error.category(), ErrorCategory::User);
    assert_eq!(error.to_string(), "op: the path is unusable: invalid uri character");
    assert_eq!(server.count("**"), 0);
}

/// A body that cannot be read as what it should be: not retried, and the error says what was wrong and where.
#[tokio::test(start_paused = true)]
async fn a_body_of_another_shape_is_a_decode_error() {
    let page = Step::raw("<html><title>Sign in</title></html>", "text/html");
    let (_, client) = scripted([Step::json(json!({"n": "x"})), Step::status(204), page]);
    let response = client.send(&post()).await.unwrap();
    let error = response.json::<std::collections::BTreeMap<String, u32>>().unwrap_err();
    assert_eq!((error.kind(), error.status(), error.attempts()), (HttpErrorKind::Decode, Some(200), 1));
    assert_eq!(error.delivery(), Delivery::Uncertain);
    assert!(
        error.to_string().starts_with("op: HTTP 200: the response cannot be read: invalid type"),
        "{error}"
    );
    // HT-1: no content.
    let response = client.send(&post()).await.unwrap();
    assert_eq!((response.status.as_u16(), response.body.len(), response.media_type()), (204, 0, None));
    assert!(response.json::<serde_json::Value>().is_err());
    // Not this API at all.
    let response = client.send(&post()).await.unwrap();
    let error = response.json::<serde_json::Value>().unwrap_err();
    assert!(error.message().contains("an HTML page titled \"Sign in\", not JSON"), "{error}");
}

/// Error texts: one line, whatever the server said, with counts, time and limit.
#[tokio::test(start_paused = true)]
async fn errors_read_well() {
    let shown = |step: Step| async {
        let (_, client) = scripted([step]);
        client.send(&post().policy(RetryPolicy::none())).await.unwrap_err().to_string()
    };
    let once = "(after 1 attempt in 0.0 s)";
    assert_eq!(shown(Step::status(400)).await, format!("op: HTTP 400: scripted 400 {once}"));
    assert_eq!(shown(Step::status(500).body("")).await, format!("op: HTTP 500 {once}"));
    let text = Step::status(502).body("<html>\r\n<h1>Bad\u{7}</h1>\n</html>\n");
    assert_eq!(shown(text).await, format!("op: HTTP 502: <html>  <h1>Bad </h1> </html> {once}"));
    let page = "<!DOCTYPE html>\n<HTML><head><Title>Bad\n  gateway</Title></head><body>Sorry</body></HTML>";
    let titled = Step::status(502).body(page);
    assert_eq!(shown(titled).await, format!("op: HTTP 502: an HTML page titled \"Bad gateway\" {once}"));
    let nested = Step::status(422).json_body(json!({"detail": [{"loc": ["body", "n"], "msg": "no"}]}));
    assert_eq!(
        shown(nested).await,
        format!("op: HTTP 422: [{{\"loc\":[\"body\",\"n\"],\"msg\":\"no\"}}] {once}")
    );
    let message = Step::status(400).json_body(json!({"detail": null, "message": "said so", "error": "x"}));
    assert_eq!(shown(message).await, format!("op: HTTP 400: said so {once}"));
    let long = shown(Step::status(400).body("ä".repeat(100_000))).await;
    assert_eq!(long, format!("op: HTTP 400: {}… {once}", "ä".repeat(500)));
    assert_eq!(shown(Step::refuse()).await, format!("op: the fake server refused the connection {once}"));
    assert_eq!(shown(Step::hang()).await, "op: no complete response within 60 s (after 1 attempt in 60.0 s)");
}
