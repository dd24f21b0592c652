//! The background refresh (PROTOCOL 3.4): ahead of expiry, with an end, and patient with a server that is down.

use std::time::Duration;

use tinkex_client::{FinishReason, ServiceClient};
use tinkex_testkit::{FakeServer, Step};
use tokio::time::Instant;
use tracing::Level;

use super::{HOUR, MINUTE, SECOND, builder, exchanging};
use crate::harness::{self, MODEL};
use crate::log_capture::LogCapture;

/// When tokens were fetched, since an instant.
fn exchanges(server: &FakeServer, since: Instant) -> Vec<Duration> {
    server.requests("auth/token").iter().map(|request| request.at - since).collect()
}

fn messages(log: &LogCapture, level: Level, part: &str) -> usize {
    log.messages(level).iter().filter(|message| message.contains(part)).count()
}

/// A token of an hour is refreshed after 27 to 33 minutes, again and again; every one by another lot.
#[tokio::test(start_paused = true)]
async fn ahead_of_expiry() {
    let (_behind, server, wall) = exchanging();
    let began = Instant::now();
    let _service = builder(&server, &wall).build().await.unwrap();
    tokio::time::sleep(20 * HOUR).await;
    let times = exchanges(&server, began);
    assert!((37..=45).contains(&times.len()), "{}", times.len());
    let mut pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for pause in &pauses {
        assert!((1620.0..=1980.1).contains(&pause.as_secs_f64()), "{pause:?}");
    }
    pauses.sort_unstable();
    pauses.dedup();
    assert!(pauses.len() > 10, "they are spread");
    let heartbeats = server.requests("session_heartbeat");
    assert!(heartbeats.len() > 7000);
    assert_eq!(server.max_in_flight("auth/token"), 1);
}

/// It ends when the service is closed, and when its last client is dropped.
#[tokio::test(start_paused = true)]
async fn it_ends_with_its_owner() {
    for close in [true, false] {
        let (_behind, server, wall) = exchanging();
        let service = builder(&server, &wall).build().await.unwrap();
        let kept = if close {
            service.close(FinishReason::Success).await.unwrap();
            Some(service)
        } else {
            drop(service);
            None
        };
        tokio::time::sleep(10 * HOUR).await;
        assert_eq!(server.count("auth/token"), 1, "close: {close}");
        drop(kept);
    }
}

/// A closed service still fetches the tokens that its last samples need, but begins no refresh again.
#[tokio::test(start_paused = true)]
async fn after_the_close() {
    let (behind, server, wall) = exchanging();
    behind.set_latency(90 * MINUTE);
    let service = builder(&server, &wall).build().await.unwrap();
    let sampler =
        service.sampling_client().base_model(MODEL).without_stuck_detection().create().await.unwrap();
    let handle = sampler.sample(harness::request(&[1]));
    server.wait_for("asample", 1).await;
    service.close(FinishReason::Success).await.unwrap();
    handle.await.unwrap();
    assert!((2..=4).contains(&server.count("auth/token")), "{}", server.count("auth/token"));
    let before = server.count("auth/token");
    tokio::time::sleep(10 * HOUR).await;
    assert_eq!(server.count("auth/token"), before);
}

/// A server that is down is asked again every 60 s, one attempt each; the first failure is a warning, the others are not.
/// Nobody else notices, and once it is back all is as before.
#[tokio::test(start_paused = true)]
async fn failures_are_repeated_every_minute() {
    let (log, _guard) = LogCapture::start();
    let (behind, server, wall) = exchanging();
    let began = Instant::now();
    let service = builder(&server, &wall).build().await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    behind.refuse_exchange(Some(503));
    tokio::time::sleep(45 * MINUTE).await;
    sampler.sample(harness::request(&[1])).await.unwrap();
    let times = exchanges(&server, began);
    let pauses: Vec<_> = times.windows(2).skip(1).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert!(pauses.len() >= 10 && pauses.iter().all(|pause| *pause == 60), "{pauses:?}");
    assert_eq!(messages(&log, Level::WARN, "could not be refreshed"), 1);
    assert_eq!(messages(&log, Level::DEBUG, "still not refreshed"), times.len() - 2);
    behind.refuse_exchange(None);
    tokio::time::sleep(2 * MINUTE).await;
    let well = server.count("auth/token");
    tokio::time::sleep(26 * MINUTE).await;
    assert_eq!(server.count("auth/token"), well, "the next one has its time again");
    tokio::time::sleep(8 * MINUTE).await;
    assert_eq!(server.count("auth/token"), well + 1);
}

/// A credential that is refused: the refresh goes on while the token has more than 120 s left, and then ends; the next call
/// that gets a token begins it anew.
#[tokio::test(start_paused = true)]
async fn a_refused_credential_ends_it() {
    let (log, _guard) = LogCapture::start();
    let (behind, server, wall) = exchanging();
    let began = Instant::now();
    let service = connected_without_heartbeats(&server, &wall).await;
    behind.refuse_exchange(Some(401));
    tokio::time::sleep(3 * HOUR).await;
    let refreshes: Vec<_> = exchanges(&server, began);
    let last = refreshes.last().unwrap().as_secs_f64();
    assert!((3600.0 - 120.0..=3600.0 - 59.0).contains(&last), "the last at {last} s");
    assert_eq!(messages(&log, Level::WARN, "not refreshed any more"), 1);

    behind.refuse_exchange(None);
    service.rest_client().server_capabilities().await.unwrap();
    let again = server.count("auth/token");
    tokio::time::sleep(34 * MINUTE).await;
    assert_eq!(server.count("auth/token"), again + 1, "it is at work again");
}

/// A service whose session is over at once, so that no heartbeat asks for tokens; its flags are not refreshed either.
async fn connected_without_heartbeats(server: &FakeServer, wall: &super::Wall) -> ServiceClient {
    server.script("session_heartbeat", [Step::status(410)]);
    server.script("client/dynamic_config", [Step::status(404)]);
    let service = builder(server, wall).build().await.unwrap();
    tokio::time::sleep(15 * SECOND).await;
    service
}
