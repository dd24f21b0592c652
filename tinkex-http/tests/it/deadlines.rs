//! Deadlines and attempt time-outs: exact, over everything, and named in the error.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tinkex_http::{BackoffGate, Delivery, HttpErrorKind, RetryPolicy};
use tinkex_testkit::{Gate, Step};
use tokio::time::Instant;

use crate::support::{ROUTE, assert_exactly, ms, ok, post, scripted, secs, waits};

/// A wait that would pass the deadline is not begun: the failure surfaces at once, with the limit that ended it.
#[tokio::test(start_paused = true)]
async fn no_wait_is_begun_that_passes_the_deadline() {
    let (server, client) = scripted([Step::status(503).repeat(3)]);
    let error = client.send(&post().deadline(Some(secs(2)))).await.unwrap_err();
    // Failures at 0, 0.5 and 1.5 s; the next wait of 2 s does not fit.
    assert_eq!((error.status(), error.attempts()), (Some(503), 3));
    assert_eq!(error.limit(), Some("deadline of 2 s"));
    assert_exactly(error.elapsed(), ms(1500));
    server.verify().unwrap();
}

/// Neither is one that ends exactly at the deadline: nothing could be sent after it.
#[tokio::test(start_paused = true)]
async fn a_wait_up_to_the_deadline_is_no_use_either() {
    let (server, client) = scripted([Step::status(503)]);
    let error = client.send(&post().deadline(Some(ms(500)))).await.unwrap_err();
    assert_eq!((error.status(), error.attempts()), (Some(503), 1));
    assert_eq!(error.limit(), Some("deadline of 0.5 s"));
    assert_eq!(error.elapsed(), Duration::ZERO);
    server.verify().unwrap();
}

/// The deadline cuts an attempt short, exactly, and the error does not pass for an ordinary time-out.
#[tokio::test(start_paused = true)]
async fn the_deadline_cuts_an_attempt_short() {
    for policy in [RetryPolicy::default(), RetryPolicy::none()] {
        let (_, client) = scripted([Step::hang()]);
        let started = Instant::now();
        let error = client.send(&post().deadline(Some(ms(2500))).policy(policy)).await.unwrap_err();
        assert_eq!(started.elapsed(), ms(2500));
        assert_eq!((error.kind(), error.attempts()), (HttpErrorKind::Timeout, 1));
        assert_eq!(error.limit(), Some("deadline of 2.5 s"));
        assert_eq!(error.delivery(), Delivery::Uncertain);
    }
}

/// One time-out covers connecting, headers and body: a body that stalls or trickles does not get round it.
#[tokio::test(start_paused = true)]
async fn the_attempt_timeout_covers_the_body() {
    let trickle = vec![(secs(2), Bytes::from_static(b" ")); 4];
    let none = "no complete response within 5 s";
    let stalled =
        |bytes: u32| format!("the response body stalled after {bytes} bytes: it was not complete within 5 s");
    for (step, said) in [
        (Step::hang(), none.to_owned()),
        (ok().delay(secs(6)), none.to_owned()),
        (ok().then_stall_after_headers(), stalled(0)),
        (ok().chunks(trickle), stalled(2)),
    ] {
        let (server, client) = scripted([step]);
        let started = Instant::now();
        let request = post().timeout(secs(5)).policy(RetryPolicy::none());
        let error = client.send(&request).await.unwrap_err();
        assert_eq!(started.elapsed(), secs(5));
        assert_eq!((error.kind(), error.limit()), (HttpErrorKind::Timeout, None));
        assert_eq!(error.message(), said);
        server.wait_for_in_flight(ROUTE, 0).await;
    }
}

/// A body that keeps within the time is no time-out, and the next attempt has its own full time.
#[tokio::test(start_paused = true)]
async fn each_attempt_has_its_own_timeout() {
    let pieces = vec![(secs(2), Bytes::from_static(b"{\"ok\":")), (secs(2), Bytes::from_static(b"true}"))];
    let (server, client) = scripted([Step::hang(), ok().chunks(pieces)]);
    let response = client.send(&post().timeout(secs(5))).await.unwrap();
    assert_eq!(response.body, "{\"ok\":true}");
    assert_exactly(waits(&server, ROUTE)[0], ms(5500));
    assert_exactly(response.elapsed, ms(9500));
}

