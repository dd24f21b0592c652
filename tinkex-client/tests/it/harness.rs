//! What the tests share: clients of a fake server.
//!
//! The tests run in memory, or over a transport that `TINKEX_TEST_TRANSPORT` names (see [`swapped`]).

mod swapped;

use std::ops::RangeInclusive;

use tinkex_client::{
    Datum, ModelInput, SampleRequest, SamplingClient, SamplingParams, ServiceClient, ServiceClientBuilder,
    TrainingClient,
};
use tinkex_testkit::FakeServer;
use tinkex_testkit::service::Service;
use tokio::time::Instant;

pub(crate) use swapped::{HyperTransport, UreqTransport, is_in_memory, transport};

/// The base model of the tests.
pub(crate) const MODEL: &str = "Qwen/Qwen3-8B";

/// A builder over the transport that the tests run on, with a fixed seed. It reports nothing: tests count requests, and
/// those of telemetry would be among them.
pub(crate) fn builder(server: &FakeServer) -> ServiceClientBuilder {
    reporting_builder(server).without_telemetry()
}

/// [`builder`], with telemetry as it is by default.
pub(crate) fn reporting_builder(server: &FakeServer) -> ServiceClientBuilder {
    ServiceClient::builder().api_key("tml-test").base_url(server.url()).transport(transport(server)).seed(7)
}

/// A connected service client.
pub(crate) async fn service(server: &FakeServer) -> ServiceClient {
    builder(server).build().await.expect("the fake server accepts sessions")
}

/// A sampling client of a new service client.
pub(crate) async fn sampler(server: &FakeServer) -> (ServiceClient, SamplingClient) {
    let service = service(server).await;
    let sampler = service.sampling_client().base_model(MODEL).create().await.expect("the model is known");
    (service, sampler)
}

/// A training client of a new service client, in front of `service`.
pub(crate) async fn trainer_of(service: &Service) -> (FakeServer, ServiceClient, TrainingClient) {
    let server = FakeServer::with(service.clone());
    let client = self::service(&server).await;
    let trainer = client.lora_training_client(MODEL).rank(4).seed(7).create().await;
    (server, client, trainer.expect("the model is known"))
}

/// An example to learn: each byte of the text from those before it.
pub(crate) fn example(text: &str) -> Datum {
    let tokens: Vec<i32> = text.bytes().map(i32::from).collect();
    let (input, targets) = (&tokens[..tokens.len() - 1], &tokens[1..]);
    let weights = vec![1.0; targets.len()];
    Datum::new(ModelInput::from_ints(input)).target_tokens(targets.iter().copied()).weights(weights)
}

/// A request for a few tokens.
pub(crate) fn request(prompt: &[i32]) -> SampleRequest {
    SampleRequest::new(ModelInput::from_ints(prompt), SamplingParams::new().max_tokens(4).seed(1))
}

/// A server in front of `service`, and connected clients of it.
pub(crate) async fn in_front_of(service: &Service) -> (FakeServer, ServiceClient, SamplingClient) {
    let server = FakeServer::with(service.clone());
    let (client, sampler) = sampler(&server).await;
    (server, client, sampler)
}

/// When the requests of a route arrived, in seconds since `start`.
pub(crate) fn arrivals(server: &FakeServer, route: &str, start: Instant) -> Vec<f64> {
    server.requests(route).iter().map(|request| (request.at - start).as_secs_f64()).collect()
}

/// Asserts that a time in seconds lies within both bounds, give or take the grain of the timer.
#[track_caller]
pub(crate) fn assert_within(seconds: f64, bounds: RangeInclusive<f64>, what: &str) {
    const GRAIN: f64 = 0.0021;
    let (least, most) = (bounds.start() - GRAIN, bounds.end() + GRAIN);
    assert!((least..=most).contains(&seconds), "{what}: {seconds:.4} s is not within {bounds:?}");
}
