//! The encodings of passes and their results, and requests that are not what they should be.

use proptest::prelude::*;
use prost::Message;
use serde_json::{Value, json};
use tinkex_testkit::service::{Dialect, FailureStyle, ResultEncoding};
use tinkex_testkit::{PROTOBUF, Received, Reply};
use tinkex_types::proto;

use crate::caller::{BASE, Caller, merged, refusal, text};
use crate::training::{Found, Pass, SECRET, Trainer, create_model, dense, protobuf};

/// Sends a pass made by hand.
async fn raw(trainer: &Trainer<'_>, request: &proto::ForwardBackwardRequest) -> Reply {
    trainer.caller.send(protobuf("forward_backward", request.encode_to_vec())).await
}

/// The error of a pass that was accepted and must have failed by its user's fault.
async fn user_failure(trainer: &Trainer<'_>, request: &proto::ForwardBackwardRequest) -> String {
    let reply = trainer.fetch(raw(trainer, request).await).await;
    assert_eq!((reply.status.as_u16(), text(&reply, "category").as_str()), (200, "user"));
    text(&reply, "error")
}

/// PROTOCOL 12.1, 23: protobuf plain and compressed, and JSON, are the same request.
#[tokio::test(start_paused = true)]
async fn protobuf_zstd_and_json_are_the_same_request() {
    let caller = Caller::production().await;
    let trainer = Trainer::new(&caller, 0).await;
    for pass in [Pass::new(&[SECRET, "bc"]), Pass::new(&[SECRET, "bc"]).forward_only()] {
        let first = if pass.forward_only { 5 } else { 1 };
        let plain = trainer.found(first, &pass).await;
        let body = pass.protobuf(&trainer.model, first + 1).encode_to_vec();
        let compressed = protobuf("forward_backward", zstd::encode_all(body.as_slice(), 0).unwrap())
            .with_header("content-encoding", "zstd");
        let reply = caller.send(compressed).await;
        assert_eq!(Found::of(&trainer.fetch(reply).await), plain);
        let route = if pass.forward_only { "forward" } else { "forward_backward" };
        let json = caller.post(route, pass.json(&trainer.model, first + 2)).await;
        let promise = text(&json, "request_id");
        let json_result = Found::of(&caller.retrieve(&promise).await);
        assert_eq!(json_result.logprobs, plain.logprobs, "and JSON comes back as JSON");
        assert!(
            (json_result.loss - plain.loss).abs() < 1e-9 * plain.loss,
            "but for the last bit of the text"
        );
        assert_eq!(Found::of(&trainer.fetch(json).await), plain);
        // A repetition of a compressed request may be compressed in another way.
        let again = caller.send(protobuf("forward_backward", body)).await;
        assert_eq!(Found::of(&trainer.fetch(again).await), plain);
        trainer.fetch(trainer.step(first + 3, 0.02).await).await;
    }
    assert_eq!(trainer.info().executed, (1..=8).collect::<Vec<_>>());
}

/// OPEN_SERVERS 4: what a server does not read is refused before anything is noted of it.
#[tokio::test(start_paused = true)]
async fn the_wrong_encoding_leaves_no_trace() {
    let pass = Pass::new(&[SECRET]);
    for (dialect, status) in [(Dialect::skyrl(), 415), (Dialect::tuft(), 415), (Dialect::hatchery(), 500)] {
        let name = dialect.name;
        let caller = Caller::new(dialect).await;
        let trainer = Trainer::new(&caller, 0).await;
        let wrong = if status == 500 {
            raw(&trainer, &pass.protobuf(&trainer.model, 1)).await
        } else {
            assert_eq!(caller.post("forward", pass.json(&trainer.model, 1)).await.status, 404, "{name}");
            caller.post("forward_backward", pass.json(&trainer.model, 1)).await
        };
        assert_eq!(refusal(&wrong).0, status, "{name}");
        assert!(trainer.info().refused.is_empty());
        assert!(trainer.found(1, &pass).await.loss > 0.0, "{name}: the same id again");
    }
}

