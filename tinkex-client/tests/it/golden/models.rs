//! Models: made, asked about, made from a checkpoint (PROTOCOL 11, 14).

use serde_json::{Value, json};
use tinkex_client::{ModelInfo, OptimizerConfig};
use tinkex_testkit::{FakeServer, Step};

use super::compare::{self, Tolerance};
use super::fixtures::Scenario;
use super::replay;
use crate::harness::MODEL;

/// The scenarios of this file.
pub(super) const REPLAYED: &[&str] =
    &["create_model_dimuon", "create_model_lora", "get_info", "load_weights_create_from_state"];

/// What the caller got to know, in the recorded form. This client does not keep the names of answers (`type`).
fn rendered(info: &ModelInfo) -> Value {
    json!({
        "model_data": {
            "arch": info.model_data.arch,
            "model_name": info.model_data.model_name,
            "tokenizer_id": info.model_data.tokenizer_id,
        },
        "model_id": info.model_id,
        "optimizer_config": info.optimizer_config,
        "is_lora": info.is_lora,
        "lora_rank": info.lora_rank,
        "model_name": info.model_name,
    })
}

#[track_caller]
fn assert_info(info: &ModelInfo, recorded: &Value) {
    let mut recorded = recorded.clone();
    recorded.as_object_mut().unwrap().remove("type");
    let ours = rendered(info);
    assert!(compare::same(&ours, &recorded), "  ours:     {ours}\n  recorded: {recorded}");
}

#[tokio::test(start_paused = true)]
async fn create_model_lora() {
    let scenario = Scenario::load("create_model_lora");
    let server = replay::server(&scenario);
    let service = replay::client(&server).build().await.unwrap();
    let trainer = service
        .lora_training_client(MODEL)
        .rank(16)
        .seed(7)
        .train_attn(false)
        .train_unembed(false)
        .user_metadata("exp", "1")
        .create()
        .await
        .unwrap();
    assert_eq!(trainer.model_id(), scenario.decoded()["model_id"]);
    assert_info(trainer.info(), &scenario.decoded()["info"]);
    replay::assert_requests(&server, &scenario, &[], false);
    replay::assert_order(&server, &scenario);
}

#[tokio::test(start_paused = true)]
async fn create_model_dimuon() {
    let scenario = Scenario::load("create_model_dimuon");
    let server = FakeServer::with(replay::stage(json!({}), json!({})));
    replay::play(&server, &scenario);
    if scenario.of_route("retrieve_future").is_empty() {
        server.script("retrieve_future", [Step::json(json!({ "model_id": "s-0001:train:0" }))]);
    }
    let service = replay::client(&server).build().await.unwrap();
    let trainer =
        service.lora_training_client(MODEL).optimizer(OptimizerConfig::Dimuon).create().await.unwrap();
    assert_eq!(trainer.model_id(), scenario.decoded()["model_id"]);
    replay::assert_requests(&server, &scenario, &[], false);
}

/// An optimizer keeps what it has besides its type; the id of a tokenizer ends at its first colon.
#[tokio::test(start_paused = true)]
async fn get_info() {
    let scenario = Scenario::load("get_info");
    let server = FakeServer::with(replay::stage(json!({}), json!({})));
    let service = replay::client(&server).build().await.unwrap();
    let trainer = service.lora_training_client(MODEL).create().await.unwrap();
    replay::play(&server, &scenario);
    assert_info(&trainer.get_info().await.unwrap(), scenario.decoded());
    let sent = server.requests("get_info").pop().unwrap();
    compare::assert_request("get_info", &sent, &scenario.exchanges[0], Tolerance::default());
    server.verify().unwrap();
}

/// A model from a checkpoint is made by one request; its id follows from the session and its number.
#[tokio::test(start_paused = true)]
async fn load_weights_create_from_state() {
    let scenario = Scenario::load("load_weights_create_from_state");
    let server = replay::server(&scenario);
    let service = replay::client(&server).build().await.unwrap();
    let call = scenario.call();
    let trainer = service
        .training_client_from_state(call["path"].as_str().unwrap())
        .base_model(call["base_model"].as_str().unwrap())
        .user_metadata("a", "b")
        .optimizer(OptimizerConfig::Dimuon)
        .create()
        .await
        .unwrap();
    assert_eq!(trainer.model_id(), scenario.decoded()["model_id"]);
    assert_eq!(server.count("create_model"), 0);
    replay::assert_requests(&server, &scenario, &[], false);
    replay::assert_order(&server, &scenario);
}

/// The older protocol (PROTOCOL 23).
#[tokio::test(start_paused = true)]
async fn classic_create_model() {
    let scenario = Scenario::load_classic("create_model");
    let server = FakeServer::with(replay::stage(json!({}), json!({})));
    for route in ["client/config", "client/dynamic_config"] {
        server.script(route, [Step::status(404)]);
    }
    replay::play(&server, &scenario);
    let service = replay::client(&server).build().await.unwrap();
    let trainer = service.lora_training_client(MODEL).rank(16).create().await.unwrap();
    assert_eq!(trainer.model_id(), "m-1");
    replay::assert_requests(&server, &scenario, &[], true);
}
