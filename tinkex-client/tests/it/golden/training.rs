//! Passes and optimizer steps (PROTOCOL 12).

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Value, json};
use tinkex_client::{
    AdamParams, AudioChunk, Chunk, Datum, DimuonParams, ForwardBackwardOutput, ImageChunk, ImageFormat, Loss,
    LossFn, LossFnConfig, ModelInput, OptimizerParams, PpoConfig, ProvenanceSpan, ServiceClient, TensorData,
    TrainingClient,
};
use tinkex_testkit::{FakeServer, Received, Reply, Step};

use super::compare;
use super::fixtures::Scenario;
use super::{rendered, replay};
use crate::harness::MODEL;

/// The scenarios of this file.
pub(super) const REPLAYED: &[&str] = &[
    "forward",
    "forward_backward_chunked_parallel",
    "forward_backward_dense",
    "forward_backward_dtypes",
    "forward_backward_image_dmel",
    "forward_backward_loss_fn_config",
    "forward_backward_provenance",
    "forward_backward_sparse_csr",
    "forward_backward_zstd",
    "optim_step_adam",
    "optim_step_adam_defaults",
    "optim_step_dimuon",
];

async fn trainer(server: &FakeServer) -> (ServiceClient, TrainingClient) {
    let service = replay::client(server).build().await.unwrap();
    let trainer = service.lora_training_client(MODEL).create().await.unwrap();
    (service, trainer)
}

#[track_caller]
fn assert_output(scenario: &Scenario, output: &ForwardBackwardOutput) {
    let (ours, recorded) = (rendered::output(output), scenario.decoded());
    assert!(compare::same(&ours, recorded), "{}:\n  ours:     {ours}\n  recorded: {recorded}", scenario.name);
}

/// Replays a pass of one call.
async fn pass(name: &str, datum: Datum, loss: impl Into<Loss>) {
    let scenario = Scenario::load(name);
    let server = replay::server(&scenario);
    let (_service, trainer) = trainer(&server).await;
    let handle = match name {
        "forward" => trainer.forward(vec![datum], loss),
        _ => trainer.forward_backward(vec![datum], loss),
    };
    assert_output(&scenario, &handle.await.unwrap());
    replay::assert_requests(&server, &scenario, &[], false);
    replay::assert_order(&server, &scenario);
}

/// The example most scenarios use. Plain numbers become tensors by their names.
fn datum() -> Datum {
    let datum = Datum::new(vec![1, 2, 3]).with("target_tokens", vec![2, 3, 4]);
    datum.and_then(|datum| datum.with("weights", vec![0.0, 1.0, 0.5])).unwrap()
}

#[tokio::test(start_paused = true)]
async fn forward() {
    pass("forward", datum(), LossFn::CrossEntropy).await;
}

#[tokio::test(start_paused = true)]
async fn forward_backward_dense() {
    pass("forward_backward_dense", datum(), LossFn::CrossEntropy).await;
}

#[tokio::test(start_paused = true)]
async fn forward_backward_zstd() {
    pass("forward_backward_zstd", datum(), LossFn::CrossEntropy).await;
}

#[tokio::test(start_paused = true)]
async fn forward_backward_dtypes() {
    let unshaped = serde_json::from_value(json!({ "dtype": "int64", "data": [1, 0, 1] })).unwrap();
    let grid = (0..6u8).map(f32::from).collect::<Vec<_>>();
    let datum = Datum::new(ModelInput::from_ints(vec![1, 2]).with_tokens(vec![151_643]))
        .target_tokens([2, 3, 4])
        .logprobs([-1.5, -2.25, -0.1])
        .advantages([1.0, -1.0, 0.5])
        .tensor("mask", unshaped)
        .tensor("grid", TensorData::float32(grid, &[3, 2]).unwrap())
        .tensor("scalar", TensorData::scalar_f32(3.5))
        .tensor("empty", TensorData::float32(Vec::new(), &[0]).unwrap());
    pass("forward_backward_dtypes", datum, LossFn::ImportanceSampling).await;
}