/// OPEN_SERVERS 5: the result's encoding is the server's choice, not the client's.
#[tokio::test(start_paused = true)]
async fn results_come_in_the_encoding_of_the_server() {
    for (encoding, asked, expected) in [
        (ResultEncoding::FollowsAccept, "application/json", "application/json"),
        (ResultEncoding::FollowsAccept, PROTOBUF, PROTOBUF),
        (ResultEncoding::Protobuf, "application/json", PROTOBUF),
        (ResultEncoding::Json, PROTOBUF, "application/json"),
    ] {
        let caller = Caller::new(Dialect { result_encoding: encoding, ..Dialect::production() }).await;
        let trainer = Trainer::new(&caller, 0).await;
        let promise = text(&trainer.pass(1, &Pass::new(&[SECRET])).await, "request_id");
        let reply = caller.retrieve_with(&promise, json!({}), asked).await;
        assert_eq!(reply.headers["content-type"], expected);
        assert_eq!(Found::of(&reply).logprobs[0].len(), 22);
        let step = trainer.fetch(trainer.step(2, 0.1).await).await;
        assert_eq!(step.headers["content-type"], "application/json", "other results are JSON everywhere");
    }
}

/// PROTOCOL 16.4: a large result is announced to whoever allows it.
#[tokio::test(start_paused = true)]
async fn a_large_result_is_announced_before_it_is_sent() {
    let caller = Caller::production().await;
    caller.service.set_metadata_threshold(400);
    let trainer = Trainer::new(&caller, 0).await;
    let pass = Pass::new(&[
        "a text that is long enough to make a result of more than four hundred bytes, since each of its logprobs has four",
    ]);
    let promise = text(&trainer.pass(1, &pass).await, "request_id");
    let announced = caller.retrieve_with(&promise, json!({}), PROTOBUF).await.to_json().unwrap();
    assert_eq!(announced["status"], "complete_metadata");
    let sent = caller.retrieve_with(&promise, json!({ "allow_metadata_only": false }), PROTOBUF).await;
    assert_eq!(announced["response_payload_size"], sent.body.len());
    let small = trainer.fetch(trainer.step(2, 0.1).await).await.to_json().unwrap();
    assert!(small["metrics"].is_object(), "a small one is not");
}

