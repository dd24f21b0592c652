//! The exchange failing in every way (PROTOCOL 3.4).

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tinkex_client::{ErrorKind, RetryPolicy};
use tinkex_testkit::Step;
use tokio::time::Instant;

use super::{SECOND, builder, exchanging};
use crate::harness::{self, MODEL};

/// A refused credential is an error at once: it names the exchange, the status and what to do, and is not worth a retry.
#[tokio::test(start_paused = true)]
async fn a_refused_credential() {
    let (behind, server, wall) = exchanging();
    behind.refuse_exchange(Some(401));
    let error = builder(&server, &wall).build().await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Auth, Some(401)));
    assert!(error.is_user_error() && !error.is_retryable());
    let text = error.to_string();
    assert!(text.contains("auth/token: HTTP 401") && text.contains("check the API key"), "{text}");
    assert_eq!((server.count("auth/token"), server.count("create_session")), (1, 0));
}

/// A server that is down is asked again as the policy says, and that is all: the call in front does not repeat it.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_down() {
    let (behind, server, wall) = exchanging();
    server.script("auth/token", [Step::status(503), Step::reset(), Step::refuse()]).then_behave();
    let service = builder(&server, &wall).build().await.unwrap();
    assert_eq!(server.count("auth/token"), 4);
    drop(service);

    behind.refuse_exchange(Some(503));
    let before = server.count("auth/token");
    let policy = RetryPolicy::default().max_retries(2);
    let error = builder(&server, &wall).retry_policy(policy).build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth);
    assert!(error.is_retryable() && !error.is_user_error(), "it may be back later");
    assert_eq!(server.count("auth/token") - before, 3);
    assert!(error.to_string().contains("limit of 2 retries"), "{error}");
}

/// A hanging exchange is cut off after 60 s and made again.
#[tokio::test(start_paused = true)]
async fn a_hanging_exchange() {
    let (_behind, server, wall) = exchanging();
    server.script("auth/token", [Step::hang()]).then_behave();
    let began = Instant::now();
    let _service = builder(&server, &wall).build().await.unwrap();
    let took = began.elapsed().as_secs_f64();
    assert!((60.0..61.0).contains(&took), "{took} s");
}

/// Answers that are no token are errors that do not quote them, and are not repeated.
#[tokio::test(start_paused = true)]
async fn garbage() {
    let garbage = [
        "eyJhbGciOi.secret",
        r#""eyJhbGciOi.secret""#,
        r#"{"jwt": 5}"#,
        r#"{"jwt": {"token": "eyJhbGciOi.secret"}}"#,
        r#"{"token": "eyJhbGciOi.secret"}"#,
        r#"{"jwt": ""}"#,
        r#"{"jwt": "eyJhbGciOi secret"}"#,
        "{\"jwt\": \"eyJhbGciOi\\nsecret\"}",
        "",
        "<html><title>Bad gateway</title></html>",
    ];
    for body in garbage {
        let (_behind, server, wall) = exchanging();
        server.script("auth/token", [Step::raw(body, "application/json")]);
        let error = builder(&server, &wall).build().await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert_eq!(error.kind(), ErrorKind::Auth, "{text}");
        assert!(text.contains("auth/token: the answer"), "{text}");
        assert!(!text.contains("secret") && !text.contains("eyJ"), "{text}");
        assert_eq!(server.count("create_session"), 0);
    }
}

/// A token whose claims nobody can read is used, and exchanged before every use.
#[tokio::test(start_paused = true)]
async fn an_opaque_token() {
    let (behind, server, wall) = exchanging();
    behind.demand_tokens(false);
    server.script("auth/token", [Step::json(json!({ "jwt": "opaque" })).repeat(2)]);
    let _service = builder(&server, &wall).build().await.unwrap();
    assert_eq!(super::keys(&server, "create_session"), ["opaque"]);
    server.verify().unwrap();
}

/// With an exchange that fails, a token that is about to expire is used to its end; then calls fail, and all that wait for
/// one exchange share its failure.
#[tokio::test(start_paused = true)]
async fn the_cached_token_is_the_reserve() {
    let (behind, server, wall) = exchanging();
    let policy = RetryPolicy::default().max_retries(1);
    let service = builder(&server, &wall).retry_policy(policy).build().await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    wall.jump(3600 - 40);
    behind.refuse_exchange(Some(503));
    let began = Instant::now();
    sampler.sample(harness::request(&[1])).await.unwrap();
    assert!(began.elapsed() < 2 * SECOND, "{:?}", began.elapsed());
    // A server that says nothing at all has half of what is left.
    behind.refuse_exchange(None);
    server.script("auth/token", [Step::hang()]).then_behave();
    let began = Instant::now();
    sampler.sample(harness::request(&[1])).await.unwrap();
    let took = began.elapsed();
    assert!(took > Duration::from_secs(15) && took < Duration::from_secs(21), "{took:?}");

    wall.jump(7200);
    behind.refuse_exchange(Some(503));
    let before = server.count("auth/token");
    let replies = join_all((0..200).map(|n| sampler.sample(harness::request(&[n])))).await;
    assert!(replies.iter().all(|reply| reply.as_ref().is_err_and(|error| error.kind() == ErrorKind::Auth)));
    let asked = server.count("auth/token") - before;
    assert!((2..=6).contains(&asked), "{asked} attempts for 200 calls");
    behind.refuse_exchange(None);
    sampler.sample(harness::request(&[1])).await.unwrap();
}

/// A credential that is refused is told to the caller, although the cached token is still good (PROTOCOL 3.4).
#[tokio::test(start_paused = true)]
async fn a_refusal_is_not_papered_over() {
    let (behind, server, wall) = exchanging();
    let service = builder(&server, &wall).build().await.unwrap();
    wall.jump(3600 - 40);
    behind.refuse_exchange(Some(401));
    let error = service.rest_client().server_capabilities().await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Auth, Some(401)));
    assert_eq!(server.count("get_server_capabilities"), 0);
}

/// A poll whose credential is refused ends as it does with a 401 of its own; it is not waited for as an outage is.
#[tokio::test(start_paused = true)]
async fn a_refused_credential_ends_a_poll() {
    let (behind, server, wall) = exchanging();
    behind.set_latency(super::HOUR);
    let service = builder(&server, &wall).build().await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    let handle = sampler.sample(harness::request(&[1]));
    server.wait_for("retrieve_future", 1).await;
    wall.jump(3600 - 40);
    behind.refuse_exchange(Some(401));
    let began = Instant::now();
    let error = handle.await.unwrap_err();
    assert_eq!(error.status(), Some(401), "{error}");
    assert!(began.elapsed() < 60 * SECOND, "{:?}", began.elapsed());
}

/// The call's own deadline holds while a token is fetched, and whoever gives up leaves the exchange to the next.
#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up() {
    let (_behind, server, wall) = exchanging();
    let service = builder(&server, &wall).build().await.unwrap();
    wall.jump(2 * 3600);
    server.script("auth/token", [Step::hang()]).then_behave();
    let rest = service.rest_client();
    let given_up = tokio::time::timeout(SECOND, rest.server_capabilities()).await;
    assert!(given_up.is_err());
    let began = Instant::now();
    rest.server_capabilities().await.unwrap();
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
}
