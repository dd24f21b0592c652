//! Giving calls up: `send_until`, dropped futures, and permits (S1-11, CA-1, F-07).

use std::error::Error as _;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tinkex_http::{
    Admission, AttemptGate, AttemptPermit, BackoffGate, Delivery, HttpClient, HttpError, HttpErrorKind,
};
use tinkex_testkit::{Gate, Step};
use tokio::sync::Semaphore;

use crate::support::{ROUTE, ms, ok, post, scripted, secs};

/// Sends until `after` has passed.
async fn send_for(
    client: &HttpClient,
    request: &tinkex_http::ApiRequest,
    after: Duration,
) -> Result<tinkex_http::ApiResponse, HttpError> {
    let mut stop = pin!(tokio::time::sleep(after));
    client.send_until(request, stop.as_mut()).await
}

/// Stopped in a wait: at once, without another attempt, and the error says how far the call got.
#[tokio::test(start_paused = true)]
async fn stopping_in_a_wait_abandons_the_call() {
    for (step, delivery) in [
        (Step::refuse(), Delivery::NeverSent),
        (Step::status(409), Delivery::Rejected),
        (Step::status(503), Delivery::Uncertain),
        (Step::reset(), Delivery::Uncertain),
    ] {
        let (server, client) = scripted([step]);
        let error = send_for(&client, &post(), ms(100)).await.unwrap_err();
        assert_eq!((error.kind(), error.delivery()), (HttpErrorKind::Abandoned, delivery));
        assert_eq!((error.attempts(), error.elapsed()), (1, ms(100)));
        assert_eq!(error.to_string(), "op: the caller gave up (after 1 attempt in 0.1 s)");
        assert!(error.source().unwrap().downcast_ref::<HttpError>().is_some(), "the last failure is kept");
        server.verify().unwrap();
    }
}

/// Stopped at the gate: nothing was sent, or what was sent was refused.
#[tokio::test(start_paused = true)]
async fn stopping_at_the_gate_abandons_the_call() {
    let gate = Arc::new(BackoffGate::default());
    let (server, client) = scripted([Step::status(429).header("retry-after", "5")]);
    let request = post().gate(gate.clone());
    let error = send_for(&client, &request, secs(1)).await.unwrap_err();
    assert_eq!((error.kind(), error.delivery()), (HttpErrorKind::Abandoned, Delivery::Rejected));
    assert_eq!(error.elapsed(), secs(1));
    // Four seconds of the window are left.
    let error = send_for(&client, &request, secs(1)).await.unwrap_err();
    assert_eq!((error.delivery(), error.attempts()), (Delivery::NeverSent, 0));
    server.verify().unwrap();
}

/// Stopped in an attempt: the attempt is finished, so that the caller knows what became of it.
#[tokio::test(start_paused = true)]
async fn stopping_in_an_attempt_finishes_the_attempt() {
    let (_, client) = scripted([ok().delay(secs(3))]);
    let response = send_for(&client, &post(), secs(1)).await.unwrap();
    assert_eq!((response.attempts, response.elapsed), (1, secs(3)));

    let (server, client) = scripted([Step::status(503).delay(secs(3))]);
    let error = send_for(&client, &post(), secs(1)).await.unwrap_err();
    assert_eq!((error.kind(), error.delivery()), (HttpErrorKind::Abandoned, Delivery::Uncertain));
    assert_eq!(error.elapsed(), secs(3), "no wait is begun after it");
    server.verify().unwrap();
}

/// Stopped before it began: nothing is sent.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_wanted_is_not_made() {
    let (server, client) = scripted([]);
    let mut stop = pin!(std::future::ready(()));
    let error = client.send_until(&post(), stop.as_mut()).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (HttpErrorKind::Abandoned, 0));
    assert_eq!(error.delivery(), Delivery::NeverSent);
    assert_eq!(error.to_string(), "op: the caller gave up");
    assert_eq!(server.count("**"), 0);
}

/// A gate of `n` permits that keeps a diary.
struct Turnstile {
    permits: Arc<Semaphore>,
    size: usize,
    diary: Mutex<Vec<String>>,
}

impl Turnstile {
    fn new(size: usize) -> Arc<Self> {
        Arc::new(Self { permits: Arc::new(Semaphore::new(size)), size, diary: Mutex::default() })
    }

    fn note(&self, what: &str) {
        let taken = self.size - self.permits.available_permits();
        self.diary.lock().unwrap().push(format!("{what}, {taken} taken"));
    }
}

impl AttemptGate for Turnstile {
    fn admit(&self) -> Admission<'_> {
        Box::pin(async {
            let permit = Arc::clone(&self.permits).acquire_owned().await.unwrap();
            self.note("admitted");
            AttemptPermit::holding(permit)
        })
    }

    fn throttled(&self, hint: Option<Duration>) {
        self.note(&format!("throttled {hint:?}"));
    }
}

/// A permit is held for one attempt: not in the waits between, and not when the call is over. A 429 is told before
/// the permit goes, or the next in line would be let in before the gate knows.
#[tokio::test(start_paused = true)]
async fn a_permit_is_held_for_exactly_one_attempt() {
    let turnstile = Turnstile::new(2);
    let hold = Gate::new();
    let (_, client) =
        scripted([Step::status(429).header("retry-after-ms", "70"), Step::status(503), ok().gate(&hold)]);
    let request = post().gate(turnstile.clone());
    let call = tokio::spawn(async move { client.send(&request).await });
    hold.arrived(1).await;
    assert_eq!(turnstile.permits.available_permits(), 1);
    hold.open();
    call.await.unwrap().unwrap();
    assert_eq!(turnstile.permits.available_permits(), 2);
    let diary = turnstile.diary.lock().unwrap().clone();
    assert_eq!(
        diary,
        ["admitted, 1 taken", "throttled Some(70ms), 1 taken", "admitted, 1 taken", "admitted, 1 taken"]
    );
}

/// F-07: dropping a call frees its permit, wherever the call was.
#[tokio::test(start_paused = true)]
async fn dropping_a_call_frees_its_permit() {
    let turnstile = Turnstile::new(1);
    let hold = Gate::new();
    let (server, client) = scripted([ok().gate(&hold), Step::status(503), ok()]);
    let request = post().gate(turnstile.clone());
    let start = || {
        let (client, request) = (client.clone(), request.clone());
        tokio::spawn(async move { client.send(&request).await })
    };
    // In an attempt, and in line behind it.
    let (first, second) = (start(), start());
    hold.arrived(1).await;
    assert_eq!(turnstile.permits.available_permits(), 0);
    second.abort();
    first.abort();
    assert!(first.await.is_err() && second.await.is_err());
    assert_eq!(turnstile.permits.available_permits(), 1);
    // In a wait.
    let third = start();
    server.wait_for(ROUTE, 2).await;
    tokio::time::advance(ms(100)).await;
    assert_eq!(turnstile.permits.available_permits(), 1);
    third.abort();
    assert!(third.await.is_err());
    // And the gate still works.
    client.send(&request).await.unwrap();
    assert_eq!(turnstile.permits.available_permits(), 1);
}

/// Handles of calls travel between threads.
#[tokio::test(start_paused = true)]
async fn calls_are_send() {
    fn send<T: Send>(call: T) -> T {
        call
    }
    let (_, client) = scripted([ok()]);
    let request = post();
    let mut stop: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(std::future::pending());
    send(client.send_until(&request, stop.as_mut())).await.unwrap();
}
