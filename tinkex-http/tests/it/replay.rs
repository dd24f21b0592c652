//! The replay after a rejected token (PROTOCOL 3.4).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderValue;
use secrecy::SecretString;
use tinkex_http::{
    AttemptGate, AuthError, AuthProvider, Backoff, BackoffGate, CredentialFuture, Delivery, GateKey,
    HttpErrorKind, RetryPolicy,
};
use tinkex_testkit::{FakeServer, Gate, Step};
use tokio::time::Instant;

use crate::support::{ROUTE, assert_within, builder, ms, ok, post, secs, server, steady};

/// A provider whose first credential is `old`, and that renews it as told.
#[derive(Debug)]
struct Renewing {
    renewal: Renewal,
    rejected: Mutex<Vec<String>>,
    asked: AtomicUsize,
}

#[derive(Debug)]
enum Renewal {
    Gives(&'static str),
    GivesNone,
    Fails,
    Takes(Duration),
}

impl Renewing {
    fn new(renewal: Renewal) -> Arc<Self> {
        Arc::new(Self { renewal, rejected: Mutex::default(), asked: AtomicUsize::new(0) })
    }

    fn rejected(&self) -> Vec<String> {
        self.rejected.lock().unwrap().clone()
    }
}

impl AuthProvider for Renewing {
    fn credential(&self) -> CredentialFuture<'_> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(Ok(Some(HeaderValue::from_static("old")))))
    }

    fn replace(&self, rejected: &HeaderValue) -> CredentialFuture<'_> {
        assert!(rejected.is_sensitive(), "so that no Debug of it shows it");
        self.rejected.lock().unwrap().push(rejected.to_str().unwrap().to_owned());
        Box::pin(async {
            match self.renewal {
                Renewal::Gives(text) => Ok(Some(HeaderValue::from_static(text))),
                Renewal::GivesNone => Ok(None),
                Renewal::Fails => Err(AuthError::new("the vault is sealed").with_status(401)),
                Renewal::Takes(time) => {
                    tokio::time::sleep(time).await;
                    Ok(Some(HeaderValue::from_static("new")))
                }
            }
        })
    }

    fn identity(&self) -> SecretString {
        SecretString::from("account")
    }
}

