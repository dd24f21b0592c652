//! Weights on their way out: named checkpoints, snapshots, exports, copies (PROTOCOL 14).

use std::time::Duration;

use serde_json::json;
use tinkex_client::{
    CopyWeights, ErrorKind, LossFn, SamplerWeightsKind, SamplingSnapshot, SaveExternalWeights,
    SaveSamplerWeights, SaveState,
};
use tinkex_testkit::service::{Dialect, Service};
use tinkex_testkit::{FakeServer, Step};

use super::{adam, arrivals};
use crate::harness::{self, MODEL, example, request, trainer_of};

/// All that can be said of a save is sent, and named saves give paths.
#[tokio::test(start_paused = true)]
async fn saves_say_all_there_is_to_say() {
    let (server, _client, trainer) = trainer_of(&Service::default()).await;
    let day = Duration::from_secs(24 * 3600);
    let state = trainer.save_state(SaveState::new("a").ttl(day).overwrite(true).metadata("k", "v"));
    let sampler = trainer.save_weights_for_sampler(SaveSamplerWeights::new("b").ttl(day).metadata("k", "v"));
    let export = trainer.save_weights_external(SaveExternalWeights::new("c").ttl(day).age_recipient("age1x"));
    let model = trainer.model_id();
    assert_eq!(state.await.unwrap().path.as_str(), format!("tinker://{model}/weights/a"));
    assert_eq!(sampler.await.unwrap().path.as_str(), format!("tinker://{model}/sampler_weights/b"));
    assert!(export.await.unwrap().path.contains("/c"));
    let body = |route: &str| server.requests(route)[0].json().unwrap().clone();
    assert_eq!(
        body("save_weights"),
        json!({
            "model_id": model, "seq_id": 1, "path": "a", "ttl_seconds": 86400, "overwrite": true,
            "user_metadata": {"k": "v"}, "type": "save_weights",
        })
    );
    assert_eq!(
        body("save_weights_for_sampler"),
        json!({
            "model_id": model, "seq_id": 2, "path": "b", "ttl_seconds": 86400, "user_metadata": {"k": "v"},
            "type": "save_weights_for_sampler",
        })
    );
    assert_eq!(
        body("save_weights_external"),
        json!({
            "model_id": model, "seq_id": 3, "path": "c", "ttl_seconds": 86400,
            "age_encryption_recipients": ["age1x"], "type": "save_weights_external",
        })
    );
}

/// F-11: a snapshot is numbered by the session's one counter, apart from the training ids, once for all attempts. It
/// gives a sampling client without another request.
#[tokio::test(start_paused = true)]
async fn a_snapshot_is_a_sampling_client() {
    let (server, client, trainer) = trainer_of(&Service::default()).await;
    client.sampling_client().base_model(MODEL).create().await.unwrap();
    let other = client.lora_training_client(MODEL).create().await.unwrap();
    server.script("save_weights_for_sampler", [Step::status(503), Step::reset()]).then_behave();
    drop(trainer.forward_backward([example("abcd")], LossFn::CrossEntropy));
    drop(trainer.optim_step(adam()));
    let sampler = trainer.save_weights_and_get_sampling_client().await.unwrap();
    let inflight = SamplingSnapshot::new().kind(SamplerWeightsKind::Inflight);
    let published = other.sampling_snapshot(inflight).await.unwrap();
    let requests = server.requests("save_weights_for_sampler");
    let numbers: Vec<_> = requests
        .iter()
        .map(|request| (request.seq_id().unwrap(), request.field("sampling_session_seq_id").unwrap().clone()))
        .collect();
    assert_eq!(numbers, [(3, json!(1)), (3, json!(1)), (3, json!(1)), (1, json!(2))]);
    assert_eq!(requests[3].text("kind"), Some("inflight"));
    assert_eq!((sampler.base_model(), published.base_model()), (MODEL, MODEL));
    assert_eq!(server.count("create_sampling_session"), 1);
    sampler.sample(request(&[97])).await.unwrap();
    let named = trainer.save_weights_for_sampler("n").await.unwrap();
    let by_path = trainer.create_sampling_client(named).await.unwrap();
    by_path.sample(request(&[97])).await.unwrap();
    let created = server.requests("create_sampling_session").remove(1);
    assert_eq!(created.header("x-sdk-method"), Some("TrainingClient.create_sampling_client"));
}