/// PROTOCOL 12.2, 19.3: the shape of the logprobs is that of the targets, sparse ones count as dense.
#[tokio::test(start_paused = true)]
async fn targets_may_have_two_dimensions_and_be_sparse() {
    let caller = Caller::production().await;
    let trainer = Trainer::new(&caller, 0).await;
    let mut request = Pass::new(&["abc", "abcd"]).protobuf(&trainer.model, 1);
    let ints = |values: &[i64]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let targets = dense(proto::DType::DtypeInt64, ints(&[98, 99, 0, 100]), &[2, 2]);
    let weights = dense(proto::DType::DtypeFloat32, floats(&[1.0, 0.5, 0.0, 2.0]), &[2, 2]);
    let inputs = &mut request.data[0].loss_fn_inputs;
    inputs.insert("target_tokens".into(), targets);
    inputs.insert("weights".into(), weights);
    let reply = trainer.fetch(raw(&trainer, &request).await).await;
    let dense_found = Found::of(&reply);
    assert_eq!(dense_found.logprobs.iter().map(Vec::len).collect::<Vec<_>>(), [4, 3]);
    let output = proto::ForwardBackwardOutput::decode(reply.body.clone()).unwrap();
    assert_eq!(output.loss_fn_output_type, "tinker:TorchLossReturn");
    let shapes: Vec<_> = output
        .loss_fn_outputs
        .iter()
        .map(|record| record.fields["logprobs"].trailing_shape.clone())
        .collect();
    assert_eq!(shapes, [vec![2], vec![]]);
    let json = caller.retrieve(&text(&raw(&trainer, &request).await, "request_id")).await.to_json().unwrap();
    assert_eq!(json["loss_fn_outputs"][0]["logprobs"]["shape"], json!([2, 2]));
    assert_eq!(json["loss_fn_outputs"][1]["logprobs"]["shape"], json!([3]));
    let lp = &dense_found.logprobs;
    let expected: f64 =
        [1.0, 0.5, 0.0, 2.0].iter().zip(&lp[0]).map(|(w, lp)| -w * f64::from(*lp)).sum::<f64>()
            - lp[1].iter().map(|lp| f64::from(*lp)).sum::<f64>();
    assert!((dense_found.loss - expected).abs() < 1e-4);

    let csr = |values, dtype: proto::DType| proto::Tensor {
        dtype: dtype.into(),
        shape: vec![2, 2],
        encoding: Some(proto::tensor::Encoding::SparseCsr(proto::SparseCsr {
            values,
            crow_indices: ints(&[0, 2, 3]),
            col_indices: ints(&[0, 1, 1]),
        })),
    };
    let inputs = &mut request.data[0].loss_fn_inputs;
    inputs.insert("target_tokens".into(), csr(ints(&[98, 99, 100]), proto::DType::DtypeInt64));
    inputs.insert("weights".into(), csr(floats(&[1.0, 0.5, 2.0]), proto::DType::DtypeFloat32));
    request.seq_id = 2;
    assert_eq!(Found::of(&trainer.fetch(raw(&trainer, &request).await).await), dense_found);
}

/// Pictures and sounds take positions.
#[tokio::test(start_paused = true)]
async fn pictures_and_sounds_take_as_many_positions_as_they_say() {
    let caller = Caller::production().await;
    let trainer = Trainer::new(&caller, 0).await;
    let mut request = Pass::new(&["abcdefgh"]).protobuf(&trainer.model, 1);
    let picture = proto::ImageChunk { expected_tokens: Some(3), ..proto::ImageChunk::default() };
    let sound = proto::DmelChunk { dmel: vec![254, 0, 2, 2, 5].into() };
    request.data[0].model_input = vec![
        proto::Chunk { chunk: Some(proto::chunk::Chunk::Image(picture)) },
        proto::Chunk { chunk: Some(proto::chunk::Chunk::Dmel(sound)) },
        request.data[0].model_input[0].clone(),
    ];
    if let Some(proto::chunk::Chunk::EncodedText(text)) = &mut request.data[0].model_input[2].chunk {
        text.tokens = text.tokens.slice(..8);
    }
    assert_eq!(Found::of(&trainer.fetch(raw(&trainer, &request).await).await).logprobs[0].len(), 7);
}

