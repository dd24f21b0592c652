//! The ready-made transport on real sockets: real time, few, bounded.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tinkex_http::{
    ApiKey, ApiRequest, CallClass, HttpClient, HttpClientBuilder, HttpErrorKind, HttpVersionPolicy, Jitter,
    ReqwestTransport, RetryPolicy, SharedTransport,
};
use tinkex_testkit::{FakeServer, Gate, Step, conformance};
use tokio::time::timeout;
use wiremock::matchers::{body_json, header, header_exists, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::{KEY, ROUTE, ms, ok, post, secs, server};

/// Nothing here takes longer than this.
const PATIENCE: Duration = Duration::from_secs(20);

fn transport() -> SharedTransport {
    SharedTransport::new(ReqwestTransport::new().unwrap())
}

fn client_of(url: &str) -> HttpClientBuilder {
    HttpClient::builder(url.parse().unwrap(), transport())
        .auth(Arc::new(ApiKey::new(KEY).unwrap()))
        .jitter(Jitter::seeded(7))
}

/// Tries once.
fn once() -> ApiRequest {
    post().policy(RetryPolicy::none())
}

#[tokio::test]
async fn conforms_to_the_contract_of_transports() {
    conformance::transport(&ReqwestTransport::new().unwrap()).await.unwrap();
}

/// One connection serves one call after another.
#[tokio::test]
async fn connections_are_reused() {
    let server = server();
    server.script(ROUTE, [Step::status(400), ok().gzip(), ok().repeat(3)]);
    let socket = server.listen().await.unwrap();
    let client = client_of(&socket.url()).build().unwrap();
    timeout(PATIENCE, async {
        client.send(&post()).await.unwrap_err();
        for _ in 0..4 {
            client.send(&post()).await.unwrap();
        }
    })
    .await
    .unwrap();
    assert_eq!(server.requests_per_connection(), [5]);
}

/// A hundred calls one after another have one connection; with eight at a time there are no more than eight.
#[tokio::test]
async fn calls_make_no_more_connections_than_they_need() {
    for (at_once, most) in [(1, 1), (8, 8)] {
        let server = server();
        server.script(ROUTE, [ok().repeat(100)]);
        let socket = server.listen().await.unwrap();
        let client = client_of(&socket.url()).build().unwrap();
        let places = Arc::new(tokio::sync::Semaphore::new(at_once));
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let (client, places) = (client.clone(), Arc::clone(&places));
            calls.spawn(async move {
                let _place = places.acquire().await.unwrap();
                client.send(&post()).await.unwrap();
            });
        }
        timeout(PATIENCE, calls.join_all()).await.unwrap();
        assert_eq!(server.count(ROUTE), 100);
        assert!((1..=most).contains(&server.connections()), "{} connections", server.connections());
    }
}

/// PROTOCOL 7.3: after a rejection by the edge a class of calls has fresh connections, also where the old one would
/// still do; other classes keep theirs, and a call in flight finishes.
#[tokio::test]
async fn a_rejection_by_the_edge_makes_a_fresh_connection() {
    for version in [HttpVersionPolicy::Http1Only, HttpVersionPolicy::Http2PriorKnowledge] {
        let server = server();
        let hold = Gate::new();
        let rejection = Step::status(400).body("").header("retry-after-ms", "1");
        server.script("held", [ok().gate(&hold)]);
        server.script(ROUTE, [ok().repeat(2), rejection, ok().repeat(3)]);
        let socket = server.listen().await.unwrap();
        let transport = ReqwestTransport::builder().http_version(version).build().unwrap();
        let client = HttpClient::builder(socket.url().parse().unwrap(), SharedTransport::new(transport))
            .policy(
                RetryPolicy::default().backoff(tinkex_http::Backoff { base: ms(1), ..Default::default() }),
            )
            .build()
            .unwrap();
        let held = ApiRequest::get("held", "/api/v1/held");
        timeout(PATIENCE, async {
            client.send(&post().class(CallClass::Control)).await.unwrap();
            client.send(&post()).await.unwrap();
            let in_flight = tokio::spawn({
                let client = client.clone();
                async move { client.send(&held).await.unwrap() }
            });
            hold.arrived(1).await;
            assert_eq!(client.send(&post()).await.unwrap().attempts, 2);
            client.send(&post()).await.unwrap();
            client.send(&post().class(CallClass::Control)).await.unwrap();
            hold.open();
            in_flight.await.unwrap();
        })
        .await
        .unwrap();
        let on: Vec<_> = server.requests(ROUTE).iter().map(|request| request.connection).collect();
        assert_eq!((on[0], on[3]), (on[5], on[4]), "{version:?}: {on:?}");
        assert!(!on[..3].contains(&on[3]), "{version:?}: {on:?}");
    }
}