/// The deadline passes at the gate before anything was sent.
#[tokio::test(start_paused = true)]
async fn the_deadline_covers_the_gate() {
    let (server, client) = scripted([]);
    let gate = Arc::new(BackoffGate::default());
    gate.penalise(secs(10));
    let started = Instant::now();
    let error = client.send(&post().gate(gate).deadline(Some(secs(3)))).await.unwrap_err();
    assert_eq!(started.elapsed(), secs(3));
    assert_eq!((error.kind(), error.attempts()), (HttpErrorKind::Timeout, 0));
    assert_eq!((error.delivery(), error.limit()), (Delivery::NeverSent, Some("deadline of 3 s")));
    assert_eq!(error.to_string(), "op: the deadline of the call passed before its first attempt");
    assert_eq!(server.count("**"), 0);
}

/// The deadline passes at the gate after a 429: the error is the 429, with its hint, and names the deadline.
#[tokio::test(start_paused = true)]
async fn what_the_last_attempt_met_is_not_lost() {
    let (server, client) = scripted([Step::status(429).header("retry-after", "30")]);
    let gate = Arc::new(BackoffGate::default());
    let started = Instant::now();
    let error = client.send(&post().gate(gate).deadline(Some(secs(3)))).await.unwrap_err();
    assert_eq!(started.elapsed(), secs(3));
    assert_eq!((error.kind(), error.status()), (HttpErrorKind::Status, Some(429)));
    assert_eq!((error.attempts(), error.delivery()), (1, Delivery::Rejected));
    assert_eq!(error.retry_after(), Some(secs(30)));
    assert_eq!(
        error.to_string(),
        "op: HTTP 429: scripted 429 (after 1 attempt in 3.0 s; gave up: deadline of 3 s)"
    );
    server.verify().unwrap();
}

/// Time spent at the gate counts: what is left for the attempt is the rest.
#[tokio::test(start_paused = true)]
async fn time_at_the_gate_is_time_of_the_call() {
    let (_, client) = scripted([Step::hang()]);
    let gate = Arc::new(BackoffGate::default());
    gate.penalise(ms(4));
    let started = Instant::now();
    let error = client.send(&post().gate(gate).deadline(Some(secs(3)))).await.unwrap_err();
    assert_eq!(started.elapsed(), secs(3));
    assert_eq!((error.kind(), error.attempts()), (HttpErrorKind::Timeout, 1));
}

/// Deadlines and time-outs of any length are fine.
#[tokio::test(start_paused = true)]
async fn no_length_of_time_is_too_long() {
    let (_, client) = scripted([Step::status(503), ok()]);
    let request = post().deadline(Some(Duration::MAX)).timeout(Duration::MAX);
    let request = request.policy(RetryPolicy::patient(Duration::MAX));
    assert_eq!(client.send(&request).await.unwrap().attempts, 2);
}

/// A deadline of nothing sends nothing.
#[tokio::test(start_paused = true)]
async fn a_deadline_of_nothing_sends_nothing() {
    let (server, client) = scripted([]);
    let error = client.send(&post().deadline(Some(Duration::ZERO))).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (HttpErrorKind::Timeout, 0));
    assert_eq!(server.count("**"), 0);
}

/// Cancel-safe: a dropped call gives the attempt up at the server.
#[tokio::test(start_paused = true)]
async fn a_dropped_call_gives_its_attempt_up() {
    let hold = Gate::new();
    let (server, client) = scripted([ok().gate(&hold)]);
    let call = tokio::spawn(async move { client.send(&post()).await });
    hold.arrived(1).await;
    assert_eq!(server.in_flight(ROUTE), 1);
    call.abort();
    server.wait_for_in_flight(ROUTE, 0).await;
    assert!(call.await.unwrap_err().is_cancelled());
}