/// PROTOCOL 16.4, TR-3: data that cannot be worked on is the user's failure of a promise, with a reason.
#[tokio::test(start_paused = true)]
async fn bad_data_fails_the_promise_and_says_why() {
    let caller = Caller::production().await;
    let trainer = Trainer::new(&caller, 0).await;
    let f32s = |n: usize| std::iter::repeat_n(1f32.to_le_bytes(), n).flatten().collect();
    type Change = fn(&mut proto::Datum);
    let float_targets: Change = |datum| {
        let targets = datum.loss_fn_inputs.get_mut("target_tokens").unwrap();
        (targets.dtype, targets.shape) = (proto::DType::DtypeFloat32.into(), vec![44]);
    };
    let ragged: Change = |datum| datum.loss_fn_inputs.get_mut("target_tokens").unwrap().shape = vec![21];
    let cut: Change = |datum| {
        let weights = datum.loss_fn_inputs.get_mut("weights").unwrap();
        weights.encoding = Some(proto::tensor::Encoding::Dense(vec![0; 7].into()));
    };
    let huge: Change =
        |datum| datum.loss_fn_inputs.get_mut("weights").unwrap().shape = vec![1 << 40, 1 << 40];
    let no_dtype: Change = |datum| datum.loss_fn_inputs.get_mut("weights").unwrap().dtype = 0;
    let sparse: Change = |datum| {
        let weights = datum.loss_fn_inputs.get_mut("weights").unwrap();
        weights.shape = vec![1 << 20, 1 << 3];
        weights.encoding = Some(proto::tensor::Encoding::SparseCsr(proto::SparseCsr::default()));
    };
    let wide: Change = |datum| {
        let rows = proto::SparseCsr { crow_indices: vec![0; 16].into(), ..proto::SparseCsr::default() };
        let weights = datum.loss_fn_inputs.get_mut("weights").unwrap();
        weights.shape = vec![1, 1 << 40];
        weights.encoding = Some(proto::tensor::Encoding::SparseCsr(rows));
    };
    let cases: [(Change, &str); 10] = [
        (|datum| datum.loss_fn_inputs.clear(), "target_tokens is missing"),
        (float_targets, "must be int64"),
        (ragged, "target_tokens of shape [21] has 22 values"),
        (|datum| datum.model_input.clear(), "no tokens"),
        (cut, "weights"),
        (huge, "too large"),
        (no_dtype, "dtype"),
        (sparse, "sparse indices"),
        (wide, "too large"),
        (|datum| datum.model_input[0].chunk = None, "neither text nor picture"),
    ];
    let mut seq_id = 0;
    for (change, expected) in cases {
        seq_id += 1;
        let mut request = Pass::new(&["fine", SECRET]).protobuf(&trainer.model, seq_id);
        change(&mut request.data[1]);
        let error = user_failure(&trainer, &request).await;
        assert!(error.contains("datum 1") && error.contains(expected), "{error}");
    }
    let mut short = Pass::new(&[SECRET]).protobuf(&trainer.model, seq_id + 1);
    let weights = dense(proto::DType::DtypeFloat32, f32s(3), &[3]);
    short.data[0].loss_fn_inputs.insert("weights".into(), weights);
    assert!(user_failure(&trainer, &short).await.contains("weights has 3 entries"));
    let empty = Pass::new(&[]).protobuf(&trainer.model, seq_id + 2);
    assert!(user_failure(&trainer, &empty).await.contains("no data"));
    let unknown = Pass::new(&[SECRET]).loss("no_such_loss", json!({}), &[]);
    assert!(
        user_failure(&trainer, &unknown.protobuf(&trainer.model, seq_id + 3)).await.contains("no_such_loss")
    );
    let long = Pass::new(&[SECRET]);
    let mut long = long.protobuf(&trainer.model, seq_id + 4);
    let picture = proto::ImageChunk { expected_tokens: Some(65_536), ..proto::ImageChunk::default() };
    long.data[0].model_input.push(proto::Chunk { chunk: Some(proto::chunk::Chunk::Image(picture)) });
    assert!(user_failure(&trainer, &long).await.contains("65536"));
    assert_eq!(trainer.info().executed.len() as i32, seq_id as i32 + 4);
    let before = trainer.found(seq_id + 5, &Pass::new(&[SECRET])).await;
    assert!(before.loss > 0.0, "the run goes on");
}

/// OPEN_SERVERS 7: failures of training are told as failures of samples are.
#[tokio::test(start_paused = true)]
async fn failures_may_come_as_statuses() {
    for (failure, status) in [(FailureStyle::Status(400), 400), (FailureStyle::Status(422), 422)] {
        let caller = Caller::new(Dialect { failure, ..Dialect::production() }).await;
        let trainer = Trainer::new(&caller, 0).await;
        let unknown = Pass::new(&[SECRET]).loss("no_such_loss", json!({}), &[]);
        let reply = trainer.fetch(trainer.pass(1, &unknown).await).await;
        let (got, detail) = refusal(&reply);
        assert!(got == status && detail.contains("no_such_loss"), "{detail}");
    }
}

