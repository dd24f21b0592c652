//! Credentials: keys and their rules, and providers (PROTOCOL 3).

use std::error::Error as _;
use std::sync::Arc;

use http::HeaderValue;
use mockall::mock;
use secrecy::SecretString;
use tinkex_http::{
    ApiKey, AuthError, AuthProvider, BaseUrl, CredentialFuture, Delivery, HttpErrorKind, NoAuth,
};
use tinkex_testkit::Step;

use crate::support::{KEY, ROUTE, builder, ok, post, scripted, secs, server, steady};

mock! {
    #[derive(Debug)]
    Auth {}
    impl AuthProvider for Auth {
        fn credential(&self) -> CredentialFuture<'static>;
        fn identity(&self) -> SecretString;
    }
}

/// A provider that gives these answers, one an attempt.
fn giving(answers: Vec<Result<&'static str, &'static str>>) -> Arc<MockAuth> {
    let mut mock = MockAuth::new();
    mock.expect_identity().returning(|| SecretString::from(KEY));
    let times = answers.len();
    let mut answers = answers.into_iter();
    mock.expect_credential().times(times).returning(move || {
        let answer = answers.next().unwrap();
        let answer = answer.map(|key| Some(HeaderValue::from_static(key))).map_err(AuthError::new);
        Box::pin(std::future::ready(answer))
    });
    Arc::new(mock)
}

/// Bad input: missing and malformed keys.
#[test]
fn refuses_keys_that_cannot_be_sent() {
    for key in ["", "  ", "\n"] {
        let error = ApiKey::new(key).unwrap_err().to_string();
        assert_eq!(error, "API key is empty; set TINKER_API_KEY or pass api_key(..)", "{key:?}");
    }
    for key in ["tml-a b", "tml-a\nb", "tml-\u{e9}", "tml-\u{7f}", "tml-a\0"] {
        let error = ApiKey::new(key).unwrap_err().to_string();
        assert_eq!(error, "API key must be printable ASCII without blanks or line breaks", "{key:?}");
    }
    assert!(ApiKey::new(" tml-a\n").is_ok(), "blanks around a pasted key are dropped");
}

/// PROTOCOL 3.1: the production service takes its own forms of key; other servers take any (OPEN_SERVERS, decision 8).
#[test]
fn only_production_asks_for_a_prefix() {
    let production = BaseUrl::production();
    let elsewhere: BaseUrl = "http://127.0.0.1:8000".parse().unwrap();
    for (key, accepted) in [("tml-x", true), ("eyJhbGciOi", true), ("sk-x", false), ("TML-x", false)] {
        let key = ApiKey::new(key).unwrap();
        assert_eq!(key.check_for(&production).is_ok(), accepted, "{key:?}");
        assert!(key.check_for(&elsewhere).is_ok());
    }
    let error = ApiKey::new("sk-x").unwrap().check_for(&production).unwrap_err();
    assert_eq!(error.to_string(), "API key must begin with tml- for the production service");
}

#[tokio::test(start_paused = true)]
async fn the_credential_travels_in_its_header_and_none_is_none() {
    let (server, client) = scripted([ok()]);
    client.send(&post()).await.unwrap();
    assert_eq!(server.requests(ROUTE)[0].header("x-api-key"), Some(KEY));

    let server = self::server();
    server.script(ROUTE, [ok()]);
    let client = builder(&server).auth(Arc::new(NoAuth)).build().unwrap();
    client.send(&post()).await.unwrap();
    assert_eq!(server.requests(ROUTE)[0].header("x-api-key"), None);
}

/// PROTOCOL 3.4: a provider is asked once per attempt, so a credential may change between attempts.
#[tokio::test(start_paused = true)]
async fn a_credential_may_change_between_attempts() {
    let server = server();
    server.script(ROUTE, [Step::status(503), Step::status(503), ok()]);
    let auth = giving(vec![Ok("first"), Ok("second"), Ok("third")]);
    let client = builder(&server).auth(auth).build().unwrap();
    client.send(&post()).await.unwrap();
    let sent: Vec<_> =
        server.requests(ROUTE).iter().map(|r| r.header("x-api-key").unwrap().to_owned()).collect();
    assert_eq!(sent, ["first", "second", "third"]);
    server.assert_idempotency_pattern(ROUTE);
}

