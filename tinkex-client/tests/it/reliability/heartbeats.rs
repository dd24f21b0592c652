//! The heartbeat, which no caller waits for.

use std::ops::RangeInclusive;
use std::time::Duration;

use tinkex_client::ServiceClient;
use tinkex_testkit::FakeServer;
use tinkex_testkit::service::Service;
use tokio::time::Instant;
use tracing::Level;

use super::faults::*;
use super::seen::{Ending, Observed, Told};
use super::stage;
use super::table::{Played, rows};
use crate::harness::request;
use crate::log_capture::LogCapture;

/// How long heartbeats are watched.
const WATCHED: Duration = Duration::from_secs(600);
const HEARTBEATS: &str = "session_heartbeat";

async fn both(fault: &'static Fault, once: RangeInclusive<f64>, lasting: RangeInclusive<f64>) -> Played {
    let passed = passing(fault).await.within(once, fault.name);
    let lasted = lasting_for_good(fault).await.within(lasting, fault.name);
    Played { fault: fault.name.to_owned(), once: Some(passed), lasting: Some(lasted) }
}

/// From the heartbeat that meets the fault to the next one that succeeds.
async fn passing(fault: &Fault) -> Observed {
    let (behind, server, client) = connected().await;
    server.script(HEARTBEATS, [(fault.step)()]).then_behave();
    let (log, _guard) = LogCapture::start();
    server.wait_for(HEARTBEATS, 1).await;
    let start = Instant::now();
    let heard = behind.heartbeats(&client.session_id().unwrap());
    let again = async { server.wait_for(HEARTBEATS, 2).await };
    let ending = match tokio::time::timeout(WATCHED, again).await {
        Ok(()) => Ending::Success,
        Err(_) => Ending::Ended,
    };
    let took = if ending == Ending::Success { start.elapsed() } else { Duration::ZERO };
    tokio::time::sleep(Duration::from_secs(1)).await;
    let heard = behind.heartbeats(&client.session_id().unwrap()) - heard;
    assert_eq!(heard > 0, ending == Ending::Success);
    seen(ending, took, &server, &log)
}

/// The client goes on working meanwhile.
async fn lasting_for_good(fault: &Fault) -> Observed {
    let (_behind, server, client) = connected().await;
    let sampler = stage::sampler(&client).await;
    server.script(HEARTBEATS, [(fault.step)()]).then_repeat_last();
    let (log, _guard) = LogCapture::start();
    server.wait_for(HEARTBEATS, 1).await;
    let start = Instant::now();
    tokio::time::sleep(WATCHED).await;
    sampler.sample(request(&[1])).await.unwrap();
    let ended = server.count(HEARTBEATS) == 1;
    let took = if ended { Duration::ZERO } else { start.elapsed() };
    seen(if ended { Ending::Ended } else { Ending::Waiting }, took, &server, &log)
}

fn seen(ending: Ending, took: Duration, server: &FakeServer, log: &LogCapture) -> Observed {
    let attempts = server.requests(HEARTBEATS).len();
    let warning = log.messages(Level::WARN).pop();
    Observed { ending, took, attempts, told: Told::of(&log.lines()), warning }
}

async fn connected() -> (Service, FakeServer, ServiceClient) {
    let behind = Service::default();
    let server = FakeServer::with(behind.clone());
    let client = stage::service(&server).await;
    (behind, server, client)
}

rows! {
    "Heartbeats", "Every 10 s, one attempt each of 10 s at most, on connections of their own. Nobody waits for them, and \
     samples and training go on whatever becomes of them. Times are counted from the first heartbeat that fails; after \
     120 s without a success each failure is a WARN. A 410 says that the session is over.";

    refused: both(&REFUSED, 10.0..=10.01, 600.0..=600.1);
    reset: both(&RESET, 10.0..=10.01, 600.0..=600.1);
    half_a_body: both(&HALF_A_BODY, 10.0..=10.01, 600.0..=600.1);
    stall: both(&STALL, 20.0..=20.01, 600.0..=600.1);
    hang: both(&HANG, 20.0..=20.01, 600.0..=600.1);
    billing_402: both(&BILLING, 10.0..=10.01, 600.0..=600.1);
    loop_408: both(&REQUEST_TIMEOUT, 10.0..=10.01, 600.0..=600.1);
    conflict_409: both(&CONFLICT, 10.0..=10.01, 600.0..=600.1);
    gone_410: both(&GONE, 0.0..=0.0, 0.0..=0.0);
    throttled_429: both(&THROTTLED, 10.0..=10.01, 600.0..=600.1);
    server_error_500: both(&SERVER_ERROR, 10.0..=10.01, 600.0..=600.1);
    not_implemented_501: both(&NOT_IMPLEMENTED, 10.0..=10.01, 600.0..=600.1);
}