/// Requests that are refused where they arrive.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_or_belongs_to_nobody_is_refused() {
    let caller = Caller::production().await;
    let trainer = Trainer::new(&caller, 0).await;
    let pass = Pass::new(&[SECRET]);
    let nobody = pass.protobuf("s-none:train:0", 1);
    assert_eq!(refusal(&raw(&trainer, &nobody).await).0, 404);
    assert_eq!(refusal(&caller.send(protobuf("forward_backward", vec![0xff; 9])).await).0, 400);
    let mislabelled = protobuf("forward_backward", vec![1, 2, 3]).with_header("content-encoding", "zstd");
    assert_eq!(refusal(&caller.send(mislabelled).await).0, 400);
    let negative = proto::ForwardBackwardRequest { seq_id: -1, ..pass.protobuf(&trainer.model, 1) };
    assert_eq!(refusal(&raw(&trainer, &negative).await).0, 400);
    for (route, body) in [
        ("forward_backward", json!({ "model_id": trainer.model, "seq_id": 1 })),
        ("forward", pass.json(&trainer.model, 1)),
        ("forward_backward", json!({ "model_id": trainer.model })),
        ("optim_step", json!({ "model_id": trainer.model, "adam_params": {} })),
        ("optim_step", json!({ "seq_id": 1, "adam_params": {} })),
        (
            "optim_step",
            json!({ "model_id": trainer.model, "seq_id": 1, "adam_params": { "learning_rate": null } }),
        ),
        ("optim_step", json!({ "model_id": trainer.model, "seq_id": 1, "adam_params": { "beta1": 1.0 } })),
        ("optim_step", json!({ "model_id": trainer.model, "seq_id": 1, "optimizer_params": {} })),
        ("save_weights_for_sampler", json!({ "model_id": trainer.model, "seq_id": 1 })),
        (
            "save_weights_for_sampler",
            json!({ "model_id": trainer.model, "seq_id": 1, "path": "x", "kind": "y" }),
        ),
        ("save_weights_external", json!({ "model_id": trainer.model, "seq_id": 1 })),
        ("load_weights", json!({ "model_id": trainer.model, "seq_id": 1 })),
        ("load_weights", json!({ "session_id": caller.session, "path": "tinker://a/b/c" })),
        ("weights_info", json!({})),
        ("get_info", json!({})),
        ("unload_model", json!({})),
        ("copy_weights", json!({})),
    ] {
        let reply = caller.post(route, body.clone()).await;
        assert_eq!(refusal(&reply).0, 422, "{route} {body}");
    }
    let other = json!({ "type": "lion", "learning_rate": 0.1 });
    let reply =
        trainer.fetch(trainer.operation("optim_step", 2, json!({ "optimizer_params": other })).await).await;
    assert!(text(&reply, "error").contains("lion"));
}

/// PROTOCOL 11.1, 10.4: a model is made once per number.
#[tokio::test(start_paused = true)]
async fn a_model_is_made_once_per_number_and_from_what_the_server_has() {
    let caller = Caller::production().await;
    let first = text(&create_model(&caller, 0, json!({})).await, "request_id");
    assert_eq!(text(&create_model(&caller, 0, json!({})).await, "request_id"), first);
    let other = json!({ "lora_config": { "rank": 5 } });
    assert_eq!(refusal(&create_model(&caller, 0, other).await).0, 409);
    for (changes, status) in [
        (json!({ "lora_config": null }), 422),
        (json!({ "lora_config": { "rank": null } }), 422),
        (json!({ "lora_config": { "rank": 0 } }), 400),
        (json!({ "lora_config": { "train_mlp": false, "train_attn": false, "train_unembed": false } }), 400),
        (json!({ "base_model": "gpt-none" }), 400),
        (json!({ "base_model": null }), 422),
        (json!({ "session_id": "s-none" }), 404),
        (json!({ "model_seq_id": null }), 422),
        (json!({ "optimizer_config": { "version": 1 } }), 422),
    ] {
        assert_eq!(refusal(&create_model(&caller, 1, changes.clone()).await).0, status, "{changes}");
    }
    assert_eq!(caller.service.runs().len(), 1);
    let base = json!({ "base_model": "gpt-none" });
    let tuft = Caller::new(Dialect::tuft()).await;
    assert_eq!(refusal(&create_model(&tuft, 0, base).await).0, 404);
}

