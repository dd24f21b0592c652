//! Saving, restoring and copying weights (PROTOCOL 14).

use std::time::Duration;

use serde_json::json;
use tinkex_client::{
    CopyWeights, LoadState, SamplerWeightsKind, SamplingSnapshot, SaveExternalWeights, SaveSamplerWeights,
    SaveState, ServiceClient, TrainingClient,
};
use tinkex_testkit::FakeServer;

use super::fixtures::Scenario;
use super::replay;
use crate::harness::MODEL;

/// The scenarios of this file.
pub(super) const REPLAYED: &[&str] = &[
    "copy_weights",
    "load_weights_legacy",
    "save_state_full",
    "save_state_minimal",
    "save_weights_external",
    "save_weights_for_sampler_named",
    "save_weights_for_sampler_unnamed_inflight",
    "save_weights_for_sampler_unnamed_snapshot",
];

/// A scenario with a client in front of its server.
struct Stage {
    scenario: Scenario,
    server: FakeServer,
    service: ServiceClient,
    trainer: TrainingClient,
}

impl Stage {
    async fn of(name: &str) -> Self {
        let scenario = Scenario::load(name);
        let server = replay::server(&scenario);
        let service = replay::client(&server).build().await.unwrap();
        let trainer = service.lora_training_client(MODEL).create().await.unwrap();
        Self { scenario, server, service, trainer }
    }

    /// The caller got this path, and the requests were the recorded ones.
    #[track_caller]
    fn assert_path(&self, path: &str) {
        assert_eq!(self.scenario.decoded()["path"], path, "{}", self.scenario.name);
        self.assert_requests();
    }

    #[track_caller]
    fn assert_requests(&self) {
        replay::assert_requests(&self.server, &self.scenario, &[], false);
        replay::assert_order(&self.server, &self.scenario);
    }
}

#[tokio::test(start_paused = true)]
async fn save_state_minimal() {
    let stage = Stage::of("save_state_minimal").await;
    let saved = stage.trainer.save_state("ckpt-1").await.unwrap();
    stage.assert_path(saved.path.as_str());
}

#[tokio::test(start_paused = true)]
async fn save_state_full() {
    let stage = Stage::of("save_state_full").await;
    let save =
        SaveState::new("ckpt-1").ttl(Duration::from_secs(86_400)).overwrite(true).metadata("step", "10");
    let saved = stage.trainer.save_state(save).await.unwrap();
    stage.assert_path(saved.path.as_str());
}

#[tokio::test(start_paused = true)]
async fn save_weights_external() {
    let stage = Stage::of("save_weights_external").await;
    let save = SaveExternalWeights::new("e1").ttl(Duration::from_secs(3600)).age_recipient("age1abc");
    let saved = stage.trainer.save_weights_external(save).await.unwrap();
    assert_eq!(saved.size_bytes, Some(12));
    stage.assert_path(&saved.path);
}

#[tokio::test(start_paused = true)]
async fn save_weights_for_sampler_named() {
    let stage = Stage::of("save_weights_for_sampler_named").await;
    let save = SaveSamplerWeights::new("samp-1").ttl(Duration::from_secs(3600));
    let saved = stage.trainer.save_weights_for_sampler(save).await.unwrap();
    stage.assert_path(saved.path.as_str());
}

async fn snapshot(name: &str, kind: SamplerWeightsKind) {
    let stage = Stage::of(name).await;
    let sampler = stage.trainer.sampling_snapshot(SamplingSnapshot::new().kind(kind)).await.unwrap();
    let ours =
        json!({ "sampling_session_id": sampler.sampling_session_id(), "base_model": sampler.base_model() });
    assert_eq!(&ours, stage.scenario.decoded());
    stage.assert_requests();
}

#[tokio::test(start_paused = true)]
async fn save_weights_for_sampler_unnamed_snapshot() {
    snapshot("save_weights_for_sampler_unnamed_snapshot", SamplerWeightsKind::Snapshot).await;
}

#[tokio::test(start_paused = true)]
async fn save_weights_for_sampler_unnamed_inflight() {
    snapshot("save_weights_for_sampler_unnamed_inflight", SamplerWeightsKind::Inflight).await;
}

#[tokio::test(start_paused = true)]
async fn load_weights_legacy() {
    let stage = Stage::of("load_weights_legacy").await;
    let path = stage.scenario.call()["path"].as_str().unwrap();
    let state = LoadState::new(path).weights_access_token("tok");
    stage.trainer.load_state_with_optimizer(state).await.unwrap();
    stage.assert_requests();
}

/// The token travels in a header and the idempotency key is one for all attempts, as always here.
#[tokio::test(start_paused = true)]
async fn copy_weights() {
    let stage = Stage::of("copy_weights").await;
    let path = stage.scenario.call()["path"].as_str().unwrap();
    let copy = CopyWeights::new(path)
        .destination_project("proj-archive")
        .ttl(Duration::from_secs(7200))
        .weights_access_token("tok");
    let copied = stage.service.copy_weights(copy).await.unwrap();
    assert_eq!(stage.scenario.decoded(), copied.as_str());
    stage.assert_requests();
}
