//! Which version of HTTP is spoken over TLS, and how calls share connections where it is HTTP/2.

use std::collections::BTreeSet;

use http::Version;
use serde_json::json;
use tinkex_http::{CallClass, HttpVersionPolicy, RetryPolicy};
use tinkex_testkit::{Gate, Step, Tls};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::proxy::Proxy;
use crate::support::{PATIENCE, call, call_once, client, post, server, transport};

/// What is agreed upon is what both sides speak, the newest first.
#[tokio::test]
async fn versions_are_agreed_upon() {
    let (both, old) = (Tls::default(), Tls::default().http1_only());
    for (name, tls, policy, spoken) in [
        ("both", &both, HttpVersionPolicy::Auto, Version::HTTP_2),
        ("an old server", &old, HttpVersionPolicy::Auto, Version::HTTP_11),
        ("a client that is told so", &both, HttpVersionPolicy::Http1Only, Version::HTTP_11),
        ("a client that knows", &both, HttpVersionPolicy::Http2PriorKnowledge, Version::HTTP_2),
    ] {
        let server = server();
        let socket = server.listen_tls(tls).await.unwrap();
        let transport = transport(socket.authority()).http_version(policy).build().unwrap();
        let client = client(&socket.url(), &transport);
        assert_eq!(transport.multiplexes(), policy == HttpVersionPolicy::Http2PriorKnowledge, "{name}");
        for _ in 0..100 {
            call(&client).await.unwrap();
        }
        assert!(server.requests("op").iter().all(|request| request.version == spoken), "{name}");
        assert_eq!(transport.multiplexes(), spoken == Version::HTTP_2, "{name}");
        // One call after another: over HTTP/2 the first call finds out, and the others have a connection of their own.
        let found_out = policy == HttpVersionPolicy::Auto && spoken == Version::HTTP_2;
        let expected = if found_out { vec![1, 99] } else { vec![100] };
        assert_eq!(server.requests_per_connection(), expected, "{name}");
    }
}

/// PROTOCOL 8: at most 50 calls share a connection, so 500 long polls have ten, with one handshake each; a heartbeat
/// has another.
#[tokio::test]
async fn long_polls_share_connections() {
    let server = server();
    let hold = Gate::new();
    server.script("retrieve_future", [Step::json(json!({"ok": true})).gate(&hold).repeat(500)]);
    let socket = server.listen_tls(&Tls::default()).await.unwrap();
    let transport = transport(socket.authority()).build().unwrap();
    let client = client(&socket.url(), &transport);
    timeout(PATIENCE, async {
        call(&client).await.unwrap();
        let mut polls = JoinSet::new();
        for _ in 0..500 {
            let client = client.clone();
            polls.spawn(async move {
                client.send(&post("retrieve_future").class(CallClass::LongPoll)).await.map(|_| ())
            });
        }
        hold.arrived(500).await;
        client.send(&post("session_heartbeat").class(CallClass::Control)).await.unwrap();
        hold.open();
        while let Some(poll) = polls.join_next().await {
            poll.unwrap().unwrap();
        }
    })
    .await
    .unwrap();
    let on = |route| server.requests(route).iter().map(|request| request.connection).collect::<BTreeSet<_>>();
    let (polls, beats) = (on("retrieve_future"), on("session_heartbeat"));
    assert_eq!((polls.len(), beats.len()), (10, 1));
    assert!(polls.is_disjoint(&beats));
    assert_eq!(server.connections(), 12, "one more was for finding out, and none was made in vain");
    assert!(server.all_requests().iter().all(|request| request.version == Version::HTTP_2));
}

/// A service that ceases to speak HTTP/2 (another balancer, an old one brought back) costs an attempt, not the client.
#[tokio::test]
async fn a_service_may_go_back_to_http1() {
    let (new, old) = (server(), server());
    let (new_socket, old_socket) = (
        new.listen_tls(&Tls::default()).await.unwrap(),
        old.listen_tls(&Tls::default().http1_only()).await.unwrap(),
    );
    let proxy = Proxy::start(new_socket.address(), None).await;
    let transport = transport(new_socket.authority())
        .authority(old_socket.authority().unwrap().to_owned())
        .proxy(format!("http://{}", proxy.address()))
        .build()
        .unwrap();
    let client = client("https://localhost:9", &transport);
    call(&client).await.unwrap();
    call(&client).await.unwrap();
    assert!(transport.multiplexes());
    proxy.send_to(old_socket.address());
    drop(new_socket);
    let request = post("op").policy(RetryPolicy::default());
    timeout(PATIENCE, client.send(&request)).await.unwrap().unwrap();
    assert_eq!((new.count("op"), old.count("op")), (2, 1));
    assert!(!transport.multiplexes());
    call_once(&client).await.unwrap();
    assert_eq!(old.requests("op")[1].version, Version::HTTP_11);
}