/// A creation that fails leaves no model; another number makes one.
#[tokio::test(start_paused = true)]
async fn a_failed_creation_leaves_no_model() {
    let caller = Caller::production().await;
    caller.service.fail_next(tinkex_types::ErrorCategory::Server, "no room");
    let failed = caller.retrieve(&text(&create_model(&caller, 0, json!({})).await, "request_id")).await;
    assert_eq!(text(&failed, "error"), "no room");
    let model = format!("{}:train:0", caller.session);
    assert_eq!(caller.post("get_info", json!({ "model_id": model })).await.status, 404);
    let trainer = Trainer::new(&caller, 1).await;
    trainer.found(1, &Pass::new(&[SECRET])).await;
}

/// PROTOCOL 11.2 and the state as the control routes tell it.
#[tokio::test(start_paused = true)]
async fn models_are_described_to_clients_and_to_control() {
    use tinkex_testkit::Behaviour;
    let caller = Caller::production().await;
    let trainer = Trainer::new(&caller, 0).await;
    let info = caller.post("get_info", json!({ "model_id": trainer.model, "type": "get_info" })).await;
    let expected = json!({
        "type": "get_info", "model_id": trainer.model, "is_lora": true, "lora_rank": 4, "model_name": BASE,
        "model_data": { "arch": "byte-ngram", "model_name": BASE, "tokenizer_id": BASE },
        "optimizer_config": { "type": "adamw" },
    });
    assert_eq!(info.to_json(), Some(expected));
    trainer.learn(1, &Pass::new(&[SECRET])).await;
    trainer.step(4, 0.1).await;
    let state = caller.service.control("state", &Value::Null).unwrap().to_json().unwrap();
    let run = json!({
        "model_id": trainer.model, "session_id": caller.session, "base_model": BASE, "rank": 4,
        "optimizer_config": { "type": "adamw" }, "seq_ids": [1, 2, 4], "executed": [1, 2], "refused": [],
        "waiting": [4], "gaps": [3], "steps": 1, "unloaded": false,
    });
    assert_eq!(state["runs"], json!([run]));
    assert_eq!(caller.service.run("s-none:train:0"), None);
    let token = json!({ "token": "t" });
    assert_eq!(caller.service.control("weights_access_token", &token).unwrap().status, 200);
    let load = json!({ "path": "tinker://a/weights/b" });
    assert_eq!(trainer.operation("load_weights", 3, load).await.status, 403);
}

/// An id beyond all others is held like any other, and its gap told in part.
#[tokio::test(start_paused = true)]
async fn a_very_high_id_costs_nothing() {
    let caller = Caller::production().await;
    let trainer = Trainer::new(&caller, 0).await;
    assert_eq!(trainer.step(u64::MAX, 0.1).await.status, 200);
    trainer.fetch(trainer.step(1, 0.1).await).await;
    let run = trainer.info();
    assert_eq!((run.waiting.clone(), run.gaps().len(), run.gaps()[0]), (vec![u64::MAX], 1000, 2));
}