/// PROTOCOL 3.4: an error of the provider is surfaced as it is and not retried. No attempt was made.
#[tokio::test(start_paused = true)]
async fn an_auth_error_is_final_and_unchanged() {
    let (server, _) = scripted([]);
    let client = builder(&server).auth(giving(vec![Err("the token command said no")])).build().unwrap();
    let error = client.send(&post()).await.unwrap_err();
    assert_eq!(error.kind(), HttpErrorKind::Auth);
    assert_eq!(error.message(), "the token command said no");
    assert_eq!((error.attempts(), error.delivery(), error.limit()), (0, Delivery::NeverSent, None));
    let source = error.source().unwrap().downcast_ref::<AuthError>().unwrap();
    assert_eq!(source.to_string(), "the token command said no");
    assert_eq!(error.to_string(), "op: the token command said no");
    assert_eq!(server.count("**"), 0);
}

/// The same between two attempts: the first one counts, and may have been processed.
#[tokio::test(start_paused = true)]
async fn an_auth_error_after_an_attempt_says_so() {
    let server = server();
    server.script(ROUTE, [Step::status(503)]);
    let client =
        builder(&server).auth(giving(vec![Ok("key"), Err("expired")])).policy(steady()).build().unwrap();
    let error = client.send(&post()).await.unwrap_err();
    assert_eq!(error.kind(), HttpErrorKind::Auth);
    assert_eq!((error.attempts(), error.delivery()), (1, Delivery::Uncertain));
    assert_eq!(error.to_string(), "op: expired (after 1 attempt in 0.5 s)");
}

/// The same service and transport with another credential; the first client keeps its own.
#[tokio::test(start_paused = true)]
async fn another_credential_for_the_same_service() {
    let (server, client) = scripted([ok(), Step::status(503), ok()]);
    let other = client.with_auth(Arc::new(ApiKey::new("tml-other").unwrap()));
    assert_ne!(client.gate_key(), other.gate_key());
    client.send(&post()).await.unwrap();
    assert_eq!(other.send(&post()).await.unwrap().attempts, 2, "the policy is the same");
    let sent: Vec<_> =
        server.requests(ROUTE).iter().map(|r| r.header("x-api-key").unwrap().to_owned()).collect();
    assert_eq!(sent, [KEY, "tml-other", "tml-other"]);
}

/// What an error says of itself besides its words.
#[test]
fn an_auth_error_tells_whether_it_may_pass() {
    let plain = AuthError::new("no");
    assert_eq!((plain.status(), plain.is_transient()), (None, false));
    let down = AuthError::new("no").with_status(503).transient().with_source("the cause");
    assert_eq!((down.status(), down.is_transient()), (Some(503), true));
    let told_again = down.clone();
    assert_eq!(told_again.source().unwrap().to_string(), "the cause");
}

#[derive(Debug)]
struct Stuck;

impl AuthProvider for Stuck {
    fn credential(&self) -> CredentialFuture<'_> {
        Box::pin(std::future::pending())
    }

    fn identity(&self) -> SecretString {
        SecretString::from("stuck")
    }
}

/// The deadline covers the provider as well: a token exchange that hangs cannot hold a call for ever.
#[tokio::test(start_paused = true)]
async fn the_deadline_covers_the_provider() {
    let server = server();
    let client = builder(&server).auth(Arc::new(Stuck)).build().unwrap();
    let started = tokio::time::Instant::now();
    let error = client.send(&post().deadline(Some(secs(3)))).await.unwrap_err();
    assert_eq!(started.elapsed(), secs(3));
    assert_eq!((error.kind(), error.attempts()), (HttpErrorKind::Timeout, 0));
    assert_eq!(server.count("**"), 0);
}
