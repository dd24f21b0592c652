//! The in-memory face, in virtual time.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tinkex_http::{Transport, TransportErrorKind};
use tinkex_testkit::{FakeServer, Received, Step};
use tokio::time::Instant;

use crate::client::{bare, echo, ms, post, post_error, post_over, request};

#[tokio::test(start_paused = true)]
async fn the_behaviour_answers_what_no_script_speaks_for() {
    let server = echo();
    let answer = post(&server, "asample", &json!({"n": 1})).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
    assert_eq!(answer.json(), json!({"route": "asample", "body": {"n": 1}}));
}

#[tokio::test(start_paused = true)]
async fn a_new_server_behaves_like_the_service() {
    let server = FakeServer::new();
    let body = json!({"tags": [], "user_metadata": {}, "sdk_version": "0"});
    let mut request = request(&server.url(), "create_session", &body);
    request.headers_mut().insert("x-api-key", "tml-anything".parse().unwrap());
    let response = server.transport().call(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let reply: serde_json::Value =
        serde_json::from_slice(&response.into_body().collect(1 << 20).await.unwrap()).unwrap();
    assert!(reply["session_id"].is_string(), "{reply}");
}

#[tokio::test(start_paused = true)]
async fn without_a_behaviour_the_answer_is_404_and_says_so() {
    let server = bare();
    let answer = post(&server, "asample", &json!({})).await.unwrap();
    assert_eq!(answer.status, 404);
    let text = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(text.contains("POST asample"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn each_fault_becomes_the_transport_error_of_its_meaning() {
    let server = echo();
    server.script(
        "x",
        [
            Step::refuse(),
            Step::reset(),
            Step::close_before_headers(),
            Step::garbage("?"),
            Step::behave().then_lose(),
        ],
    );
    assert_eq!(post_error(&server, "x").await, TransportErrorKind::Connect);
    assert_eq!(post_error(&server, "x").await, TransportErrorKind::Interrupted);
    assert_eq!(post_error(&server, "x").await, TransportErrorKind::Interrupted);
    assert_eq!(post_error(&server, "x").await, TransportErrorKind::Decode);
    assert_eq!(post_error(&server, "x").await, TransportErrorKind::Interrupted);
    assert_eq!(server.in_flight("x"), 0);
    server.verify().unwrap();
}

/// HT-1: half a body.
#[tokio::test(start_paused = true)]
async fn a_body_can_break_off() {
    let server = bare();
    let body = Step::raw("0123456789", "text/plain");
    server.script("x", [body.clone().then_close_mid_body(4), body.clone().then_close_mid_body(99)]);
    server.script("x", [body.then_wrong_content_length()]);
    for (sent, announced) in [(4, "10"), (10, "11"), (10, "26")] {
        let response = server.transport().call(request(&server.url(), "x", &json!({}))).await.unwrap();
        assert_eq!(response.headers()["content-length"], announced);
        assert_eq!(server.in_flight("x"), 1, "the body is still to be read");
        let mut body = response.into_body();
        let first = next(&mut body).await.unwrap().unwrap();
        assert_eq!(first.len(), sent);
        assert_eq!(next(&mut body).await.unwrap().unwrap_err().kind(), TransportErrorKind::Interrupted);
        assert!(next(&mut body).await.is_none());
        drop(body);
        assert_eq!(server.in_flight("x"), 0);
    }
}

async fn next(body: &mut tinkex_http::Body) -> Option<Result<Bytes, tinkex_http::TransportError>> {
    futures_util::StreamExt::next(body).await
}

#[tokio::test(start_paused = true)]
async fn a_body_can_stall_after_the_headers() {
    let server = echo();
    server.script("x", [Step::stall_after_headers()]);
    let response = server.transport().call(request(&server.url(), "x", &json!({}))).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    assert!(tokio::time::timeout(ms(3_600_000), next(&mut body)).await.is_err());
    assert_eq!(server.in_flight("x"), 1);
    drop(body);
    assert_eq!(server.in_flight("x"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_call_frees_its_place_when_it_is_dropped() {
    let server = echo();
    server.script("x", [Step::hang()]).then_behave();
    let call = tokio::spawn({
        let (transport, request) = (server.transport(), request(&server.url(), "x", &json!({})));
        async move { transport.call(request).await.map(|_| ()) }
    });
    server.wait_for("x", 1).await;
    assert_eq!(server.in_flight("x"), 1);
    call.abort();
    server.wait_for_in_flight("x", 0).await;
    assert_eq!(server.max_in_flight("x"), 1);
    assert_eq!(post(&server, "x", &json!({})).await.unwrap().status, 200);
}

#[tokio::test(start_paused = true)]
async fn delays_take_exactly_their_time_and_pieces_theirs() {
    let server = bare();
    let pieces = vec![(ms(100), Bytes::from_static(b"ab")), (ms(250), Bytes::from_static(b"c"))];
    server.script("x", [Step::status(200).delay(ms(1_500)), Step::status(200).chunks(pieces).delay(ms(50))]);
    let started = Instant::now();
    post(&server, "x", &json!({})).await.unwrap();
    assert_eq!(started.elapsed(), ms(1_500));

    let started = Instant::now();
    let answer = post(&server, "x", &json!({})).await.unwrap();
    assert_eq!(started.elapsed(), ms(400));
    assert_eq!(&answer.body[..], b"abc");
    assert_eq!(answer.header("content-length"), None, "pieces come without a length");
}

#[tokio::test(start_paused = true)]
async fn latency_lets_virtual_time_go_on() {
    let server = echo();
    server.latency(ms(1));
    let started = Instant::now();
    for _ in 0..10 {
        post(&server, "x", &json!({})).await.unwrap();
    }
    assert_eq!(started.elapsed(), ms(10));
}

#[tokio::test(start_paused = true)]
async fn answers_can_be_compressed() {
    let server = bare();
    let value = json!({"text": "a".repeat(500)});
    server.script("x", [Step::json(value.clone()).gzip(), Step::json(value.clone()).zstd()]);
    for encoding in ["gzip", "zstd"] {
        let answer = post(&server, "x", &json!({})).await.unwrap();
        assert_eq!(answer.header("content-encoding"), Some(encoding));
        assert!(answer.body.len() < 100);
        let undone = Received::get("x").with_header("content-encoding", encoding).with_body(answer.body);
        assert_eq!(undone.json(), Some(&value));
    }
}

#[tokio::test(start_paused = true)]
async fn statuses_bodies_and_headers_can_be_changed() {
    let server = echo();
    server.script(
        "x",
        [
            Step::status(429).header("Retry-After-Ms", "200").header("x-many", "1").header("X-Many", "2"),
            Step::behave().with_status(201).header("content-type", "application/problem+json"),
            Step::status(400).json_body(json!({"detail": "no"})),
            Step::status(204),
            Step::proto(vec![8, 1]),
            Step::wrong_content_type(),
            Step::respond_with(|request| tinkex_testkit::Reply::json(200, &json!(request.index))),
        ],
    );
    let busy = post(&server, "x", &json!({})).await.unwrap();
    assert_eq!((busy.status.as_u16(), busy.header("retry-after-ms")), (429, Some("200")));
    assert_eq!(busy.headers.get_all("x-many").iter().count(), 2);
    assert_eq!(busy.json(), json!({"detail": "scripted 429"}));

    let made = post(&server, "x", &json!({})).await.unwrap();
    assert_eq!((made.status.as_u16(), made.header("content-type")), (201, Some("application/problem+json")));
    assert_eq!(post(&server, "x", &json!({})).await.unwrap().json(), json!({"detail": "no"}));

    let empty = post(&server, "x", &json!({})).await.unwrap();
    assert_eq!((empty.status.as_u16(), empty.body.len(), empty.header("content-length")), (204, 0, None));
    let proto = post(&server, "x", &json!({})).await.unwrap();
    assert_eq!(
        (proto.header("content-type"), &proto.body[..]),
        (Some("application/x-protobuf"), &[8, 1][..])
    );
    assert_eq!(post(&server, "x", &json!({})).await.unwrap().header("content-type"), Some("text/html"));
    assert_eq!(post(&server, "x", &json!({})).await.unwrap().json(), json!(6));
    server.verify().unwrap();
}

/// IS-3: one server under several base paths.
#[tokio::test(start_paused = true)]
async fn base_paths_are_stripped_and_kept_apart() {
    let server = echo();
    let transport = server.transport();
    let deep = server.url_with_path("/services/x");
    assert!(deep.starts_with(&server.url()) && deep.ends_with("/services/x"));
    post_over(&transport, &deep, "asample", &json!({})).await.unwrap();
    post_over(&transport, &server.url(), "asample", &json!({})).await.unwrap();
    let requests = server.requests("asample");
    assert_eq!(
        (requests[0].base_path.as_str(), requests[0].path.as_str()),
        ("/services/x", "/api/v1/asample")
    );
    assert_eq!((requests[1].base_path.as_str(), requests[1].path.as_str()), ("", "/api/v1/asample"));
    assert_eq!(requests[1].header("host"), server.url().strip_prefix("http://"));
}

#[test]
fn no_two_servers_have_the_same_address() {
    assert_ne!(echo().url(), echo().url());
}

/// A loop of calls that are answered at once must not starve other tasks.
#[tokio::test(start_paused = true)]
async fn calls_let_other_tasks_run() {
    let server = Arc::new(echo());
    let other = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.wait_for("x", 3).await }
    });
    while !other.is_finished() {
        assert!(server.count("x") < 100, "the other task never ran");
        post(&server, "x", &json!({})).await.unwrap();
    }
}
