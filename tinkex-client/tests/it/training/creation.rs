//! Training clients in the making: of new adapters, and from checkpoints (PROTOCOL 11, 14).

use serde_json::{Value, json};
use tinkex_client::{ErrorKind, LossFn, OptimizerConfig};
use tinkex_testkit::service::{Dialect, Service};
use tinkex_testkit::{FakeServer, Step};

use super::{adam, arrivals};
use crate::harness::{self, MODEL, example, trainer_of};

/// PROTOCOL 11.1, 11.2: the model is created as asked, polled, and asked about once; the answer is kept.
#[tokio::test(start_paused = true)]
async fn a_model_is_created_as_asked() {
    let service = Service::default();
    let server = FakeServer::with(service.clone());
    let client = harness::service(&server).await;
    let builder = client
        .lora_training_client(MODEL)
        .rank(8)
        .seed(3)
        .train_mlp(false)
        .optimizer(OptimizerConfig::Dimuon)
        .user_metadata("run", "a");
    let trainer = builder.create().await.unwrap();
    let request = server.requests("create_model").remove(0);
    let expected = json!({
        "session_id": &*client.session_id().unwrap(),
        "model_seq_id": 0,
        "base_model": MODEL,
        "user_metadata": {"run": "a"},
        "lora_config": {"rank": 8, "seed": 3, "train_unembed": true, "train_mlp": false, "train_attn": true},
        "optimizer_config": {"type": "dimuon", "version": 1},
        "type": "create_model",
    });
    assert_eq!(request.json(), Some(&expected));
    assert_eq!(request.header("x-sdk-method"), Some("ServiceClient.create_lora_training_client"));
    let poll = server.requests("retrieve_future").remove(0);
    assert_eq!(poll.header("x-tinker-request-type"), Some("CreateModel"));
    assert_eq!(server.count("get_info"), 1);
    assert_eq!((trainer.base_model(), trainer.info().lora_rank), (MODEL, Some(8)));
    assert_eq!(trainer.model_id(), service.runs()[0].model_id);
    assert_eq!(trainer.get_info().await.unwrap(), *trainer.info());
    assert_eq!(server.requests("get_info")[1].header("x-sdk-method"), Some("TrainingClient.get_info"));
}

