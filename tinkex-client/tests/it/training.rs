//! Training: operations in order, over failures, in batches, and what is told of them.

mod batches;
mod closing;
mod creation;
mod handles;
mod limits;
mod order;
mod queue_states;
mod recovery;
mod weights;
mod wire_forms;

use std::sync::Arc;

use prost::Message as _;
use tinkex_client::{AdamParams, RetryPolicy, ServiceClient, TrainingClient};
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, Received};

use crate::harness::{self, MODEL};

/// A step that is as good as any.
fn adam() -> AdamParams {
    AdamParams::new(1e-3)
}

/// The sequence ids of the requests of a route, in order of arrival.
fn ids(server: &FakeServer, route: &str) -> Vec<u64> {
    server.requests(route).iter().map(|request| id(request)).collect()
}

fn id(request: &Received) -> u64 {
    request.seq_id().expect("a sequence id")
}

/// A pass that was sent as protobuf.
fn pass(request: &Received) -> tinkex_types::proto::ForwardBackwardRequest {
    tinkex_types::proto::ForwardBackwardRequest::decode(request.body.clone()).expect("a protobuf body")
}

/// Numbered training requests, in order of arrival, such as `forward_backward 1`.
fn arrivals(server: &FakeServer) -> Vec<String> {
    const ROUTES: [&str; 6] = [
        "forward",
        "forward_backward",
        "optim_step",
        "save_weights",
        "save_weights_for_sampler",
        "load_weights",
    ];
    let line = |request: &Arc<Received>| {
        let of_interest = ROUTES.contains(&request.route());
        of_interest.then(|| request.seq_id()).flatten().map(|id| format!("{} {id}", request.route()))
    };
    server.all_requests().iter().filter_map(line).collect()
}

/// Whether a request is one that settles a sequence id.
fn is_filler(request: &Received) -> bool {
    request.route() == "forward_backward" && {
        let pass = pass(request);
        pass.forward_only && pass.data.len() == 1 && pass.loss_fn == "cross_entropy"
    }
}

/// A training client whose submissions are single attempts.
async fn hasty(client: &ServiceClient) -> TrainingClient {
    let builder = client.lora_training_client(MODEL).rank(4).seed(7).retry_policy(RetryPolicy::none());
    builder.create().await.expect("the model is known")
}

/// A server in front of `service`, and a hasty client of it.
async fn hasty_of(service: &Service) -> (FakeServer, ServiceClient, TrainingClient) {
    let server = FakeServer::with(service.clone());
    let client = harness::service(&server).await;
    let trainer = hasty(&client).await;
    (server, client, trainer)
}
