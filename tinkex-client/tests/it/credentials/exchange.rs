//! The exchange, when all goes well and when tokens are rejected (PROTOCOL 3.4, 4.3).

use futures_util::future::join_all;
use serde_json::json;
use tinkex_client::{ErrorKind, FinishReason, ServiceClient};
use tinkex_testkit::{Gate, Step};
use tokio::time::Instant;

use super::{HOUR, MINUTE, SECOND, builder, exchanging, keys, routes};
use crate::harness::{self, MODEL};

/// PROTOCOL 4.3: flags with the key, then the exchange, then everything else with the token, and one token for all.
#[tokio::test(start_paused = true)]
async fn start_up_and_everything_after() {
    let (_behind, server, wall) = exchanging();
    let service = builder(&server, &wall).build().await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    sampler.sample(harness::request(&[1])).await.unwrap();
    service.rest_client().server_capabilities().await.unwrap();
    tokio::time::sleep(15 * SECOND).await;
    service.close(FinishReason::Success).await.unwrap();
    let routes = routes(&server);
    assert_eq!(routes[..4], ["client/config", "auth/token", "client/dynamic_config", "create_session"]);
    assert!(routes.iter().any(|route| route == "session_heartbeat"));
    assert_eq!(server.count("auth/token"), 1);
    let exchange = &server.requests("auth/token")[0];
    assert_eq!(exchange.json(), Some(&json!({})));
    assert!(exchange.idempotency_key().is_some());
    let mut tokens = Vec::new();
    for request in server.all_requests() {
        let key = request.header("x-api-key").unwrap().to_owned();
        match request.route() {
            "client/config" | "auth/token" => assert_eq!(key, "tml-test"),
            _ => tokens.push(key),
        }
    }
    tokens.dedup();
    assert!(tokens.len() == 1 && tokens[0].starts_with("eyJ"), "{tokens:?}");
}

/// A connection that is tried again asks for the flags with the key again, and keeps the token it has.
#[tokio::test(start_paused = true)]
async fn connecting_again() {
    let (_behind, server, wall) = exchanging();
    server.script("create_session", [Step::status(403)]).then_behave();
    let service = builder(&server, &wall).connect_lazily().build().await.unwrap();
    let create = || service.sampling_client().base_model(MODEL).create();
    assert_eq!(create().await.unwrap_err().status(), Some(403));
    create().await.unwrap();
    assert_eq!(keys(&server, "client/config"), ["tml-test", "tml-test"]);
    assert_eq!(server.count("auth/token"), 1);
}

/// PROTOCOL 15.7: whoever opens a sampler handle is told by its flags to exchange its own credential, first thing.
#[tokio::test(start_paused = true)]
async fn a_sampler_handle_opened_elsewhere() {
    let (_behind, server, wall) = exchanging();
    let service = builder(&server, &wall).build().await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    let handle = sampler.handle();
    assert!(!handle.to_string().contains("eyJhbGci"), "no token in a handle");
    let before = server.all_requests().len();
    let elsewhere = ServiceClient::builder().api_key("tml-other").transport(server.transport());
    let elsewhere = elsewhere.without_telemetry();
    let opened = elsewhere.wall_clock(wall.clock()).open_sampler(&handle).await.unwrap();
    opened.sample(harness::request(&[1])).await.unwrap();
    let later: Vec<_> = server.all_requests()[before..].to_vec();
    let later: Vec<_> = later.iter().map(|request| request.route()).collect();
    assert_eq!(later, ["auth/token", "asample", "retrieve_future"]);
    assert_eq!(keys(&server, "auth/token"), ["tml-test", "tml-other"]);
}

/// A thousand calls that find the token all but expired wait for one exchange.
#[tokio::test(start_paused = true)]
async fn single_flight() {
    let (behind, server, wall) = exchanging();
    let service = builder(&server, &wall).build().await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    wall.jump(3600 - 50);
    let gate = Gate::new();
    server.script("auth/token", [Step::behave().gate(&gate)]).then_behave();
    let handles: Vec<_> = (0..1000).map(|n| sampler.sample(harness::request(&[n]))).collect();
    gate.arrived(1).await;
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.count("asample"), 0, "all of them wait");
    gate.open();
    assert!(join_all(handles).await.iter().all(Result::is_ok));
    assert_eq!(server.count("auth/token"), 2);
    assert_eq!(server.max_in_flight("auth/token"), 1);

    // The same where the server rejects what they all have.
    behind.revoke_tokens();
    let handles: Vec<_> = (0..1000).map(|n| sampler.sample(harness::request(&[n]))).collect();
    let replies = join_all(handles).await;
    assert!(replies.iter().all(Result::is_ok), "{:?}", replies.iter().find(|reply| reply.is_err()));
    assert_eq!(server.count("auth/token"), 3);
    server.assert_contiguous_seq_ids("asample");
}

