//! Both forms of a pass: which one is sent, and how the client finds out.

use std::time::Duration;

use serde_json::json;
use tinkex_client::{
    Chunk, Datum, Effect, ErrorKind, ImageAssetPointerChunk, ImageFormat, LossFn, ModelInput, ProvenanceSpan,
    TensorData, TrainingClient, WireFormat,
};
use tinkex_testkit::service::{Dialect, Service, TrainingBody, TrainingOrder};
use tinkex_testkit::{FakeServer, Step};
use tokio::time::Instant;

use super::{adam, arrivals, hasty_of};
use crate::harness::{self, MODEL, example, trainer_of};

fn speaking(training_bodies: TrainingBody) -> Service {
    Service::new(Dialect { training_bodies, ..Dialect::production() })
}

fn forms(server: &FakeServer) -> Vec<&'static str> {
    let passes = |request: &std::sync::Arc<tinkex_testkit::Received>| {
        request
            .route()
            .starts_with("forward")
            .then(|| if request.is_protobuf() { "protobuf" } else { "json" })
    };
    server.all_requests().iter().filter_map(passes).collect()
}

fn data() -> Vec<Datum> {
    vec![example("abcd"), example("efgh")]
}

async fn step(trainer: &TrainingClient) -> f64 {
    let pass = trainer.forward_backward(data(), LossFn::CrossEntropy);
    let update = trainer.optim_step(adam());
    let loss = pass.await.unwrap().loss().unwrap();
    update.await.unwrap();
    loss
}

/// A server that reads protobuf gets nothing else.
#[tokio::test(start_paused = true)]
async fn protobuf_comes_first() {
    for bodies in [TrainingBody::Both, TrainingBody::ProtobufOnly] {
        let (server, _client, trainer) = trainer_of(&speaking(bodies)).await;
        step(&trainer).await;
        trainer.forward(data(), LossFn::CrossEntropy).await.unwrap();
        assert_eq!(forms(&server), ["protobuf"; 2]);
    }
}

/// A server that reads JSON only is found out by one request of the service, under the same id; what was found out holds
/// for all clients of it. Forward-only passes have a route of their own.
#[tokio::test(start_paused = true)]
async fn json_is_found_out_once() {
    let service = speaking(TrainingBody::JsonOnly);
    let (server, client, trainer) = trainer_of(&service).await;
    step(&trainer).await;
    trainer.forward(data(), LossFn::CrossEntropy).await.unwrap();
    let other = client.lora_training_client(MODEL).create().await.unwrap();
    step(&other).await;
    assert_eq!(forms(&server), ["protobuf", "json", "json", "json"]);
    assert_eq!(
        arrivals(&server)[1..],
        ["forward_backward 1", "optim_step 2", "forward 3", "forward_backward 1", "optim_step 2"]
    );
    assert!(service.run(trainer.model_id()).unwrap().is_ordered());
}

/// Both forms train alike.
#[tokio::test(start_paused = true)]
async fn both_forms_give_the_same_loss() {
    let mut losses = Vec::new();
    for bodies in [TrainingBody::ProtobufOnly, TrainingBody::JsonOnly] {
        let (_server, _client, trainer) = trainer_of(&speaking(bodies)).await;
        let mut last = 0.0;
        for _ in 0..3 {
            last = step(&trainer).await;
        }
        losses.push(last);
    }
    assert!((losses[0] - losses[1]).abs() < 1e-9, "{losses:?}");
}

/// The caller's word settles it: nothing is tried.
#[tokio::test(start_paused = true)]
async fn a_fixed_form_is_not_doubted() {
    for (format, form) in [(WireFormat::Json, "json"), (WireFormat::Protobuf, "protobuf")] {
        let server = FakeServer::new();
        let client = harness::service(&server).await;
        let trainer = client.lora_training_client(MODEL).wire_format(format).create().await.unwrap();
        step(&trainer).await;
        trainer.forward(data(), LossFn::CrossEntropy).await.unwrap();
        assert_eq!(forms(&server), [form; 2]);
    }
    let (server, client, _) = trainer_of(&speaking(TrainingBody::JsonOnly)).await;
    let builder = client.lora_training_client(MODEL).wire_format(WireFormat::Protobuf);
    let trainer = builder.retry_policy(tinkex_client::RetryPolicy::none()).create().await.unwrap();
    let error = trainer.forward(data(), LossFn::CrossEntropy).await.unwrap_err();
    assert_eq!(error.status(), Some(500));
    assert_eq!(forms(&server), ["protobuf"]);
}

