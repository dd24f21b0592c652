//! Samples that are abandoned: what is sent for them, what is not, and that nothing leaks (CA-1).

mod on_the_wire;
mod ownership;
mod stages;
mod ways;

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tinkex_client::{SampleHandle, SamplingClient, ServiceClient};
use tinkex_testkit::FakeServer;
use tinkex_testkit::service::Service;

use crate::harness::{self, request};

const AT_REST: Option<(usize, i64)> = Some((400, 10_485_760));

/// A service with cancellations on or off, and clients of it.
async fn connected(
    cancels: bool,
    flags: serde_json::Value,
) -> (Service, FakeServer, ServiceClient, SamplingClient) {
    let service = Service::default();
    service.set_client_config(&flags);
    service.set_dynamic_config(&json!({"sample_cancel_enabled": cancels}));
    let (server, client, sampler) = harness::in_front_of(&service).await;
    (service, server, client, sampler)
}

fn fan_out(sampler: &SamplingClient, samples: usize) -> Vec<SampleHandle> {
    (0..samples).map(|n| sampler.sample(request(&[1, i32::try_from(n).unwrap()]))).collect()
}

/// Drops every other handle.
fn drop_half(handles: Vec<SampleHandle>) -> Vec<SampleHandle> {
    handles.into_iter().enumerate().filter_map(|(n, handle)| (n % 2 == 0).then_some(handle)).collect()
}

async fn all_well(handles: Vec<SampleHandle>) {
    for result in join_all(handles).await {
        result.unwrap();
    }
}

/// Lets everything happen that happens without the passing of time, and a little of that.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

async fn assert_nothing_leaks(client: &ServiceClient) {
    settle().await;
    assert_eq!(client.dispatch_available(), AT_REST);
    assert!(client.inflight().is_empty(), "{:?}", client.inflight());
}

fn cancelled(service: &Service) -> BTreeSet<String> {
    let ids = service.cancelled();
    let set: BTreeSet<_> = ids.iter().cloned().collect();
    assert_eq!(set.len(), ids.len(), "each promise is cancelled once");
    set
}

fn promises(handles: &[SampleHandle]) -> BTreeSet<String> {
    handles.iter().filter_map(|handle| Some(handle.request_id()?.to_string())).collect()
}