#[tokio::test(start_paused = true)]
async fn forward_backward_image_dmel() {
    let image = |data: &'static [u8], format, expected_tokens| {
        Chunk::Image(ImageChunk { data: Bytes::from_static(data), format, expected_tokens })
    };
    let input = ModelInput::new(vec![
        Chunk::text(vec![1]),
        image(&[0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 1, 2], ImageFormat::Png, Some(5)),
        image(&[0xff, 0xd8, 0xff], ImageFormat::Jpeg, None),
        Chunk::Audio(AudioChunk { dmel: Bytes::from_static(&[0, 2, 3, 4, 7, 7, 7]) }),
    ]);
    let datum = Datum::new(input).target_tokens([1, 2]).weights([1.0, 1.0]);
    pass("forward_backward_image_dmel", datum, LossFn::CrossEntropy).await;
}

#[tokio::test(start_paused = true)]
async fn forward_backward_loss_fn_config() {
    let thresholds = PpoConfig { clip_low_threshold: 0.8, clip_high_threshold: 2.0 };
    let config = LossFnConfig::from(thresholds).set("mode", "token").set("flag", true).set("empty", "");
    pass("forward_backward_loss_fn_config", datum(), LossFn::Ppo.with_config(config)).await;
}

#[tokio::test(start_paused = true)]
async fn forward_backward_provenance() {
    let (prompt, sampled) = (ProvenanceSpan::prompt, ProvenanceSpan::sampled);
    let datum = Datum::new(vec![1, 2, 3])
        .target_tokens([2, 3, 4])
        .weights([1.0; 3])
        .model_input_spans([prompt("q1", 0, 2), sampled("q1", 0, 1)])
        .loss_fn_input_spans([prompt("q1", 1, 1), sampled("q1", 0, 2)]);
    let loss = LossFn::StableReinforce.with_config(LossFnConfig::new().set("kl_coeff", 0.1));
    pass("forward_backward_provenance", datum, loss).await;
}

#[tokio::test(start_paused = true)]
async fn forward_backward_sparse_csr() {
    let (mut targets, mut weights) = (vec![0i64; 32], vec![0f32; 32]);
    (targets[1], targets[31]) = (11, 22);
    (weights[1], weights[31]) = (0.5, 0.25);
    let datum = Datum::new(vec![5, 6, 7, 8])
        .tensor("target_tokens", TensorData::int64(targets, &[4, 8]).unwrap().sparsified())
        .tensor("weights", TensorData::float32(weights, &[4, 8]).unwrap().sparsified());
    pass("forward_backward_sparse_csr", datum, LossFn::CrossEntropy).await;
}

/// Chunks 2 and 3 together, chunk 1 when they are accepted; polls race, so they are answered by their promise.
#[tokio::test(start_paused = true)]
async fn forward_backward_chunked_parallel() {
    let scenario = Scenario::load("forward_backward_chunked_parallel");
    let stage = replay::stage(scenario.client_config(), json!({}));
    let results: HashMap<String, (Bytes, String)> = scenario
        .of_route("retrieve_future")
        .into_iter()
        .map(|poll| {
            let id = poll.request["body"]["request_id"].as_str().unwrap().to_owned();
            (id, (poll.answer(), poll.answer_type().unwrap().to_owned()))
        })
        .collect();
    let server = FakeServer::with(move |request: &Received| {
        match results.get(request.text("request_id").unwrap_or("")) {
            Some((body, media_type)) => {
                Reply { body: body.clone(), ..Reply::empty(200) }.header("content-type", media_type)
            }
            None => stage(request),
        }
    });
    let submissions = scenario.of_route("forward_backward");
    server.script("forward_backward", submissions.iter().map(|submission| submission.step()));
    let (_service, trainer) = trainer(&server).await;
    let data: Vec<_> = (0..5)
        .map(|i| Datum::new(vec![i, i + 1]).target_tokens([i + 1, i + 2]).weights([1.0, 1.0]))
        .collect();
    assert_output(&scenario, &trainer.forward_backward(data, LossFn::CrossEntropy).await.unwrap());

    let sent = server.requests("forward_backward");
    assert_eq!(sent.len(), submissions.len());
    for (sent, recorded) in sent.iter().zip(submissions) {
        compare::assert_request(&scenario.name, sent, recorded, compare::Tolerance::default());
    }
    let asked = |requests: Vec<Value>| {
        let mut ids: Vec<_> = requests.iter().map(|body| body["request_id"].to_string()).collect();
        ids.sort();
        ids
    };
    let ours = server.requests("retrieve_future").iter().map(|poll| poll.json().unwrap().clone()).collect();
    let theirs =
        scenario.of_route("retrieve_future").iter().map(|poll| poll.request["body"].clone()).collect();
    assert_eq!(asked(ours), asked(theirs));
}