/// A batch of many chunks is one call: one chunk finds out, the others wait for it.
#[tokio::test(start_paused = true)]
async fn one_chunk_finds_out_for_all() {
    let service = speaking(TrainingBody::JsonOnly);
    service.set_client_config(&json!({"fwdbwd_max_chunk_len": 1}));
    let (server, _client, trainer) = trainer_of(&service).await;
    let many: Vec<_> = (0..6).map(|n| example(&format!("example {n}"))).collect();
    trainer.forward_backward(many, LossFn::CrossEntropy).await.unwrap();
    assert_eq!(forms(&server).iter().filter(|form| **form == "protobuf").count(), 1);
}

/// A server that takes no JSON has had its reason for refusing protobuf: that is the error, and protobuf it is.
#[tokio::test(start_paused = true)]
async fn a_refusal_that_is_about_the_data_stands() {
    let (server, _client, trainer) = trainer_of(&speaking(TrainingBody::ProtobufOnly)).await;
    let refusal = Step::status(422).json_body(json!({"detail": "too many tokens"}));
    server.script("forward_backward", [refusal.clone(), Step::behave(), refusal]).then_behave();
    for _ in 0..2 {
        let error = trainer.forward_backward(data(), LossFn::CrossEntropy).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(422)));
        assert!(error.to_string().contains("too many tokens"), "{error}");
    }
    step(&trainer).await;
    assert_eq!(forms(&server), ["protobuf", "json", "protobuf", "protobuf"], "JSON was tried once");
}

/// A server in trouble answers 500 to both forms: the pass is repeated as usual, in the form that every server answers
/// truly once it is well. Which form it prefers is found out by the next pass.
#[tokio::test(start_paused = true)]
async fn a_server_in_trouble_is_waited_for() {
    for (bodies, after) in [
        (TrainingBody::Both, &["json", "protobuf"][..]),
        (TrainingBody::ProtobufOnly, &["json", "protobuf", "protobuf"]),
        (TrainingBody::JsonOnly, &["json", "protobuf", "json"]),
    ] {
        let (server, _client, trainer) = trainer_of(&speaking(bodies)).await;
        server.script("forward_backward", [Step::status(500).repeat(4)]).then_behave();
        let begun = Instant::now();
        step(&trainer).await;
        assert!(begun.elapsed() > Duration::from_secs(1), "with pauses");
        step(&trainer).await;
        let expected: Vec<_> = ["protobuf", "json", "json", "json"].iter().chain(after).copied().collect();
        assert_eq!(forms(&server), expected, "{bodies:?}");
        assert_eq!(super::ids(&server, "optim_step"), [2, 4]);
    }
}

/// F-14: the protobuf form was taken in and its answer lost, and a failure in between had JSON tried under the same id: the
/// conflict does not make a second gradient of it.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_before_a_form_is_known() {
    for order in [TrainingOrder::Waiting, TrainingOrder::Strict] {
        let dialect = Dialect { training_order: order, ..Dialect::production() };
        let service = Service::new(dialect);
        let (server, _client, trainer) = trainer_of(&service).await;
        server.script("forward_backward", [Step::behave().then_lose(), Step::status(500)]).then_behave();
        let pass = trainer.forward_backward(data(), LossFn::CrossEntropy).await;
        trainer.optim_step(adam()).await.unwrap();
        match (order, pass) {
            // Its repetition gets the promise.
            (TrainingOrder::Waiting, pass) => drop(pass.unwrap()),
            (_, pass) => assert_eq!(pass.unwrap_err().effect(), Some(Effect::Unknown)),
        }
        assert_eq!(service.run(trainer.model_id()).unwrap().seq_ids, [1, 2], "{order:?}");
        assert_eq!(super::ids(&server, "forward_backward"), [1, 1, 1, 1], "{order:?}");
    }
}

/// The first pass met a 500, and JSON is refused as such: protobuf goes on as usual.
#[tokio::test(start_paused = true)]
async fn a_500_before_protobuf_is_known() {
    let (server, _client, trainer) = trainer_of(&speaking(TrainingBody::ProtobufOnly)).await;
    server.script("forward_backward", [Step::status(500)]).then_behave();
    step(&trainer).await;
    step(&trainer).await;
    assert_eq!(forms(&server), ["protobuf", "json", "protobuf", "protobuf"]);
}

