//! The retry budget: how fast retries follow each other, over all calls (bounded on both sides).

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tinkex_http::{ApiKey, GateKey, HttpErrorKind, RetryBudget, RetryPolicy};
use tinkex_testkit::{FakeServer, Step};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{KEY, ROUTE, assert_within, builder, ms, ok, post, secs, server, steady};

/// A thousand calls that fail at once: never more than burst + rate · t retries, and not much less.
#[tokio::test(start_paused = true)]
async fn a_storm_of_failures_is_throttled() {
    const CALLS: usize = 1000;
    let server = server();
    server.record_bodies(false);
    server.script(ROUTE, [Step::status(503)]).then_repeat_last();
    let client = builder(&server).budget(Arc::new(RetryBudget::new(50, 10))).build().unwrap();
    let started = Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        let client = client.clone();
        calls.spawn(async move { client.send(&post().policy(RetryPolicy::patient(secs(3600)))).await });
    }
    tokio::time::sleep(secs(60)).await;
    calls.abort_all();
    while calls.join_next().await.is_some() {}
    let mut arrivals: Vec<_> = server.requests(ROUTE).iter().map(|r| r.at - started).collect();
    arrivals.sort();
    let retries = &arrivals[CALLS..];
    for (n, at) in retries.iter().enumerate() {
        let allowed = 50.0 + 10.0 * at.as_secs_f64();
        assert!((n + 1) as f64 <= allowed + 1.0, "retry {n} at {at:?}");
    }
    // The first second is backoff; after it the bucket is always wanted.
    assert_within(Duration::from_secs(retries.len() as u64), secs(50 + 10 * 58), secs(50 + 10 * 60 + 1));
}

/// Tokens come back with time, up to the burst.
#[tokio::test(start_paused = true)]
async fn tokens_come_back() {
    let budget = RetryBudget::new(2, 4);
    assert_eq!([budget.take(), budget.take()], [Duration::ZERO; 2]);
    assert_eq!([budget.take(), budget.take()], [ms(250), ms(500)]);
    tokio::time::advance(secs(3600)).await;
    assert_eq!([budget.take(), budget.take(), budget.take()], [Duration::ZERO, Duration::ZERO, ms(250)]);
    let least = RetryBudget::new(0, 0);
    assert_eq!([least.take(), least.take()], [Duration::ZERO, secs(1)], "at least one of each");
}

/// Retries that are never made cost nothing: not those that a deadline forbids, not those whose caller went away.
#[tokio::test(start_paused = true)]
async fn unmade_retries_give_their_tokens_back() {
    let server = server();
    server.script(ROUTE, [Step::status(503)]).then_repeat_last();
    let client = builder(&server).policy(steady()).budget(Arc::new(RetryBudget::new(1, 1))).build().unwrap();
    for _ in 0..100 {
        let error = client.send(&post().deadline(Some(ms(100)))).await.unwrap_err();
        assert_eq!((error.limit(), error.attempts()), (Some("deadline of 0.1 s"), 1));
    }
    for _ in 0..100 {
        let request = post();
        assert!(tokio::time::timeout(ms(10), client.send(&request)).await.is_err());
    }
    for _ in 0..100 {
        let mut stop = std::pin::pin!(tokio::time::sleep(ms(10)));
        let error = client.send_until(&post(), stop.as_mut()).await.unwrap_err();
        assert_eq!(error.kind(), HttpErrorKind::Abandoned);
    }
    let started = Instant::now();
    let error = client.send(&post().policy(steady().max_retries(Some(1)))).await.unwrap_err();
    assert_eq!(error.attempts(), 2);
    assert_within(started.elapsed(), ms(500), ms(1000));
}

/// A client that was set apart takes nothing from the budget of the one it comes from.
#[tokio::test(start_paused = true)]
async fn a_client_set_apart_has_a_budget_of_its_own() {
    let server = server();
    server.script(ROUTE, [Step::status(503)]).then_repeat_last();
    let budget = Arc::new(RetryBudget::new(10, 1));
    let client = builder(&server).policy(steady()).budget(Arc::clone(&budget)).build().unwrap();
    let (apart, once_more) = (client.apart(), post().policy(steady().max_retries(Some(1))));
    let failed = join_all((0..10).map(|_| apart.send(&once_more))).await;
    assert!(failed.iter().all(|outcome| outcome.as_ref().is_err_and(|error| error.attempts() == 2)));
    assert_eq!((0..10).map(|_| budget.take()).collect::<Vec<_>>(), [Duration::ZERO; 10]);
}

/// A server's hint and the budget: the longer of both.
#[tokio::test(start_paused = true)]
async fn the_longer_of_hint_and_budget_is_waited() {
    let server = server();
    server.script(ROUTE, [Step::status(503).header("retry-after-ms", "100").repeat(3), ok()]);
    let client = builder(&server).budget(Arc::new(RetryBudget::new(1, 1))).build().unwrap();
    let started = Instant::now();
    client.send(&post()).await.unwrap();
    // 0.1 s by the hint; then, with 0.1 of a token back, 0.9 s; then a second.
    assert_within(started.elapsed(), ms(1990), ms(2010));
}

/// Without a budget of one's own: one per service and key. A second client of the same does not double the rate of
/// retries; another key, and another service, have their own.
#[tokio::test(start_paused = true)]
async fn clients_of_one_service_and_key_share_a_budget() {
    let (server, other_server) = (server(), server());
    let key = |server: &FakeServer, key: &str| GateKey::new(&server.url().parse().unwrap(), key.as_bytes());
    let budget = RetryBudget::for_key(&key(&server, KEY));
    for _ in 0..500 {
        assert!(budget.take().is_zero());
    }
    let wait = |server: &FakeServer, own: &str| {
        server.script(ROUTE, [Step::status(503).header("retry-after-ms", "1").repeat(5), ok()]);
        let client = builder(server).auth(Arc::new(ApiKey::new(own).unwrap())).build().unwrap();
        async move { client.send(&post()).await.unwrap().elapsed }
    };
    // 500 taken: a hundredth of a second for each further one.
    assert_within(wait(&server, KEY).await, ms(40), ms(60));
    assert_within(wait(&server, "tml-another-key").await, ms(5), ms(10));
    assert_within(wait(&other_server, KEY).await, ms(5), ms(10));
    // Nobody holds it but this test, and it is the same still.
    assert!(Arc::ptr_eq(&budget, &RetryBudget::for_key(&key(&server, KEY))));
}

/// Two clients that share a budget share its tokens.
#[tokio::test(start_paused = true)]
async fn a_budget_may_be_shared() {
    let server = server();
    server.script(ROUTE, [Step::status(503).header("retry-after-ms", "1").repeat(2), ok().repeat(2)]);
    let budget = Arc::new(RetryBudget::new(1, 1));
    let client = || builder(&server).budget(Arc::clone(&budget)).build().unwrap();
    let (a, b) = (client(), client());
    let started = Instant::now();
    let (request_a, request_b) = (post(), post());
    let (first, second) = tokio::join!(a.send(&request_a), b.send(&request_b));
    first.unwrap();
    second.unwrap();
    assert_within(started.elapsed(), ms(990), ms(1010));
}