/// OPEN_SERVERS: a path of a server's own form is the result of a save that worked, and good for loading, sampling and
/// copying.
#[tokio::test(start_paused = true)]
async fn paths_of_another_form() {
    let server = FakeServer::new();
    let client = harness::builder(&server).project_id("home").build().await.unwrap();
    let trainer = client.lora_training_client(MODEL).create().await.unwrap();
    let saved = |path: &str| Step::json(json!({ "path": path }));
    let polls = [saved("sessions/m/weights/a"), saved("sessions/m/sampler_weights/b")];
    server.script("retrieve_future", polls).then_behave();
    let state = trainer.save_state("a").await.unwrap();
    assert_eq!((state.path.as_str(), state.tinker_path()), ("sessions/m/weights/a", None));
    let sampler = trainer.save_weights_for_sampler("b").await.unwrap();
    assert_eq!((sampler.path.as_str(), sampler.tinker_path()), ("sessions/m/sampler_weights/b", None));

    server.script("load_weights", [Step::status(400)]).then_behave();
    assert_eq!(trainer.load_state(&state).await.unwrap_err().status(), Some(400));
    assert_eq!(server.requests("load_weights")[0].text("path"), Some(&*state.path));
    let created = [Step::json(json!({ "sampling_session_id": "s-1" }))];
    server.script("create_sampling_session", created).then_behave();
    server.script("samplers/s-1", [Step::json(json!({ "sampler_id": "s-1", "base_model": MODEL }))]);
    trainer.create_sampling_client(&sampler).await.unwrap();
    assert_eq!(server.requests("create_sampling_session")[0].text("model_path"), Some(&*sampler.path));
    server.script("copy_weights", [Step::json(json!({ "tinker_path": "sessions/n/weights/a" }))]);
    assert_eq!(client.copy_weights(&state).await.unwrap(), "sessions/n/weights/a");
}

/// A snapshot's sampler asks for what it is told to ask for (SURFACE).
#[tokio::test(start_paused = true)]
async fn a_snapshot_that_records_stability() {
    let (server, _client, trainer) = trainer_of(&Service::default()).await;
    let snapshot = SamplingSnapshot::new().record_stability_info(true);
    let sampler = trainer.sampling_snapshot(snapshot).await.unwrap();
    assert!(sampler.handle().record_stability_info);
    sampler.sample(request(&[97])).await.unwrap();
    assert_eq!(server.requests("asample")[0].field("record_stability_info"), Some(&json!(true)));
}

/// A name that is taken is refused at once; the id goes to the next operation.
#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken() {
    let service = Service::new(Dialect { reused_name_status: Some(409), ..Dialect::production() });
    let (server, _client, trainer) = trainer_of(&service).await;
    trainer.save_state("a").await.unwrap();
    let begun = tokio::time::Instant::now();
    for _ in 0..2 {
        let error = trainer.save_state("a").await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(409)), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    trainer.optim_step(adam()).await.unwrap();
    assert_eq!(arrivals(&server).last().unwrap(), "optim_step 2");
    assert!(service.run(trainer.model_id()).unwrap().waiting.is_empty());
}

/// A copy goes to the project that is named, else to the client's; the token stays out of the body.
#[tokio::test(start_paused = true)]
async fn copies_go_to_a_project() {
    let server = FakeServer::new();
    let client = harness::builder(&server).project_id("home").build().await.unwrap();
    let trainer = client.lora_training_client(MODEL).create().await.unwrap();
    let checkpoint = trainer.save_state("a").await.unwrap();
    let copy = CopyWeights::from(&checkpoint).destination_project("archive").ttl(Duration::from_secs(7200));
    client.copy_weights(copy.weights_access_token("secret")).await.unwrap();
    client.copy_weights(checkpoint.path.as_str()).await.unwrap();
    let requests = server.requests("copy_weights");
    assert_eq!(requests[0].header("x-sdk-method"), Some("ServiceClient.copy_weights"));
    assert_eq!(requests[0].header("x-tinker-weights-access-token"), Some("secret"));
    assert_eq!(
        requests[0].json(),
        Some(&json!({
            "source_path": checkpoint.path.as_str(), "destination_project_id": "archive", "ttl_seconds": 7200,
        }))
    );
    assert_eq!(requests[1].text("destination_project_id"), Some("home"));
    assert!(!format!("{:?}", CopyWeights::new("x").weights_access_token("secret")).contains("secret"));
    let homeless = harness::service(&server).await;
    let error = homeless.copy_weights("tinker://run/weights/a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