/// Only a form that was accepted is settled on: a route that is not found for once does not make the server one that takes
/// no JSON.
#[tokio::test(start_paused = true)]
async fn a_404_settles_nothing() {
    let (server, _client, trainer) = hasty_of(&speaking(TrainingBody::JsonOnly)).await;
    server.script("forward_backward", [Step::behave(), Step::status(404)]).then_behave();
    trainer.forward_backward(data(), LossFn::CrossEntropy).await.unwrap_err();
    step(&trainer).await;
    step(&trainer).await;
    // The id was left in doubt by the 500: a forward-only pass settles it.
    assert_eq!(forms(&server), ["protobuf", "json", "protobuf", "protobuf", "json", "json", "json"]);
}

/// Both forms refused: the error tells both, and the next pass tries again.
#[tokio::test(start_paused = true)]
async fn both_forms_refused() {
    let (server, _client, trainer) = hasty_of(&speaking(TrainingBody::Both)).await;
    let refusal = |detail: &str| Step::status(422).json_body(json!({"detail": detail}));
    server.script("forward_backward", [refusal("not this"), refusal("nor that")]).then_behave();
    let error = trainer.forward_backward(data(), LossFn::CrossEntropy).await.unwrap_err().to_string();
    assert!(error.contains("not this") && error.contains("nor that"), "{error}");
    step(&trainer).await;
    assert_eq!(forms(&server), ["protobuf", "json", "protobuf"]);
}

/// F-14: a gradient that was taken in behind a 500 counts once, though JSON is tried under the same id and meets a conflict
/// that names no number. That conflict is about the protobuf body: it does not make the server one of JSON.
#[tokio::test(start_paused = true)]
async fn a_gradient_behind_a_500_counts_once() {
    let counted = || Step::behave().with_status(500);
    for (steps, gets_promise) in [
        (vec![counted()], true),
        (vec![counted(), Step::behave(), Step::status(500)], false),
        (vec![counted(), Step::status(422), Step::status(500)], true),
    ] {
        let service = speaking(TrainingBody::Both);
        let (server, _client, trainer) = trainer_of(&service).await;
        server.script("forward_backward", steps).then_behave();
        match trainer.forward_backward(data(), LossFn::CrossEntropy).await {
            Ok(_) => assert!(gets_promise),
            Err(error) => {
                assert_eq!((gets_promise, error.effect()), (false, Some(Effect::Unknown)), "{error}")
            }
        }
        trainer.optim_step(adam()).await.unwrap();
        assert_eq!(service.run(trainer.model_id()).unwrap().seq_ids, [1, 2]);
        step(&trainer).await;
        assert_eq!(forms(&server).last(), Some(&"protobuf"));
    }
}

/// A server that is in trouble for a moment, and will not have JSON, gets the pass as protobuf again, whatever it says of
/// JSON.
#[tokio::test(start_paused = true)]
async fn a_500_is_not_final_because_json_is_refused() {
    for refusal in [400, 403, 404, 422, 501] {
        let (server, _client, trainer) = trainer_of(&speaking(TrainingBody::Both)).await;
        let steps = [Step::status(500), Step::status(refusal), Step::status(500)];
        server.script("forward_backward", steps).then_behave();
        step(&trainer).await;
        step(&trainer).await;
        let expected = ["protobuf", "json", "protobuf", "protobuf", "protobuf"];
        assert_eq!(forms(&server), expected, "{refusal}");
        assert_eq!(super::ids(&server, "forward_backward"), [1, 1, 1, 1, 3]);
    }
}

fn with_infinity() -> Datum {
    example("abcd").logprobs([-0.5, f32::NEG_INFINITY, -0.5])
}

fn with_spans() -> Datum {
    let datum = example("abcd");
    datum
        .model_input_spans([ProvenanceSpan::prompt("s", 0, 3)])
        .loss_fn_input_spans([ProvenanceSpan::sampled("s", 0, 3)])
}

fn with_sparse() -> Datum {
    let indices = tinkex_types::CsrIndices { crow: [0, 1].into(), col: [2].into() };
    let values = tinkex_types::TensorValues::Float32([1.0].into());
    example("abcd").tensor("extra", TensorData::sparse(values, indices, 1, 3).unwrap())
}

fn with_pointer() -> Datum {
    let pointer = ImageAssetPointerChunk {
        format: ImageFormat::Png,
        location: "asset".to_owned(),
        expected_tokens: Some(3),
    };
    let input = ModelInput::new(vec![Chunk::ImageAssetPointer(pointer)]);
    Datum::new(input).target_tokens([1, 2, 3]).weights([1.0; 3])
}