/// What was fetched does not stay for ever.
#[tokio::test(start_paused = true)]
async fn a_long_run_leaves_a_bounded_memory() {
    use tinkex_testkit::service::ServiceOptions;
    let options = ServiceOptions { keep_retrieved: 10, keep_records: 50, ..ServiceOptions::default() };
    let caller = Caller::with_options(options).await;
    let trainer = Trainer::new(&caller, 0).await;
    for step in 0..100 {
        trainer.learn(2 * step + 1, &Pass::new(&["ab"])).await;
    }
    assert!(caller.service.promises() <= 12, "{}", caller.service.promises());
    let run = trainer.info();
    assert_eq!((run.seq_ids.len(), run.executed.len(), run.steps), (50, 50, 100));
    assert!(run.gaps().is_empty(), "{:?}", run.gaps());
    let first = text(&trainer.pass(1, &Pass::new(&["ab"])).await, "request_id");
    assert_eq!(caller.retrieve(&first).await.status, 410, "done once, and its result is gone");
    assert_eq!(trainer.info().steps, 100);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// TR-3: any bytes are answered.
    #[test]
    fn any_bytes_are_answered(body in proptest::collection::vec(any::<u8>(), 0..200), zstd: bool, json: bool) {
        run(async move {
            let caller = Caller::production().await;
            let request = if json { Received::post("forward_backward", &json!(null)).with_body(body) } else { protobuf("forward_backward", body) };
            let request = if zstd { request.with_header("content-encoding", "zstd") } else { request };
            let status = caller.send(request).await.status.as_u16();
            assert!((400..500).contains(&status), "{status}");
        });
    }

    /// A request that was fine, with some bytes changed, is answered and leaves a run that goes on.
    #[test]
    fn damaged_requests_are_answered(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        run(async move {
            let caller = Caller::production().await;
            let trainer = Trainer::new(&caller, 0).await;
            let mut body = Pass::new(&["abc", "defg"]).protobuf(&trainer.model, 1).encode_to_vec();
            for (index, byte) in changes {
                let at = index.index(body.len());
                body[at] = byte;
            }
            let reply = caller.send(protobuf("forward_backward", body)).await;
            if reply.status.is_success() {
                caller.service.set_hold(std::time::Duration::from_secs(1));
                trainer.fetch(reply).await;
            } else {
                assert!(reply.status.is_client_error(), "{}", reply.status);
            }
            caller.service.runs();
        });
    }

    /// JSON requests with members of any kind in the place of others are answered, on every route.
    #[test]
    fn odd_members_are_answered(route in 0..11usize, member in any::<prop::sample::Index>(), odd in 0..7usize) {
        run(async move {
            const ROUTES: [&str; 11] = [
                "create_model", "get_info", "unload_model", "forward_backward", "forward", "optim_step", "save_weights",
                "save_weights_for_sampler", "save_weights_external", "load_weights", "copy_weights",
            ];
            let odd = [json!(null), json!(-1), json!(1e300), json!(""), json!([]), json!({}), json!(true)][odd].clone();
            let caller = Caller::production().await;
            let trainer = Trainer::new(&caller, 0).await;
            let body = merged(Pass::new(&["abc"]).json(&trainer.model, 1), json!({
                "session_id": caller.session, "model_seq_id": 1, "base_model": BASE, "lora_config": { "rank": 2 },
                "adam_params": {}, "path": "x", "kind": "snapshot", "ttl_seconds": 3600, "optimizer": true,
                "source_path": "tinker://a/weights/b", "destination_project_id": "p", "overwrite": true,
                "age_encryption_recipients": ["a"], "optimizer_config": { "type": "adamw" },
            }));
            let name = member.get(&body.as_object().unwrap().keys().cloned().collect::<Vec<_>>()).clone();
            let mut body = body;
            body[name] = odd;
            let reply = caller.post(ROUTES[route], body).await;
            assert!(!reply.status.is_server_error(), "{}", reply.status);
            if let Some(id) = reply.to_json().and_then(|body| Some(body.get("request_id")?.as_str()?.to_owned())) {
                caller.service.set_hold(std::time::Duration::from_secs(1));
                assert!(!caller.retrieve(&id).await.status.is_server_error());
            }
        });
    }
}

/// Runs a property in virtual time.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(test);
}