async fn step(name: &str, params: impl Into<OptimizerParams>) {
    let scenario = Scenario::load(name);
    let server = replay::server(&scenario);
    let (_service, trainer) = trainer(&server).await;
    let metrics = trainer.optim_step(params).await.unwrap().metrics;
    // No metrics and an empty list of them are the same here.
    let recorded = match &scenario.decoded()["metrics"] {
        Value::Null => json!({}),
        metrics => metrics.clone(),
    };
    assert!(compare::same(&json!(metrics), &recorded), "{name}: {metrics:?}");
    replay::assert_requests(&server, &scenario, &[], false);
    replay::assert_order(&server, &scenario);
}

#[tokio::test(start_paused = true)]
async fn optim_step_adam() {
    let params =
        AdamParams::new(1e-4).beta1(0.9).beta2(0.95).eps(1e-8).weight_decay(0.01).grad_clip_norm(1.0);
    step("optim_step_adam", params).await;
}

#[tokio::test(start_paused = true)]
async fn optim_step_adam_defaults() {
    step("optim_step_adam_defaults", AdamParams::default()).await;
}

#[tokio::test(start_paused = true)]
async fn optim_step_dimuon() {
    step("optim_step_dimuon", DimuonParams::new(0.02)).await;
}

/// The older protocol (PROTOCOL 23): JSON bodies, a route of its own for passes without gradient, JSON results. The
/// server does not take protobuf, so the first pass shows what it speaks.
#[tokio::test(start_paused = true)]
async fn classic_training() {
    let server = FakeServer::with(replay::stage(json!({}), json!({})));
    for route in ["client/config", "client/dynamic_config"] {
        server.script(route, [Step::status(404)]);
    }
    let made = Step::json(json!({ "model_id": "m-1" }));
    server.script("create_model", [made]);
    let (passes, forwards) = (Scenario::load_classic("forward_backward"), Scenario::load_classic("forward"));
    let steps = Scenario::load_classic("optim_step");
    let (pass, forward, step) =
        (passes.of_route("forward_backward"), forwards.of_route("forward"), steps.of_route("optim_step"));
    server.script("forward_backward", [Step::status(415), pass[0].step()]);
    server.script("forward", [forward[0].step()]);
    server.script("optim_step", [step[0].step()]);
    let polls = [&passes, &forwards, &steps].map(|scenario| scenario.of_route("retrieve_future")[0].step());
    server.script("retrieve_future", polls);
    let (_service, trainer) = trainer(&server).await;

    let config = LossFnConfig::new().set("x", 1.0);
    let output =
        trainer.forward_backward(vec![datum()], LossFn::CrossEntropy.with_config(config)).await.unwrap();
    assert_eq!(output.loss(), Some(1.0));
    assert_eq!(output.loss_fn_outputs[0].logprobs(), Some(&[-0.5, -0.25, -1.0][..]));
    let output = trainer.forward(vec![datum()], LossFn::CrossEntropy).await.unwrap();
    assert_eq!(output.loss(), Some(1.0));
    trainer.optim_step(AdamParams::default()).await.unwrap();

    for (sent, recorded) in [("forward_backward", pass[0]), ("forward", forward[0])]
        .map(|(route, recorded)| (server.requests(route), recorded))
    {
        let sent = sent.last().unwrap();
        compare::assert_request(
            "classic",
            sent,
            recorded,
            compare::Tolerance { classic: true, one_key: false },
        );
    }
    // The older SDK leaves defaults to the server; this one states them.
    let sent = server.requests("optim_step").pop().unwrap();
    assert_eq!((sent.text("model_id"), sent.seq_id()), (Some("m-1"), Some(3)));
    server.verify().unwrap();
}