/// Neither is it where JSON cannot say the data.
#[tokio::test(start_paused = true)]
async fn a_500_is_not_final_because_json_cannot_say_it() {
    let (server, _client, trainer) = trainer_of(&speaking(TrainingBody::Both)).await;
    server.script("forward_backward", [Step::status(500).repeat(2)]).then_behave();
    trainer.forward(vec![with_infinity()], LossFn::CrossEntropy).await.unwrap();
    assert_eq!(forms(&server), ["protobuf"; 3]);
}

/// A refusal that is about the data does not have them sent as JSON, which would leave out what was refused.
#[tokio::test(start_paused = true)]
async fn what_json_cannot_say_in_full_is_not_sent_as_json() {
    for (name, datum) in [("spans", with_spans()), ("sparse", with_sparse()), ("not finite", with_infinity())]
    {
        for status in [400, 422] {
            let (server, _client, trainer) = trainer_of(&speaking(TrainingBody::Both)).await;
            let refusal = Step::status(status).json_body(json!({"detail": "no such sequence"}));
            server.script("forward_backward", [refusal]).then_behave();
            let refused = trainer.forward_backward(vec![datum.clone()], LossFn::CrossEntropy).await;
            let error = refused.unwrap_err();
            assert_eq!(
                (error.status(), error.effect()),
                (Some(status), Some(Effect::Nothing)),
                "{name}: {error}"
            );
            step(&trainer).await;
            assert_eq!(forms(&server), ["protobuf"; 2], "{name}");
        }
    }
}

/// A server that does not read protobuf gets as JSON what JSON can say of the data.
#[tokio::test(start_paused = true)]
async fn a_server_of_json_does_without_spans() {
    let (server, _client, trainer) = trainer_of(&speaking(TrainingBody::JsonOnly)).await;
    trainer.forward_backward(vec![with_spans()], LossFn::CrossEntropy).await.unwrap();
    step(&trainer).await;
    assert_eq!(forms(&server), ["protobuf", "json", "json"]);
}

/// One pass that was refused with 422 and then accepted as JSON does not settle it: the next one tries protobuf again.
#[tokio::test(start_paused = true)]
async fn a_422_is_heard_twice() {
    for (refusals, expected) in [
        (1, &["protobuf", "json", "protobuf", "protobuf"][..]),
        (2, &["protobuf", "json", "protobuf", "json", "json"]),
    ] {
        let (server, _client, trainer) = trainer_of(&speaking(TrainingBody::Both)).await;
        let of_protobuf = |request: &tinkex_testkit::Received| request.is_protobuf();
        server
            .script_when("forward_backward", of_protobuf, [Step::status(422).repeat(refusals)])
            .then_behave();
        for _ in 0..3 {
            step(&trainer).await;
        }
        assert_eq!(forms(&server), expected);
    }
}

fn in_pairs(training_bodies: TrainingBody) -> Service {
    let service = speaking(training_bodies);
    service.set_client_config(&json!({"fwdbwd_max_chunk_len": 2}));
    service
}

/// TR-1: what the form in use cannot say is found before the first chunk goes out.
#[tokio::test(start_paused = true)]
async fn nothing_of_a_batch_is_sent_that_cannot_be_written() {
    for (bodies, datum, words) in [
        (TrainingBody::JsonOnly, with_infinity(), "`logprobs`"),
        (TrainingBody::ProtobufOnly, with_pointer(), "image asset"),
    ] {
        let (server, _client, trainer) = trainer_of(&in_pairs(bodies)).await;
        step(&trainer).await;
        let before = forms(&server).len();
        let batch = [data(), data(), vec![datum]].concat();
        let error = trainer.forward_backward(batch, LossFn::CrossEntropy).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.effect()),
            (ErrorKind::InvalidInput, Some(Effect::Nothing)),
            "{error}"
        );
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(forms(&server).len(), before);
        step(&trainer).await;
        assert_eq!(super::ids(&server, "optim_step"), [2, 4], "no id is used up");
    }
}