#[tokio::test(start_paused = true)]
async fn unusable_settings_are_refused_before_anything_is_sent() {
    let server = FakeServer::new();
    let client = harness::service(&server).await;
    let before = server.all_requests().len();
    let untrained =
        client.lora_training_client(MODEL).train_attn(false).train_mlp(false).train_unembed(false);
    for builder in [client.lora_training_client("  "), client.lora_training_client(MODEL).rank(0), untrained]
    {
        assert_eq!(builder.create().await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let path = "tinker://run/weights/a";
    for builder in [
        client.training_client_from_state("  "),
        client.training_client_from_state_with_optimizer(path).optimizer(OptimizerConfig::Dimuon),
    ] {
        assert_eq!(builder.create().await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(server.all_requests().len(), before);
}

/// A server that is done at once answers without a promise.
#[tokio::test(start_paused = true)]
async fn a_model_may_be_there_at_once() {
    let server = FakeServer::new();
    let client = harness::service(&server).await;
    server.script("create_model", [Step::json(json!({"model_id": "m-1"}))]);
    server.script("get_info", [Step::json(json!({"model_id": "m-1", "model_data": {}}))]);
    let trainer = client.lora_training_client(MODEL).create().await.unwrap();
    assert_eq!((trainer.model_id(), trainer.base_model()), ("m-1", MODEL));
    assert_eq!(server.count("retrieve_future"), 0);
}

async fn loss(trainer: &tinkex_client::TrainingClient) -> f64 {
    trainer.forward([example("abcd")], LossFn::CrossEntropy).await.unwrap().loss().unwrap()
}

/// PROTOCOL 14: one request, whose model id follows from its number; the new client counts from 1.
#[tokio::test(start_paused = true)]
async fn a_client_goes_on_from_a_checkpoint() {
    let service = Service::default();
    let (server, client, trainer) = trainer_of(&service).await;
    drop(trainer.forward_backward([example("abcd")], LossFn::CrossEntropy));
    trainer.optim_step(adam()).await.unwrap();
    let checkpoint = trainer.save_state("a").await.unwrap();
    let learned = loss(&trainer).await;
    let resumed =
        client.training_client_from_state_with_optimizer(checkpoint.clone()).create().await.unwrap();
    assert_eq!(resumed.model_id(), format!("{}:train:1", client.session_id().unwrap()));
    assert!((loss(&resumed).await - learned).abs() < 1e-9);
    assert_eq!(service.run(resumed.model_id()).unwrap().seq_ids, [1]);
    let request = server.requests("load_weights").remove(0);
    assert_eq!((request.field("model_seq_id"), request.field("model_id")), (Some(&json!(1)), None));
    assert_eq!(request.field("optimizer"), Some(&Value::Bool(true)));
    // Loading into the model that exists is a numbered operation.
    trainer.load_state(checkpoint).await.unwrap();
    assert_eq!(arrivals(&server).last().unwrap(), "load_weights 5");
}

/// OPEN_SERVERS, decision 7: where the server wants the model first, it is asked about, created and filled, and the way
/// is remembered.
#[tokio::test(start_paused = true)]
async fn a_checkpoint_is_loaded_into_a_model_created_first() {
    let service = Service::new(Dialect {
        create_from_checkpoint: false,
        load_only_first: true,
        ..Dialect::production()
    });
    let (server, client, trainer) = trainer_of(&service).await;
    drop(trainer.forward_backward([example("abcd")], LossFn::CrossEntropy));
    trainer.optim_step(adam()).await.unwrap();
    let learned = loss(&trainer).await;
    let checkpoint = trainer.save_state("a").await.unwrap();
    for round in 0..2 {
        let resumed = client.training_client_from_state(checkpoint.clone()).create().await.unwrap();
        assert!((loss(&resumed).await - learned).abs() < 1e-9, "{round}");
        assert_eq!(service.run(resumed.model_id()).unwrap().seq_ids, [1, 2], "{round}");
        assert_eq!(resumed.info().lora_rank, Some(4), "{round}");
    }
    assert_eq!(server.count("load_weights"), 3, "one trial");
    assert_eq!(server.count("weights_info"), 2);
}

/// A refusal that is about the checkpoint stands.
#[tokio::test(start_paused = true)]
async fn an_unknown_checkpoint() {
    let server = FakeServer::new();
    let client = harness::service(&server).await;
    let error = client.training_client_from_state("tinker://run/weights/none").create().await.unwrap_err();
    assert!(error.to_string().contains("none"), "{error}");
    assert_eq!(server.count("create_model"), 0);
}

fn refusal(status: u16, detail: &str) -> Step {
    Step::status(status).json_body(json!({ "detail": detail }))
}

/// OPEN_SERVERS, decision 7: a refusal that may be about anything is got around once, and says nothing of the service.
#[tokio::test(start_paused = true)]
async fn a_refused_setting_is_not_remembered_of_the_service() {
    let (server, client, trainer) = trainer_of(&Service::default()).await;
    let checkpoint = trainer.save_state("a").await.unwrap();
    server.script("load_weights", [refusal(400, "user_metadata is too long")]).then_behave();
    for _ in 0..2 {
        client.training_client_from_state(&checkpoint).create().await.unwrap();
    }
    let loads = server.requests("load_weights");
    let addressed: Vec<_> = loads.iter().map(|load| load.field("model_id").is_some()).collect();
    assert_eq!(addressed, [false, true, false]);
}

/// A route that is not there for this form says how the service goes.
#[tokio::test(start_paused = true)]
async fn a_missing_route_is_remembered_of_the_service() {
    for status in [404, 405, 501] {
        let (server, client, trainer) = trainer_of(&Service::default()).await;
        let checkpoint = trainer.save_state("a").await.unwrap();
        server.script("load_weights", [refusal(status, "there is no such thing")]).then_behave();
        for _ in 0..2 {
            client.training_client_from_state(&checkpoint).create().await.unwrap();
        }
        let loads = server.requests("load_weights");
        let addressed: Vec<_> = loads.iter().map(|load| load.field("model_id").is_some()).collect();
        assert_eq!(addressed, [false, true, true], "{status}");
    }
}

/// A model that was created for a checkpoint which then cannot be loaded does not stay behind.
#[tokio::test(start_paused = true)]
async fn a_model_without_its_checkpoint_is_unloaded() {
    let (server, client, trainer) = trainer_of(&Service::default()).await;
    let checkpoint = trainer.save_state("a").await.unwrap();
    server
        .script("load_weights", [refusal(405, "no"), refusal(403, "the checkpoint is locked")])
        .then_behave();
    let error = client.training_client_from_state(&checkpoint).create().await.unwrap_err();
    assert!(error.to_string().contains("the checkpoint is locked"), "{error}");
    let unloaded = server.requests("unload_model");
    assert_eq!(unloaded.len(), 1);
    assert_eq!(unloaded[0].text("model_id"), server.requests("load_weights")[1].text("model_id"));
    // It is not known of the service that it wants the model first: that has not worked.
    client.training_client_from_state(&checkpoint).create().await.unwrap();
    assert_eq!(server.requests("load_weights")[2].field("model_id"), None);
}