/// Each class of calls has connections of its own: a heartbeat does not queue behind long polls and uploads.
#[tokio::test]
async fn classes_do_not_share_connections() {
    let server = server();
    server.script(ROUTE, [ok().repeat(8)]);
    let socket = server.listen().await.unwrap();
    let client = client_of(&socket.url()).build().unwrap();
    timeout(PATIENCE, async {
        for class in CallClass::ALL.iter().chain(&CallClass::ALL) {
            client.send(&post().class(*class)).await.unwrap();
        }
    })
    .await
    .unwrap();
    assert_eq!(server.requests_per_connection(), [2; 4]);
}

/// A control call gets through while the server holds a hundred long polls.
#[tokio::test]
async fn long_polls_do_not_starve_control_calls() {
    let server = server();
    let hold = Gate::new();
    server.script("retrieve_future", [ok().gate(&hold).repeat(100)]);
    server.script("session_heartbeat", [ok()]);
    let socket = server.listen().await.unwrap();
    let client = client_of(&socket.url()).build().unwrap();
    let request = |operation, class| {
        ApiRequest::post_json(operation, format!("/api/v1/{operation}"), &json!({})).unwrap().class(class)
    };
    timeout(PATIENCE, async {
        let mut polls = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let (client, request) = (client.clone(), request("retrieve_future", CallClass::LongPoll));
            polls.spawn(async move { client.send(&request).await });
        }
        hold.arrived(100).await;
        client.send(&request("session_heartbeat", CallClass::Control)).await.unwrap();
        hold.open();
        while let Some(poll) = polls.join_next().await {
            poll.unwrap().unwrap();
        }
    })
    .await
    .unwrap();
}

/// Nobody listens: never sent.
#[tokio::test]
async fn a_refused_port_is_a_connect_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = client_of(&format!("http://{address}")).build().unwrap();
    let error = timeout(PATIENCE, client.send(&once())).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), HttpErrorKind::Connect);
    assert_eq!(error.delivery(), tinkex_http::Delivery::NeverSent);
    assert!(error.message().starts_with(&format!("cannot connect to {address}: ")), "{error}");
    assert!(error.message().to_lowercase().contains("refused"), "{error}");
    assert!(!format!("{error:?}").contains("http://"), "the URL stays out: {error:?}");
}

/// A name that nobody has: said in plain words, at once where the system says so.
#[tokio::test]
async fn an_unknown_name_is_a_connect_error() {
    // Longer than a label may be, so that no name server is asked.
    let host = format!("{}.invalid", "x".repeat(70));
    let client = client_of(&format!("http://{host}")).build().unwrap();
    let error = timeout(PATIENCE, client.send(&once())).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.is_permanent()), (HttpErrorKind::Connect, false));
    let said = format!("cannot connect to {host}:80: cannot resolve the name: ");
    assert!(error.message().starts_with(&said), "{error}");
}

/// A host that drops what it is sent: bounded by the time to connect, not by that of the attempt.
#[tokio::test]
async fn a_host_that_does_not_answer_is_bounded() {
    let full = tokio::net::TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = full.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    // Connections that nobody accepts fill the queue; what comes then is not answered.
    let mut waiting = Vec::new();
    while let Ok(connected) = timeout(ms(200), tokio::net::TcpStream::connect(address)).await {
        waiting.push(connected.unwrap());
    }
    let transport = ReqwestTransport::builder().connect_timeout(ms(200)).no_proxy().build().unwrap();
    let client =
        HttpClient::builder(format!("http://{address}").parse().unwrap(), SharedTransport::new(transport))
            .policy(
                RetryPolicy::default()
                    .max_retries(2)
                    .backoff(tinkex_http::Backoff { base: ms(1), ..Default::default() }),
            )
            .build()
            .unwrap();
    let error = timeout(PATIENCE, client.send(&post())).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (HttpErrorKind::Connect, 3));
    assert_eq!(error.delivery(), tinkex_http::Delivery::NeverSent);
    assert!(error.message().contains("no connection within 0.2 s; check the base URL"), "{error}");
    assert!(error.elapsed() >= ms(600) && error.elapsed() < secs(10), "{error}");
}

/// What goes wrong on the wire has the kind that says what it means for a retry.
#[tokio::test]
async fn faults_on_the_wire_have_their_kinds() {
    for (step, kind) in [
        (Step::reset(), HttpErrorKind::Interrupted),
        (Step::close_before_headers(), HttpErrorKind::Interrupted),
        (ok().then_close_mid_body(3), HttpErrorKind::Interrupted),
        (ok().then_wrong_content_length(), HttpErrorKind::Interrupted),
        (ok().gzip().then_close_mid_body(5), HttpErrorKind::Interrupted),
        (Step::garbage("SSH-2.0-OpenSSH_9.6\r\n"), HttpErrorKind::Decode),
        (Step::garbage("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"), HttpErrorKind::Decode),
        (ok().header("content-encoding", "gzip"), HttpErrorKind::Decode),
        (Step::hang(), HttpErrorKind::Timeout),
        (ok().then_stall_after_headers(), HttpErrorKind::Timeout),
    ] {
        let server = server();
        server.script(ROUTE, [step.clone()]);
        let socket = server.listen().await.unwrap();
        let client = client_of(&socket.url()).build().unwrap();
        let slow = matches!(kind, HttpErrorKind::Timeout);
        let request = once().timeout(if slow { ms(100) } else { secs(10) });
        let error = timeout(PATIENCE, client.send(&request)).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), kind, "{step:?}: {error}");
    }
}