/// While no form is known, all of a batch decides in which it may go out.
#[tokio::test(start_paused = true)]
async fn a_batch_that_one_form_can_say_goes_out_in_that() {
    for (bodies, datum, form) in [
        (TrainingBody::JsonOnly, with_infinity(), "protobuf"),
        (TrainingBody::ProtobufOnly, with_pointer(), "json"),
    ] {
        let (server, _client, trainer) = hasty_of(&in_pairs(bodies)).await;
        let batch = [data(), data(), vec![datum]].concat();
        let error = trainer.forward_backward(batch, LossFn::CrossEntropy).await.unwrap_err();
        assert!(matches!(error.status(), Some(500 | 415)), "{error}");
        let as_protobuf = |request: &std::sync::Arc<tinkex_testkit::Received>| request.is_protobuf();
        let gradients = server.requests("forward_backward");
        assert!(gradients.iter().map(as_protobuf).all(|protobuf| protobuf == (form == "protobuf")), "{form}");
    }
    let (server, _client, trainer) = hasty_of(&in_pairs(TrainingBody::Both)).await;
    let batch = [data(), vec![with_pointer(), with_infinity()]].concat();
    let error = trainer.forward_backward(batch, LossFn::CrossEntropy).await.unwrap_err();
    assert_eq!((error.kind(), forms(&server).len()), (ErrorKind::InvalidInput, 0), "{error}");
}

/// Writing a large request does not hold up the other tasks of the runtime. A small one is not worth a thread.
#[tokio::test(start_paused = true)]
async fn large_requests_are_written_elsewhere() {
    let large = |tokens: usize| {
        let numbers = vec![7; tokens];
        let weights = vec![0.1; tokens];
        vec![
            Datum::new(ModelInput::from_ints(&numbers[..]))
                .target_tokens(numbers.iter().copied())
                .weights(weights),
        ]
    };
    for (format, compress, tokens, elsewhere) in [
        (WireFormat::Json, false, 100_000, true),
        (WireFormat::Protobuf, true, 400_000, true),
        (WireFormat::Protobuf, false, 1_500_000, true),
        (WireFormat::Protobuf, false, 40_000, false),
        (WireFormat::Json, false, 5_000, false),
    ] {
        let service = Service::default();
        service.set_client_config(
            &json!({"proto_compress_fwdbwd": compress, "fwdbwd_max_chunk_bytes_count": 1_u64 << 30}),
        );
        let server = FakeServer::with(service);
        let client = harness::service(&server).await;
        let trainer = client.lora_training_client(MODEL).wire_format(format).create().await.unwrap();
        server.script("forward_backward", [Step::status(400)]).then_behave();
        let pass = trainer.forward_backward(large(tokens), LossFn::CrossEntropy);
        let mut turns = 0_u32;
        while server.count("forward_backward") == 0 {
            tokio::task::yield_now().await;
            turns += 1;
        }
        assert_eq!(
            turns > 200,
            elsewhere,
            "{format:?} of {tokens} tokens, compressed {compress}: {turns} turns"
        );
        assert_eq!(pass.await.unwrap_err().status(), Some(400));
    }
}

/// A server that answers every protobuf body with 500 and reads JSON says soon what it has against the first pass.
#[tokio::test(start_paused = true)]
async fn a_bad_first_pass_is_told_soon_where_protobuf_always_fails() {
    let (_server, _client, trainer) = trainer_of(&Service::new(Dialect::hatchery())).await;
    let begun = Instant::now();
    let error = trainer.forward_backward(data(), LossFn::Other("unheard of".to_owned())).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert!(error.to_string().contains("unheard of"), "{error}");
    step(&trainer).await;
}

/// A pass whose data is refused as JSON is tried as protobuf a few times more, where that met a 500. That these come to
/// nothing is no outage, and what was called before is repeated for as long as the policy says.
#[tokio::test(start_paused = true)]
async fn a_pass_that_is_refused_takes_nobodys_patience() {
    let dialect = Dialect {
        training_bodies: TrainingBody::JsonOnly,
        unknown_loss_status: Some(400),
        ..Dialect::production()
    };
    let service = Service::new(dialect);
    let (server, _client, trainer) = trainer_of(&service).await;
    let in_trouble = [Step::status(500), Step::behave(), Step::status(503).repeat(3)];
    server.script("forward_backward", in_trouble).then_behave();
    server.script("forward", [Step::status(503).repeat(8)]).then_behave();
    server.script("optim_step", [Step::status(503).repeat(8)]).then_behave();
    let refused = trainer.forward_backward(data(), LossFn::Other("nonsense".to_owned()));
    let step = trainer.optim_step(adam());
    let error = refused.await.unwrap_err();
    assert!(error.to_string().contains("nonsense"), "{error}");
    step.await.unwrap();
    let run = service.run(trainer.model_id()).unwrap();
    assert_eq!((run.seq_ids, run.waiting.len(), run.steps), (vec![1, 2], 0, 1));
}
