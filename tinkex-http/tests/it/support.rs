//! What the tests share: a client over a fake server, its usual request, and measures of time.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tinkex_http::{ApiKey, ApiRequest, Backoff, HttpClient, HttpClientBuilder, Jitter, RetryPolicy};
use tinkex_testkit::{FakeServer, NoBehaviour, Step};

/// The credential of all clients, so that tests can look for it where it must not be.
pub(crate) const KEY: &str = "tml-secret-0123456789";

/// The route that [`post`] asks for.
pub(crate) const ROUTE: &str = "op";

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A server that knows only scripts.
pub(crate) fn server() -> FakeServer {
    FakeServer::with(NoBehaviour)
}

pub(crate) fn builder(server: &FakeServer) -> HttpClientBuilder {
    HttpClient::builder(server.url().parse().unwrap(), server.transport())
        .auth(Arc::new(ApiKey::new(KEY).unwrap()))
        .jitter(Jitter::seeded(7))
}

/// A server with a script for [`ROUTE`], and a client of it that waits without jitter: 0.5, 1, 2, 4, 8, 10, 10.. s.
pub(crate) fn scripted(steps: impl IntoIterator<Item = Step>) -> (FakeServer, HttpClient) {
    let server = server();
    server.script(ROUTE, steps);
    let client = builder(&server).policy(steady()).build().unwrap();
    (server, client)
}

/// The default policy without jitter.
pub(crate) fn steady() -> RetryPolicy {
    RetryPolicy::default().backoff(Backoff { jitter: 0.0, ..Backoff::default() })
}

/// A small POST.
pub(crate) fn post() -> ApiRequest {
    ApiRequest::post_json(ROUTE, "/api/v1/op", &json!({"n": 1})).unwrap()
}

pub(crate) fn ok() -> Step {
    Step::json(json!({"ok": true}))
}

/// The waits between the arrivals of a route's requests.
pub(crate) fn waits(server: &FakeServer, route: &str) -> Vec<Duration> {
    server.requests(route).windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

/// Timers go off at whole milliseconds, never early.
#[track_caller]
pub(crate) fn assert_within(actual: Duration, least: Duration, most: Duration) {
    assert!(least <= actual && actual <= most + ms(1), "{actual:?} is not within {least:?} and {most:?}");
}

#[track_caller]
pub(crate) fn assert_exactly(actual: Duration, expected: Duration) {
    assert_within(actual, expected, expected);
}

/// A golden file.
pub(crate) fn fixture(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}