fn invalid_token() -> Step {
    Step::status(401)
        .header("www-authenticate", r#"Bearer realm="tinker", error="invalid_token""#)
        .body(r#"{"detail": "revoked"}"#)
}

fn keys(server: &FakeServer) -> Vec<String> {
    server.requests(ROUTE).iter().map(|request| request.header("x-api-key").unwrap().to_owned()).collect()
}

/// The same request goes out once more: same body, same idempotency key, same retry count, no wait; the policy, which
/// here allows no retry at all, does not count it.
#[tokio::test(start_paused = true)]
async fn the_same_attempt_goes_out_once_more() {
    let server = server();
    server.script(ROUTE, [invalid_token(), ok()]);
    let auth = Renewing::new(Renewal::Gives("new"));
    let client = builder(&server).auth(auth.clone()).policy(RetryPolicy::none()).build().unwrap();
    let started = Instant::now();
    let response = client.send(&post()).await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(response.attempts, 1);
    assert_eq!(keys(&server), ["old", "new"]);
    assert_eq!(auth.rejected(), ["old"]);
    let sent = server.requests(ROUTE);
    assert_eq!(sent[0].body, sent[1].body);
    assert!(sent[0].idempotency_key().is_some());
    assert_eq!(sent[0].idempotency_key(), sent[1].idempotency_key());
    for request in &sent {
        assert_eq!(request.header("x-stainless-retry-count"), Some("0"));
    }
    server.verify().unwrap();
}

/// A second 401 is returned as it is; nothing asks for a third credential.
#[tokio::test(start_paused = true)]
async fn a_second_rejection_surfaces() {
    let server = server();
    server.script(ROUTE, [invalid_token(), invalid_token()]);
    let auth = Renewing::new(Renewal::Gives("new"));
    let client = builder(&server).auth(auth.clone()).build().unwrap();
    let error = client.send(&post()).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (HttpErrorKind::Status, Some(401)));
    assert_eq!((error.attempts(), error.delivery()), (1, Delivery::Rejected));
    assert_eq!(error.message(), "revoked");
    assert_eq!(keys(&server), ["old", "new"]);
    assert_eq!(auth.rejected(), ["old"]);
}

/// What the replay meets is judged like any attempt, and each attempt may be replayed once.
#[tokio::test(start_paused = true)]
async fn a_failed_replay_is_retried_as_usual() {
    let server = server();
    server.script(ROUTE, [invalid_token(), Step::status(503), invalid_token(), ok()]);
    let client =
        builder(&server).auth(Renewing::new(Renewal::Gives("new"))).policy(steady()).build().unwrap();
    let started = Instant::now();
    let response = client.send(&post()).await.unwrap();
    assert_within(started.elapsed(), ms(500), ms(500));
    assert_eq!(response.attempts, 2);
    assert_eq!(keys(&server), ["old", "new", "old", "new"]);
    let counts: Vec<_> = server
        .requests(ROUTE)
        .iter()
        .map(|request| request.header("x-stainless-retry-count").unwrap().to_owned())
        .collect();
    assert_eq!(counts, ["0", "0", "1", "1"]);
    let key = server.requests(ROUTE)[0].idempotency_key().map(str::to_owned);
    assert!(server.requests(ROUTE).iter().all(|request| request.idempotency_key() == key.as_deref()));
}

/// Only a 401 that says `error="invalid_token"` is replayed, and only with a credential that is another one.
#[tokio::test(start_paused = true)]
async fn what_is_not_replayed() {
    let plain = || Step::status(401).header("www-authenticate", r#"Bearer realm="tinker""#);
    let other = || Step::status(403).header("www-authenticate", r#"Bearer error="invalid_token""#);
    for (step, status) in [(Step::status(401), 401), (plain(), 401), (other(), 403)] {
        let server = server();
        server.script(ROUTE, [step]);
        let auth = Renewing::new(Renewal::Gives("new"));
        let client = builder(&server).auth(auth.clone()).build().unwrap();
        let error = client.send(&post()).await.unwrap_err();
        assert_eq!(error.status(), Some(status));
        assert!(auth.rejected().is_empty());
        assert_eq!(server.count(ROUTE), 1);
    }
    for renewal in [Renewal::GivesNone, Renewal::Gives("old")] {
        let server = server();
        server.script(ROUTE, [invalid_token()]);
        let client = builder(&server).auth(Renewing::new(renewal)).build().unwrap();
        let error = client.send(&post()).await.unwrap_err();
        assert_eq!((error.status(), error.attempts()), (Some(401), 1));
        assert_eq!(server.count(ROUTE), 1);
    }
}

/// The header may come several times; one that says it is enough.
#[tokio::test(start_paused = true)]
async fn any_of_several_challenges_counts() {
    let server = server();
    let twice = Step::status(401)
        .header("www-authenticate", "Basic realm=\"x\"")
        .header("www-authenticate", r#"Bearer error="invalid_token""#);
    server.script(ROUTE, [twice, ok()]);
    let client = builder(&server).auth(Renewing::new(Renewal::Gives("new"))).build().unwrap();
    client.send(&post()).await.unwrap();
    assert_eq!(keys(&server), ["old", "new"]);
}

/// An error while the other credential is fetched is the call's error, unchanged and unretried (PROTOCOL 3.4).
#[tokio::test(start_paused = true)]
async fn an_error_of_the_renewal_surfaces() {
    let server = server();
    server.script(ROUTE, [invalid_token()]);
    let client = builder(&server).auth(Renewing::new(Renewal::Fails)).build().unwrap();
    let error = client.send(&post()).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (HttpErrorKind::Auth, "the vault is sealed"));
    assert_eq!((error.attempts(), error.delivery()), (1, Delivery::Rejected));
    assert_eq!(server.count(ROUTE), 1);
}

/// The renewal lies inside the call's deadline, and ends with the caller's interest.
#[tokio::test(start_paused = true)]
async fn deadline_and_stop_hold_during_the_renewal() {
    let server = server();
    server.script(ROUTE, [invalid_token(), invalid_token()]);
    let client = builder(&server).auth(Renewing::new(Renewal::Takes(secs(60)))).build().unwrap();
    let started = Instant::now();
    let error = client.send(&post().deadline(Some(secs(3)))).await.unwrap_err();
    assert_within(started.elapsed(), secs(3), secs(3));
    assert_eq!((error.status(), error.limit()), (Some(401), Some("deadline of 3 s")));

    let started = Instant::now();
    let stop = std::pin::pin!(tokio::time::sleep(secs(2)));
    let error = client.send_until(&post(), stop).await.unwrap_err();
    assert_within(started.elapsed(), secs(2), secs(2));
    assert_eq!((error.kind(), error.delivery()), (HttpErrorKind::Abandoned, Delivery::Rejected));
    assert_eq!(server.count(ROUTE), 2);
}

/// A replay keeps the permit of its attempt: it does not go through the gate again.
#[tokio::test(start_paused = true)]
async fn a_replay_keeps_its_place() {
    let server = server();
    let hold = Gate::new();
    server.script(ROUTE, [invalid_token(), ok().gate(&hold)]);
    let gate = BackoffGate::for_key(&GateKey::new(&"http://replay.example".parse().unwrap(), b"key"));
    let client = builder(&server)
        .auth(Renewing::new(Renewal::Gives("new")))
        .policy(RetryPolicy::default().backoff(Backoff::default()))
        .build()
        .unwrap();
    let request = post().gate(gate.clone());
    let call = tokio::spawn(async move { client.send(&request).await });
    hold.arrived(1).await;
    gate.throttled(Some(secs(30)));
    hold.open();
    let response = call.await.unwrap().unwrap();
    assert_eq!(response.attempts, 1);
    assert!(response.elapsed < secs(1), "{:?}", response.elapsed);
}