/// A broken connection is not used again, and the call goes on over a new one.
#[tokio::test]
async fn a_call_survives_a_broken_connection() {
    let server = server();
    let hint = |step: Step| step.header("retry-after-ms", "1");
    server.script(ROUTE, [ok(), Step::reset(), hint(Step::status(503)), ok().then_close_mid_body(2), ok()]);
    let socket = server.listen().await.unwrap();
    let backoff = tinkex_http::Backoff { base: ms(1), ..Default::default() };
    let client = client_of(&socket.url()).policy(RetryPolicy::default().backoff(backoff)).build().unwrap();
    timeout(PATIENCE, client.send(&post())).await.unwrap().unwrap();
    let response = timeout(PATIENCE, client.send(&post())).await.unwrap().unwrap();
    assert_eq!(response.attempts, 4);
    server.assert_idempotency_pattern(ROUTE);
}

/// Compressed answers, in pieces or whole.
#[tokio::test]
async fn compressed_answers_are_read() {
    let server = server();
    let long = json!({"text": "ab".repeat(200_000)});
    let mut steps = vec![Step::json(long.clone()).gzip(), Step::json(long.clone())];
    if cfg!(feature = "zstd") {
        steps.push(Step::json(long.clone()).zstd());
    }
    let calls = steps.len();
    server.script(ROUTE, steps);
    let socket = server.listen().await.unwrap();
    let client = client_of(&socket.url()).build().unwrap();
    for _ in 0..calls {
        let response = timeout(PATIENCE, client.send(&post())).await.unwrap().unwrap();
        assert_eq!(response.json::<serde_json::Value>().unwrap(), long);
    }
}

/// Two servers side by side: each sees its own traffic; a redirect between them carries no key.
#[tokio::test]
async fn two_servers_side_by_side() {
    let (home, abroad): (FakeServer, FakeServer) = (server(), server());
    let (home_socket, abroad_socket) = (home.listen().await.unwrap(), abroad.listen().await.unwrap());
    let there = format!("{}/api/v1/there", abroad_socket.url());
    home.script(ROUTE, [Step::status(307).header("location", &there), ok()]);
    abroad.script("there", [ok()]);
    let client = client_of(&home_socket.url()).build().unwrap();
    for _ in 0..2 {
        timeout(PATIENCE, client.send(&post())).await.unwrap().unwrap();
    }
    assert_eq!((home.count("**"), abroad.count("**")), (2, 1));
    assert_eq!(home.requests(ROUTE)[1].header("x-api-key"), Some(KEY));
    assert_eq!(abroad.requests("there")[0].header("x-api-key"), None);
    assert_eq!(abroad.requests("there")[0].json(), Some(&json!({"n": 1})));
}

/// Headers as an independent server reads them off the wire.
#[tokio::test]
async fn headers_arrive_as_they_were_meant() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/base/api/v1/op"))
        .and(header("x-api-key", KEY))
        .and(header("content-type", "application/json"))
        .and(header("accept", "application/json"))
        .and(header("x-stainless-retry-count", "0"))
        .and(header("x-stainless-read-timeout", "60"))
        .and(header("content-length", "7"))
        .and(header_exists("x-idempotency-key"))
        .and(header_exists("user-agent"))
        .and(header_exists("accept-encoding"))
        .and(body_json(json!({"n": 1})))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({"ok": true})))
        .expect(1)
        .mount(&server)
        .await;
    let client = client_of(&format!("{}/base/", server.uri())).build().unwrap();
    let response = timeout(PATIENCE, client.send(&once())).await.unwrap().unwrap();
    assert_eq!(response.json::<serde_json::Value>().unwrap()["ok"], true);
    let received = server.received_requests().await.unwrap();
    for name in received[0].headers.keys() {
        assert_eq!(received[0].headers.get_all(name).iter().count(), 1, "{name} is sent once");
    }
}

/// Retries over an independent server.
#[tokio::test]
async fn retries_over_an_independent_server() {
    let server = MockServer::start().await;
    Mock::given(header("x-stainless-retry-count", "0"))
        .respond_with(ResponseTemplate::new(429).insert_header("Retry-After-Ms", "20"))
        .expect(1)
        .mount(&server)
        .await;
    Mock::given(header("x-stainless-retry-count", "1"))
        .respond_with(ResponseTemplate::new(204))
        .expect(1)
        .mount(&server)
        .await;
    let client = client_of(&server.uri()).build().unwrap();
    let response = timeout(PATIENCE, client.send(&post())).await.unwrap().unwrap();
    assert_eq!((response.status.as_u16(), response.attempts), (204, 2));
    assert!(response.elapsed >= ms(20));
}
