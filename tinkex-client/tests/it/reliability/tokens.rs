//! Short-lived tokens (JWT) that have expired or are rejected, where the service wants keys exchanged (PROTOCOL 3.4).

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::json;
use tinkex_client::{SamplingClient, ServiceClient};
use tinkex_http::WallClock;
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, Step};
use tokio::time::Instant;

use super::seen::Ending;
use super::stage::{self, observe};
use super::table::{Played, rows};
use crate::harness::request;

const MINUTE: Duration = Duration::from_secs(60);

/// A client that has a token, which lives for an hour.
struct Exchanged {
    service: Service,
    server: FakeServer,
    /// How far the clock of this machine is ahead of the service's, in seconds.
    ahead: Arc<AtomicI64>,
    _client: ServiceClient,
    sampler: SamplingClient,
}

impl Exchanged {
    async fn new() -> Self {
        fastrand::seed(7);
        let service = Service::default();
        service.set_client_config(&json!({"pjwt_auth_enabled": true}));
        service.demand_tokens(true);
        let server = FakeServer::with(service.clone());
        let ahead = Arc::new(AtomicI64::new(0));
        let client = stage::builder(&server).wall_clock(clock(&ahead)).build().await.unwrap();
        let sampler = stage::sampler(&client).await;
        Self { service, server, ahead, _client: client, sampler }
    }

    /// A sample, and another one when the trouble is over.
    async fn sample(&self, fault: &str, bounds: RangeInclusive<f64>) -> Played {
        let before = self.server.count("asample");
        let attempts = || usize::try_from(self.server.count("asample") - before).unwrap();
        let mut observed =
            observe(attempts, async { self.sampler.sample(request(&[1])).await.map(drop) }).await;
        if let Ending::Failure(failure) = &mut observed.ending {
            failure.message = without_the_time(&failure.message);
            assert!(!failure.message.contains("eyJ") && !failure.message.contains("tml-test"), "{failure:?}");
        }
        self.service.refuse_exchange(None);
        self.sampler.sample(request(&[1])).await.unwrap();
        let seen = observed.within(bounds, fault);
        Played { fault: fault.to_owned(), once: Some(seen), lasting: None }
    }
}

/// A call joins an exchange that another one began, and nothing but the time of day tells how long before.
fn without_the_time(message: &str) -> String {
    match message.split_once(" attempts in ") {
        Some((before, after)) => {
            let (_, rest) = after.split_once(' ').unwrap();
            format!("{before} attempts in <so many> {rest}")
        }
        None => message.to_owned(),
    }
}

/// The service's clock, which goes with virtual time, and some seconds more.
fn clock(ahead: &Arc<AtomicI64>) -> WallClock {
    let (wall, began, ahead) = (WallClock::default().now(), Instant::now(), Arc::clone(ahead));
    WallClock::new(move || {
        let now = wall + began.elapsed();
        let ahead = ahead.load(Ordering::Relaxed);
        let by = Duration::from_secs(ahead.unsigned_abs());
        if ahead < 0 { now - by } else { now + by }
    })
}

async fn rejected() -> Played {
    let client = Exchanged::new().await;
    client.service.revoke_tokens();
    client.sample("the token is rejected (401 `invalid_token`)", 0.0..=0.01).await
}

async fn rejected_for_good() -> Played {
    let client = Exchanged::new().await;
    let no = Step::status(401).header("www-authenticate", r#"Bearer error="invalid_token""#);
    client.server.script("asample", [no.repeat(2)]).then_behave();
    client.sample("the token that replaces it is rejected too", 0.0..=0.01).await
}

async fn expired_while_asleep() -> Played {
    let client = Exchanged::new().await;
    tokio::time::advance(120 * MINUTE).await;
    client.sample("the token expired while the machine slept for 2 h", 0.0..=0.01).await
}

/// `auth/token` answers with a status while so much time passes.
async fn no_exchange(fault: &str, status: u16, time: Duration, bounds: RangeInclusive<f64>) -> Played {
    let client = Exchanged::new().await;
    client.service.refuse_exchange(Some(status));
    tokio::time::sleep(time).await;
    client.sample(fault, bounds).await
}

/// The clock of this machine jumps while the client has a token.
async fn clock_jumps(fault: &str, ahead: i64) -> Played {
    let client = Exchanged::new().await;
    client.ahead.store(ahead, Ordering::Relaxed);
    let played = client.sample(fault, 0.0..=0.01).await;
    // And goes on that way: through refreshes, and without an exchange for each call.
    for _ in 0..36 {
        tokio::time::sleep(10 * MINUTE).await;
        client.sampler.sample(request(&[1])).await.unwrap();
    }
    let exchanges = client.server.count("auth/token");
    assert!((10..=18).contains(&exchanges), "{fault}: {exchanges} exchanges in 6 hours");
    played
}

rows! {
    "Expired and rejected tokens", "Where the service wants the key exchanged for short-lived tokens; played with `sample()` and \
     tokens that live for 1 h. They are refreshed half-way, by their lifetime and not by the time of day. Attempts are those \
     of the submission.";

    token_rejected: rejected();
    token_rejected_for_good: rejected_for_good();
    token_expired_while_asleep: expired_while_asleep();
    exchange_down_within_the_life_of_the_token:
        no_exchange("no exchange (503), the token is good", 503, 45 * MINUTE, 0.0..=0.01);
    exchange_down_beyond_the_life_of_the_token:
        no_exchange("no exchange (503), the token has expired", 503, 90 * MINUTE, 0.02..=65.5);
    key_refused_beyond_the_life_of_the_token:
        no_exchange("the key is refused (401), the token has expired", 401, 90 * MINUTE, 0.0..=0.01);
    clock_jumps_ahead: clock_jumps("the clock here jumps 1 h ahead", 3600);
    clock_jumps_back: clock_jumps("the clock here jumps 1 h back", -3600);
}
