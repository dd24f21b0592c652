//! Defects to beat, by id: TR-1, TR-2, F-11, F-12, F-14, F-22 and F-30 from outside, judged by what the model has learned
//! in the end. (TR-3, a strict server, is in the suites of the dialects and in the interleavings.)

mod batches;
mod identities;
mod runtimes;

use prost::Message as _;
use serde_json::Value;
use tinkex_client::{AdamParams, Datum, LossFn, RetryPolicy, ServiceClient, TrainingClient};
use tinkex_testkit::service::{Dialect, Service};
use tinkex_testkit::{FakeServer, Received};
use tinkex_types::proto;

use crate::harness::{self, MODEL, example};

/// A server, and a connected client of it.
struct Setup {
    service: Service,
    server: FakeServer,
    client: ServiceClient,
}

impl Setup {
    async fn new(dialect: Dialect, flags: &Value) -> Self {
        let service = Service::new(dialect);
        service.set_client_config(flags);
        let server = FakeServer::with(service.clone());
        let client = harness::service(&server).await;
        Self { service, server, client }
    }

    /// A training client, whose first pass has found out the form of passes under sequence id 1.
    async fn trainer(&self, policy: RetryPolicy) -> TrainingClient {
        let builder = self.client.lora_training_client(MODEL).rank(4).seed(7).retry_policy(policy);
        let trainer = builder.create().await.unwrap();
        loss_of(&trainer).await;
        trainer
    }

    /// F-11: the run has all ids from 1 on, in order, and has carried them out.
    #[track_caller]
    fn assert_in_order(&self, trainer: &TrainingClient) {
        let run = self.service.run(trainer.model_id()).unwrap();
        let mut ids = run.seq_ids.clone();
        ids.sort_unstable();
        assert!(ids.iter().copied().eq(1..=ids.len() as u64), "{run:?}");
        assert!(run.waiting.is_empty() && run.executed == ids, "{run:?}");
    }
}

fn adam() -> AdamParams {
    AdamParams::new(1e-2)
}

fn policy() -> RetryPolicy {
    RetryPolicy::default()
}

/// What the model makes of a text that it is not trained on.
async fn loss_of(trainer: &TrainingClient) -> f64 {
    trainer.forward([example("a text to judge by")], LossFn::CrossEntropy).await.unwrap().loss().unwrap()
}

/// So many examples, no two neighbours alike.
fn data(count: usize) -> Vec<Datum> {
    (0..count).map(|n| example(&format!("{n:x}!"))).collect()
}

fn pass(request: &Received) -> proto::ForwardBackwardRequest {
    proto::ForwardBackwardRequest::decode(request.decoded_body().unwrap()).unwrap()
}