/// A token that is about to expire when it arrives is exchanged before every use (PROTOCOL 3.4).
#[tokio::test(start_paused = true)]
async fn near_expiry() {
    let (behind, server, wall) = exchanging();
    behind.set_token_lifetime(30 * SECOND);
    let service = builder(&server, &wall).build().await.unwrap();
    let expected = ["client/config", "auth/token", "client/dynamic_config", "auth/token", "create_session"];
    assert_eq!(routes(&server), expected);
    // Those who wait for the same exchange take what it brings, however little it has left.
    behind.set_latency(MINUTE);
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    let before = server.count("auth/token");
    let handles: Vec<_> = (0..100).map(|n| sampler.sample(harness::request(&[n]))).collect();
    server.wait_for("asample", 100).await;
    let exchanges = server.count("auth/token") - before;
    assert!((1..=20).contains(&exchanges), "{exchanges} exchanges for 100 samples");
    drop(handles);
}

/// A rejected token is replaced and the same request replayed, once: same body, key and count. A second rejection is the
/// caller's.
#[tokio::test(start_paused = true)]
async fn a_rejected_token() {
    let (behind, server, wall) = exchanging();
    let service = builder(&server, &wall).build().await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    behind.reject_next_token();
    sampler.sample(harness::request(&[1])).await.unwrap();
    let sent = server.requests("asample");
    assert_eq!(sent.len(), 2);
    assert_eq!((&sent[0].body, sent[0].idempotency_key()), (&sent[1].body, sent[1].idempotency_key()));
    assert!(sent.iter().all(|request| request.header("x-stainless-retry-count") == Some("0")));
    assert_ne!(sent[0].header("x-api-key"), sent[1].header("x-api-key"));
    assert_eq!(server.count("auth/token"), 2);

    behind.reject_next_token();
    behind.reject_next_token();
    let error = service.rest_client().server_capabilities().await.unwrap_err();
    assert_eq!((error.kind(), error.status(), error.attempts()), (ErrorKind::Status, Some(401), 1));
    assert_eq!(server.count("get_server_capabilities"), 2);
    assert_eq!(server.count("auth/token"), 3);
}

/// A poll whose token is rejected goes on with another, in the same iteration.
#[tokio::test(start_paused = true)]
async fn a_rejected_token_of_a_poll() {
    let (_behind, server, wall) = exchanging();
    let service = builder(&server, &wall).build().await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    let invalid = Step::status(401).header("www-authenticate", r#"Bearer error="invalid_token""#);
    server.script("retrieve_future", [invalid]).then_behave();
    sampler.sample(harness::request(&[1])).await.unwrap();
    let polls = server.requests("retrieve_future");
    let iterations: Vec<_> = polls.iter().map(|p| p.header("x-tinker-request-iteration").unwrap()).collect();
    assert_eq!(iterations, ["0", "0"]);
    assert_ne!(polls[0].header("x-api-key"), polls[1].header("x-api-key"));
    assert_eq!(server.count("auth/token"), 2);
}

/// The key that stands behind the tokens decides which calls share a backoff window, not the token.
#[tokio::test(start_paused = true)]
async fn tokens_do_not_part_those_of_one_key() {
    let (_behind, server, wall) = exchanging();
    let one = builder(&server, &wall).build().await.unwrap();
    let other = builder(&server, &wall).build().await.unwrap();
    assert_eq!(server.count("auth/token"), 2);
    let sampler = one.sampling_client().base_model(MODEL).create().await.unwrap();
    server.script("asample", [Step::status(429).header("retry-after-ms", "5000")]).then_behave();
    let began = Instant::now();
    let handle = sampler.sample(harness::request(&[1]));
    server.wait_for("asample", 1).await;
    tokio::time::sleep(SECOND / 100).await;
    assert!(one.in_backoff() && other.in_backoff());
    handle.await.unwrap();
    assert!(began.elapsed() < HOUR);
}
