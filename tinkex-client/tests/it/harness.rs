//! What the tests share: clients of a fake server.

use tinkex_client::{
    ModelInput, SampleRequest, SamplingClient, SamplingParams, ServiceClient, ServiceClientBuilder,
};
use tinkex_testkit::FakeServer;

/// The base model of the tests.
pub(crate) const MODEL: &str = "Qwen/Qwen3-8B";

/// A builder over the server's in-memory face, with a fixed seed.
pub(crate) fn builder(server: &FakeServer) -> ServiceClientBuilder {
    ServiceClient::builder().api_key("tml-test").base_url(server.url()).transport(server.transport()).seed(7)
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

/// A request for a few tokens.
pub(crate) fn request(prompt: &[i32]) -> SampleRequest {
    SampleRequest::new(ModelInput::from_ints(prompt), SamplingParams::new().max_tokens(4).seed(1))
}
