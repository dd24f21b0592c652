//! A service that cannot be reached is told of early, and in words that help.

use tinkex_http::{Delivery, HttpErrorKind, RetryPolicy};
use tinkex_testkit::Step;
use tracing::Level;

use crate::capture::Log;
use crate::support::{ok, post, scripted, steady};

/// The first retry of a client that has never reached its service is a warning with the host and the cause; one is
/// enough, however many calls there are.
#[tokio::test(start_paused = true)]
async fn a_client_that_reaches_nobody_says_so_once() {
    let (log, _guard) = Log::start();
    let (_server, client) = scripted([Step::refuse().repeat(4)]);
    let once_more = post().policy(steady().max_retries(1));
    for _ in 0..2 {
        let error = client.send(&once_more).await.unwrap_err();
        assert_eq!((error.kind(), error.delivery()), (HttpErrorKind::Connect, Delivery::NeverSent));
        let said = error.to_string();
        for part in
            ["refused", "check the base URL", "(after 2 attempts in 0.5 s; gave up: limit of 1 retries)"]
        {
            assert!(said.contains(part), "{said}");
        }
    }
    let host = client.base_url().host();
    let expected =
        format!("{host} has not been reached yet, trying again: the fake server refused the connection");
    assert_eq!(log.at(Level::WARN), [expected]);
}

/// A client that was set apart knows what the one it comes from knew.
#[tokio::test(start_paused = true)]
async fn a_client_set_apart_knows_of_the_contact() {
    let (log, _guard) = Log::start();
    let (_server, client) = scripted([ok(), Step::refuse(), ok()]);
    client.send(&post()).await.unwrap();
    client.apart().send(&post()).await.unwrap();
    assert_eq!(log.at(Level::WARN), Vec::<String>::new());
}

/// Whoever has reached it before bears with a lost connection in silence at first.
#[tokio::test(start_paused = true)]
async fn a_client_that_has_been_answered_does_not() {
    for first in [ok(), Step::status(404), Step::status(503)] {
        let (log, _guard) = Log::start();
        let (_server, client) = scripted([first, Step::refuse(), ok()]);
        let _ = client.send(&post().policy(RetryPolicy::none())).await;
        client.send(&post()).await.unwrap();
        assert_eq!(log.at(Level::WARN), Vec::<String>::new());
    }
}
