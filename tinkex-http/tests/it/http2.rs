//! The ready-made transport over HTTP/2, on real sockets in real time: calls share connections, but not too many, and
//! what breaks one is survived.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Version;
use tinkex_http::{
    ApiRequest, Backoff, CallClass, HttpClient, HttpErrorKind, HttpVersionPolicy, Jitter, ReqwestTransport,
    RetryPolicy, SharedTransport,
};
use tinkex_testkit::{FakeServer, Gate, Step};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{ROUTE, ms, ok, post, server};

/// Nothing here takes longer than this.
const PATIENCE: Duration = Duration::from_secs(30);

fn client(url: &str) -> HttpClient {
    let transport = ReqwestTransport::builder()
        .http_version(HttpVersionPolicy::Http2PriorKnowledge)
        .no_proxy()
        .build()
        .unwrap();
    let quick = RetryPolicy::default().backoff(Backoff { base: ms(1), ..Backoff::default() });
    HttpClient::builder(url.parse().unwrap(), SharedTransport::new(transport))
        .policy(quick)
        .jitter(Jitter::seeded(7))
        .build()
        .unwrap()
}

fn call(route: &'static str, class: CallClass) -> ApiRequest {
    ApiRequest::post_bytes(route, format!("/api/v1/{route}"), "{}", "application/json".parse().unwrap())
        .class(class)
}

/// The connections that the requests of a route came on.
fn connections(server: &FakeServer, route: &str) -> BTreeSet<u64> {
    server.requests(route).iter().map(|request| request.connection).collect()
}

/// Calls of a client at once, each of which must succeed.
fn start(client: &HttpClient, request: &ApiRequest, calls: usize) -> JoinSet<()> {
    let mut started = JoinSet::new();
    for _ in 0..calls {
        let (client, request) = (client.clone(), request.clone());
        started.spawn(async move {
            client.send(&request).await.unwrap();
        });
    }
    started
}

#[tokio::test]
async fn one_connection_serves_one_call_after_another() {
    let server = server();
    server.script(ROUTE, [ok().repeat(100)]);
    let socket = server.listen().await.unwrap();
    let client = client(&socket.url());
    for _ in 0..100 {
        timeout(PATIENCE, client.send(&post())).await.unwrap().unwrap();
    }
    assert_eq!(server.requests_per_connection(), [100]);
    assert!(server.requests(ROUTE).iter().all(|request| request.version == Version::HTTP_2));
}

/// PROTOCOL 8: at most 50 calls share a connection. 500 long polls have ten; heartbeats travel on another, and get
/// through while the server holds all of them.
#[tokio::test]
async fn long_polls_share_connections_and_heartbeats_have_their_own() {
    let server = server();
    let hold = Gate::new();
    server.script("retrieve_future", [ok().gate(&hold).repeat(500)]);
    server.script("session_heartbeat", [ok().repeat(3)]);
    let socket = server.listen().await.unwrap();
    let client = client(&socket.url());
    timeout(PATIENCE, async {
        let polls = start(&client, &call("retrieve_future", CallClass::LongPoll), 500);
        hold.arrived(500).await;
        for _ in 0..3 {
            client.send(&call("session_heartbeat", CallClass::Control)).await.unwrap();
        }
        hold.open();
        polls.join_all().await;
    })
    .await
    .unwrap();
    let (polls, beats) = (connections(&server, "retrieve_future"), connections(&server, "session_heartbeat"));
    assert_eq!((polls.len(), beats.len(), server.connections()), (10, 1, 11));
    assert!(polls.is_disjoint(&beats));
    assert!(server.requests_per_connection().iter().all(|requests| *requests <= 50));
}

/// A place on a connection is given back when a call ends, and when it is dropped: before its head, and in its body.
#[tokio::test]
async fn places_are_given_back() {
    let server = server();
    let hold = Gate::new();
    server.script(
        ROUTE,
        [ok().gate(&hold).repeat(50), ok().then_stall_after_headers().repeat(50), ok().repeat(50)],
    );
    let socket = server.listen().await.unwrap();
    let client = client(&socket.url());
    timeout(PATIENCE, async {
        let before_the_head = start(&client, &post(), 50);
        hold.arrived(50).await;
        drop(before_the_head);
        server.wait_for_in_flight(ROUTE, 0).await;
        let in_the_body = start(&client, &post(), 50);
        server.wait_for(ROUTE, 100).await;
        server.wait_for_in_flight(ROUTE, 50).await;
        drop(in_the_body);
        server.wait_for_in_flight(ROUTE, 0).await;
        start(&client, &post(), 50).join_all().await;
    })
    .await
    .unwrap();
    assert_eq!(server.requests_per_connection(), [150]);
}

