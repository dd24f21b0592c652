//! Connecting, the session's life, flags, sampler handles, and what two services must not share.

mod closing;
mod connecting;
mod flags;
mod handles;
mod heartbeats;
mod stuck;

use std::time::Duration;

use serde_json::Value;
use tinkex_client::{SamplingClient, ServiceClient};
use tinkex_testkit::FakeServer;
use tinkex_testkit::service::{Dialect, Service};
use tokio::time::Instant;

use crate::harness::{self, MODEL};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const CONNECTING: [&str; 3] = ["client/config", "client/dynamic_config", "create_session"];

/// A server and the service behind it, to be steered.
fn steered() -> (Service, FakeServer) {
    let behind = Service::new(Dialect::production());
    let server = FakeServer::with(behind.clone());
    (behind, server)
}

/// Lets virtual time pass.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Lets every task run that can run now, and what is on the wire arrive: time does not pass before.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// When the requests of a route came, since an instant.
fn arrivals(server: &FakeServer, route: &str, since: Instant) -> Vec<Duration> {
    server.requests(route).iter().map(|request| request.at - since).collect()
}

async fn of_model(service: &ServiceClient) -> SamplingClient {
    service.sampling_client().base_model(MODEL).create().await.unwrap()
}

/// A client of a service with these start-up flags.
async fn with_flags(flags: Value) -> (Service, FakeServer, ServiceClient, SamplingClient) {
    let (behind, server) = steered();
    behind.set_client_config(&flags);
    let (service, sampler) = harness::sampler(&server).await;
    (behind, server, service, sampler)
}
