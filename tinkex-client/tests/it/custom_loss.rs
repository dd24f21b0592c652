//! Custom losses (PROTOCOL 13; F-12, TR-2), against the stateful fake service, whose runs really learn.

mod checks;
mod failures;
mod handles;
mod losses;
mod two_passes;

use std::sync::Arc;

use prost::Message as _;
use serde_json::Value;
use tinkex_client::{AdamParams, Datum, LossFn, ServiceClient, TrainingClient};
use tinkex_testkit::service::{Dialect, RunInfo, Service};
use tinkex_testkit::{FakeServer, Received};
use tinkex_types::proto;

use crate::harness::{self, MODEL};

/// A training client of a service, with all that stands behind it.
struct Setup {
    service: Service,
    server: FakeServer,
    client: ServiceClient,
    trainer: TrainingClient,
}

impl Setup {
    async fn new() -> Self {
        Self::of(Dialect::production(), &Value::Null).await
    }

    /// With these start-up flags (PROTOCOL 4.1).
    async fn with_flags(flags: &Value) -> Self {
        Self::of(Dialect::production(), flags).await
    }

    async fn of(dialect: Dialect, flags: &Value) -> Self {
        let service = Service::new(dialect);
        if !flags.is_null() {
            service.set_client_config(flags);
        }
        let server = FakeServer::with(service.clone());
        let client = harness::service(&server).await;
        let trainer = trainer(&client).await;
        Self { service, server, client, trainer }
    }

    fn run(&self) -> RunInfo {
        self.service.run(self.trainer.model_id()).unwrap()
    }

    /// The forward and forward/backward requests, in order of arrival.
    fn passes(&self) -> Vec<proto::ForwardBackwardRequest> {
        self.server.requests("forward_backward").iter().map(decoded).collect()
    }

    /// The log-probabilities that the model gives now.
    async fn logprobs(&self, data: &[Datum]) -> Vec<Vec<f32>> {
        let output = self.trainer.forward(data, LossFn::CrossEntropy).await.unwrap();
        output.loss_fn_outputs.iter().map(|output| output.logprobs().unwrap().to_vec()).collect()
    }
}

async fn trainer(client: &ServiceClient) -> TrainingClient {
    client.lora_training_client(MODEL).rank(4).seed(11).create().await.unwrap()
}

fn decoded(request: &Arc<Received>) -> proto::ForwardBackwardRequest {
    proto::ForwardBackwardRequest::decode(request.body.clone()).unwrap()
}

/// A text of bytes, as one datum: every byte is to predict the next.
fn text(text: &str) -> Datum {
    let tokens: Vec<i32> = text.bytes().map(i32::from).collect();
    let (last, prompt) = (tokens.len() - 1, &tokens[..tokens.len() - 1]);
    Datum::new(prompt.to_vec()).target_tokens(tokens[1..].to_vec()).weights(vec![1.0; last])
}

fn step() -> AdamParams {
    AdamParams::new(0.01)
}