/// A large body has a connection to itself while it is sent and answered; small calls do not wait behind it.
#[tokio::test]
async fn large_bodies_travel_alone() {
    let server = server();
    let hold = Gate::new();
    server.script("large", [ok().gate(&hold).repeat(3)]);
    server.script(ROUTE, [ok().repeat(20)]);
    let socket = server.listen().await.unwrap();
    let client = client(&socket.url());
    let body = vec![b'x'; 1 << 20];
    let large = ApiRequest::post_bytes("large", "/api/v1/large", body, "text/plain".parse().unwrap());
    timeout(PATIENCE, async {
        let held = start(&client, &large, 3);
        hold.arrived(3).await;
        start(&client, &post(), 20).join_all().await;
        hold.open();
        held.join_all().await;
    })
    .await
    .unwrap();
    let (large, small) = (connections(&server, "large"), connections(&server, ROUTE));
    assert_eq!((large.len(), small.len()), (3, 1));
    assert!(large.is_disjoint(&small));
}

/// A stream that is reset is its call's misfortune alone; a connection that goes away is that of all its calls. Both
/// are broken connections, and both are survived.
#[tokio::test]
async fn broken_streams_and_connections_are_interruptions() {
    for (step, connections) in [
        (Step::reset(), 1),
        (ok().then_close_mid_body(3), 1),
        (ok().then_wrong_content_length(), 1),
        (Step::close_before_headers(), 2),
    ] {
        let server = server();
        server.script(ROUTE, [step.clone(), ok(), step.clone(), ok()]);
        let socket = server.listen().await.unwrap();
        let client = client(&socket.url());
        let once = post().policy(RetryPolicy::none());
        let error = timeout(PATIENCE, client.send(&once)).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), HttpErrorKind::Interrupted, "{step:?}: {error}");
        timeout(PATIENCE, client.send(&once)).await.unwrap().unwrap();
        let response = timeout(PATIENCE, client.send(&post())).await.unwrap().unwrap();
        assert_eq!(response.attempts, 2, "{step:?}");
        let expected = if connections == 1 { 1 } else { 3 };
        assert_eq!(server.connections(), expected, "{step:?}");
    }
}

/// What else is on a connection that goes away is sent again, under the same identity.
#[tokio::test]
async fn calls_in_flight_survive_the_end_of_their_connection() {
    let server = server();
    let hold = Gate::new();
    server.script("retrieve_future", [Step::hang().repeat(20), ok().repeat(20)]);
    server.script(ROUTE, [Step::close_before_headers().gate(&hold), ok()]);
    let socket = server.listen().await.unwrap();
    let client = client(&socket.url());
    timeout(PATIENCE, async {
        let held = start(&client, &call("retrieve_future", CallClass::Normal), 20);
        server.wait_for_in_flight("retrieve_future", 20).await;
        let last = start(&client, &post(), 1);
        hold.arrived(1).await;
        hold.open();
        held.join_all().await;
        last.join_all().await;
    })
    .await
    .unwrap();
    assert_eq!(server.count("retrieve_future"), 40);
    let keys: BTreeSet<_> = server
        .requests("retrieve_future")
        .iter()
        .map(|request| request.idempotency_key().unwrap().to_owned())
        .collect();
    assert_eq!(keys.len(), 20);
    assert_eq!(server.connections(), 2);
}

/// A server that stops in good order (GOAWAY) finishes what it has; the next call finds the next server.
#[tokio::test]
async fn a_server_that_goes_away_is_left() {
    let server = server();
    let hold = Gate::new();
    server.script(ROUTE, [ok().gate(&hold), ok()]);
    let socket = server.listen().await.unwrap();
    let address = socket.address();
    let client = client(&socket.url());
    timeout(PATIENCE, async {
        let held = start(&client, &post(), 1);
        hold.arrived(1).await;
        let stopping = tokio::spawn(socket.shutdown());
        hold.open();
        held.join_all().await;
        stopping.await.unwrap();
        let _again = server.listen_on(address).await.unwrap();
        client.send(&post()).await.unwrap();
    })
    .await
    .unwrap();
    assert_eq!(server.requests_per_connection(), [1, 1]);
}
