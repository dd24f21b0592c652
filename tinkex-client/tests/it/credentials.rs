//! Credentials: where they come from, what is sent, and the exchange for tokens (PROTOCOL 3).

mod clocks;
mod command;
mod exchange;
mod failures;
mod order;
mod refresh;
mod secrets;
mod short_keys;
mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tinkex_client::{ServiceClientBuilder, WallClock};
use tinkex_testkit::FakeServer;
use tinkex_testkit::service::{Dialect, Service, ServiceOptions};
use tokio::time::Instant;

use crate::harness;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A wall clock that goes with virtual time, and can be set.
#[derive(Clone)]
pub(crate) struct Wall {
    ahead: Arc<AtomicI64>,
    began: Instant,
}

impl Wall {
    fn new() -> Self {
        Self { ahead: Arc::default(), began: Instant::now() }
    }

    /// Sets the clock ahead, or back.
    pub(crate) fn jump(&self, seconds: i64) {
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(crate) fn clock(&self) -> WallClock {
        let (ahead, began) = (Arc::clone(&self.ahead), self.began);
        WallClock::new(move || {
            let at = 1_700_000_000 + self::ahead(&ahead);
            SystemTime::UNIX_EPOCH + Duration::from_secs(at) + began.elapsed()
        })
    }
}

fn ahead(seconds: &AtomicI64) -> u64 {
    // Far enough from zero that no test sets it back behind it.
    u64::try_from(1_000_000 + seconds.load(Ordering::Relaxed)).unwrap()
}

/// A service that takes tokens only and says so, with a clock of its own, and the server in front of it.
pub(crate) fn exchanging() -> (Service, FakeServer, Wall) {
    let wall = Wall::new();
    let options = ServiceOptions { clock: Some(wall.clock()), ..ServiceOptions::of(Dialect::production()) };
    let behind = Service::with_options(options);
    behind.set_client_config(&json!({ "pjwt_auth_enabled": true }));
    behind.demand_tokens(true);
    let server = FakeServer::with(behind.clone());
    (behind, server, wall)
}

/// A client whose clock is `wall`.
fn builder(server: &FakeServer, wall: &Wall) -> ServiceClientBuilder {
    harness::builder(server).wall_clock(wall.clock())
}

/// The credential of each request of a route.
fn keys(server: &FakeServer, route: &str) -> Vec<String> {
    server.requests(route).iter().map(|r| r.header("x-api-key").unwrap_or_default().to_owned()).collect()
}

/// The routes of all requests but heartbeats and refreshes of the flags, in order.
fn routes(server: &FakeServer) -> Vec<String> {
    server.all_requests().iter().map(|request| request.route().to_owned()).collect()
}

fn vectors() -> Value {
    let text = include_str!("../../../tinkex-testkit/fixtures/golden/vectors/credentials.json");
    serde_json::from_str(text).unwrap()
}

/// A JWT with these claims.
fn jwt(claims: &Value) -> String {
    use base64::Engine as _;
    let part = |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.s", part(&json!({ "alg": "none" })), part(claims))
}

/// The placeholders of the vectors, filled: `<jwt valid>` and `<jwt expired>`, by the system's clock.
fn filled(text: &str) -> String {
    let now = WallClock::default().now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    text.replace("<jwt valid>", &jwt(&json!({ "exp": now + 3600, "iat": now })))
        .replace("<jwt expired>", &jwt(&json!({ "exp": now - 10, "iat": now - 3600 })))
}
