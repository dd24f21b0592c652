//! The training suite under every dialect of the protocol, and under each of their switches alone (OPEN_SERVERS).

mod faults;
mod whole_loop;

use std::time::Duration;

use serde_json::{Value, json};
use tinkex_client::{AdamParams, Datum, LossFn, ServiceClient, TrainingClient};
use tinkex_testkit::FakeServer;
use tinkex_testkit::service::{
    ConfigAnswer, Dialect, FailureStyle, PendingStyle, ResultEncoding, RunInfo, Service, TrainingBody,
    TrainingOrder,
};

use crate::harness::{self, MODEL, example};

/// More than any operation takes that nothing is wrong with.
const SOON: Duration = Duration::from_secs(60);

/// A server of one dialect, and a client of it.
struct World {
    dialect: Dialect,
    service: Service,
    server: FakeServer,
    client: ServiceClient,
}

impl World {
    async fn new(dialect: Dialect, flags: Value) -> Self {
        let service = Service::new(dialect.clone());
        service.set_client_config(&flags);
        let server = FakeServer::with(service.clone());
        let client = harness::service(&server).await;
        Self { dialect, service, server, client }
    }

    async fn trainer(&self) -> TrainingClient {
        self.client.lora_training_client(MODEL).rank(4).seed(7).create().await.unwrap()
    }

    /// How many datums make three chunks here: a few where the server says so, else what the reference SDK does.
    fn three_chunks(&self) -> usize {
        if self.dialect.client_config == ConfigAnswer::Flags { 2 * 2 + 1 } else { 2 * 1024 + 1 }
    }

    fn run(&self, trainer: &TrainingClient) -> RunInfo {
        self.service.run(trainer.model_id()).unwrap()
    }

    /// F-11, TR-3: the run has every id up to the highest, and has carried all of them out, in order.
    #[track_caller]
    fn assert_in_order(&self, trainer: &TrainingClient) {
        let run = self.run(trainer);
        assert!(run.gaps().is_empty() && run.waiting.is_empty(), "{run:?}");
        let [mut ids, mut executed] = [run.seq_ids.clone(), run.executed.clone()];
        ids.sort_unstable();
        if self.dialect.training_order == TrainingOrder::Tolerant {
            // It carries the chunks of a batch out as they come.
            executed.sort_unstable();
        }
        assert_eq!(executed, ids, "{run:?}");
        if !self.dialect.rejected_requests_use_ids {
            assert!(ids.iter().copied().eq(1..=ids.len() as u64), "{run:?}");
        }
    }
}

macro_rules! suite {
    ($($world:ident: $dialect:expr, $flags:tt;)*) => { $(
        mod $world {
            use super::*;
            suite!(@tests $dialect, $flags:
                whole_loop::whole_loop
                faults::lost_answers faults::refused_for_now faults::a_pause faults::a_failure_of_the_server
            );
        }
    )* };
    (@tests $dialect:expr, $flags:tt: $($module:ident::$test:ident)*) => { $(
        #[tokio::test(start_paused = true)]
        async fn $test() {
            let mut flags = json!($flags);
            flags["fwdbwd_max_chunk_len"] = json!(2);
            $module::$test(World::new($dialect, flags).await).await;
        }
    )* };
}

/// The production service, with a difference.
macro_rules! production_but {
    ($($field:ident: $value:expr),*) => {
        Dialect { $($field: $value,)* ..Dialect::production() }
    };
}

suite! {
    production: Dialect::production(), {};
    skyrl: Dialect::skyrl(), {};
    tuft: Dialect::tuft(), {};
    hatchery: Dialect::hatchery(), {};
    protobuf_only: production_but!(training_bodies: TrainingBody::ProtobufOnly, result_encoding: ResultEncoding::Protobuf), {};
    json_only: production_but!(training_bodies: TrainingBody::JsonOnly, result_encoding: ResultEncoding::Json), {};
    strict_fields: production_but!(refuse_unknown_fields: true, user_metadata_required: true, newer_routes: false), {};
    strict_ids: production_but!(training_order: TrainingOrder::Strict), {};
    strict_ids_used_up: production_but!(training_order: TrainingOrder::Strict, rejected_requests_use_ids: true), {};
    tolerated_gaps: production_but!(training_order: TrainingOrder::Tolerant), {};
    awaited_gaps: production_but!(training_order: TrainingOrder::Waiting, refused_ids_block: true), {};
    failures_as_400: production_but!(failure: FailureStyle::Status(400)), {};
    failures_as_422: production_but!(failure: FailureStyle::Status(422)), {};
    unknown_losses_as_501: production_but!(unknown_loss_status: Some(501), refused_ids_block: true), {};
    try_again_while_pending: production_but!(pending: PendingStyle::TryAgain), {};
    bare_408_while_pending: production_but!(pending: PendingStyle::Bare408), {};
    zstd_answers: production_but!(zstd_from_bytes: Some(0), result_encoding: ResultEncoding::Json), {};
    zstd_requests: Dialect::production(), { "proto_compress_fwdbwd": true };
    chunks_in_order: Dialect::production(), { "parallel_fwdbwd_chunks": false };
    model_first: production_but!(create_from_checkpoint: false, load_only_first: true, session_paths: true), {};
}

/// Texts to learn.
fn batch() -> Vec<Datum> {
    ["to be or not to be", "that is the question"].map(example).into()
}

fn adam() -> AdamParams {
    AdamParams::new(1e-2)
}

/// The loss under the weights as they are.
async fn loss_of(trainer: &TrainingClient) -> f64 {
    trainer.forward(batch(), LossFn::CrossEntropy).await.unwrap().loss().unwrap()
}

/// A training step without a wait in it; its loss.
async fn step(trainer: &TrainingClient) -> f64 {
    let pass = trainer.forward_backward(batch(), LossFn::CrossEntropy);
    let update = trainer.optim_step(adam());
    let loss = pass.await.unwrap().loss().unwrap();
    update.await.unwrap();
    loss
}
