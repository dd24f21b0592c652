//! A hand-made training client, and the whole loop under every preset.

use bytes::Bytes;
use http::Method;
use prost::Message;
use serde_json::{Value, json};
use tinkex_testkit::service::{Dialect, RunInfo, TrainingBody};
use tinkex_testkit::{PROTOBUF, Received, Reply};
use tinkex_types::proto;

use crate::caller::{BASE, Caller, merged, text, tokens};

/// One run of a caller's session.
pub(crate) struct Trainer<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) model: String,
}

/// A pass over data, as every encoding can carry it.
#[derive(Clone)]
pub(crate) struct Pass {
    pub(crate) texts: Vec<&'static str>,
    pub(crate) loss_fn: &'static str,
    pub(crate) config: Value,
    /// Further inputs, each the same number for all targets.
    pub(crate) inputs: Vec<(&'static str, f32)>,
    pub(crate) forward_only: bool,
}

impl Pass {
    pub(crate) fn new(texts: &[&'static str]) -> Self {
        let inputs = vec![("weights", 1.0)];
        Self {
            texts: texts.to_vec(),
            loss_fn: "cross_entropy",
            config: json!({}),
            inputs,
            forward_only: false,
        }
    }

    pub(crate) fn loss(
        mut self,
        loss_fn: &'static str,
        config: Value,
        inputs: &[(&'static str, f32)],
    ) -> Self {
        (self.loss_fn, self.config, self.inputs) = (loss_fn, config, inputs.to_vec());
        self
    }

    pub(crate) fn forward_only(mut self) -> Self {
        self.forward_only = true;
        self
    }

    pub(crate) fn protobuf(&self, model: &str, seq_id: u64) -> proto::ForwardBackwardRequest {
        let mut request = proto::ForwardBackwardRequest {
            model_id: model.into(),
            seq_id: seq_id as i32,
            data: self.texts.iter().map(|text| self.datum(text)).collect(),
            loss_fn: self.loss_fn.into(),
            forward_only: self.forward_only,
            ..proto::ForwardBackwardRequest::default()
        };
        for (name, value) in self.config.as_object().unwrap() {
            let value = match (value.as_f64(), value.as_str()) {
                (Some(number), _) => proto::loss_config_value::Value::Number(number),
                (None, text) => proto::loss_config_value::Value::Text(text.unwrap().into()),
            };
            request.loss_fn_config_v2.insert(name.clone(), proto::LossConfigValue { value: Some(value) });
        }
        request
    }

    fn datum(&self, text: &str) -> proto::Datum {
        let (input, targets) = shifted(text);
        let chunk = proto::EncodedTextChunk { tokens: input.iter().flat_map(|t| t.to_le_bytes()).collect() };
        let targets: Bytes = targets.iter().flat_map(|t| i64::from(*t).to_le_bytes()).collect();
        let n = input.len();
        let mut datum = proto::Datum {
            model_input: vec![proto::Chunk { chunk: Some(proto::chunk::Chunk::EncodedText(chunk)) }],
            ..proto::Datum::default()
        };
        datum.loss_fn_inputs.insert("target_tokens".into(), dense(proto::DType::DtypeInt64, targets, &[n]));
        for (name, value) in &self.inputs {
            let values = std::iter::repeat_n(value.to_le_bytes(), n).flatten().collect();
            datum.loss_fn_inputs.insert((*name).into(), dense(proto::DType::DtypeFloat32, values, &[n]));
        }
        datum
    }

    pub(crate) fn json(&self, model: &str, seq_id: u64) -> Value {
        let data = self.texts.iter().map(|text| {
            let (input, targets) = shifted(text);
            let n = input.len();
            let mut inputs = json!({ "target_tokens": { "data": targets, "dtype": "int64", "shape": [n] } });
            for (name, value) in &self.inputs {
                inputs[name] = json!({ "data": vec![value; n], "dtype": "float32", "shape": [n] });
            }
            json!({ "model_input": { "chunks": [{ "tokens": input }] }, "loss_fn_inputs": inputs })
        });
        let input = json!({
            "data": data.collect::<Vec<_>>(),
            "loss_fn": self.loss_fn,
            "loss_fn_config": self.config,
        });
        let name = if self.forward_only { "forward_input" } else { "forward_backward_input" };
        json!({ name: input, "model_id": model, "seq_id": seq_id })
    }
}

pub(crate) fn dense(dtype: proto::DType, values: Bytes, shape: &[usize]) -> proto::Tensor {
    proto::Tensor {
        dtype: dtype.into(),
        shape: shape.iter().map(|n| *n as i64).collect(),
        encoding: Some(proto::tensor::Encoding::Dense(values)),
    }
}

/// A text as input and as what is to follow each of its bytes.
fn shifted(text: &str) -> (Vec<i32>, Vec<i32>) {
    let all = tokens(text);
    (all[..all.len() - 1].to_vec(), all[1..].to_vec())
}

/// A request with a protobuf body.
pub(crate) fn protobuf(route: &str, body: impl Into<Bytes>) -> Received {
    Received::new(Method::POST, &format!("/api/v1/{route}"))
        .with_header("content-type", PROTOBUF)
        .with_body(body)
}

/// What a pass found out, of whatever encoding.
#[derive(Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) loss: f64,
    pub(crate) metrics: Vec<(String, f64)>,
    pub(crate) logprobs: Vec<Vec<f32>>,
}

impl Found {
    pub(crate) fn of(reply: &Reply) -> Self {
        assert_eq!(reply.status, 200, "{:?}", reply.to_json());
        if reply.headers["content-type"] == PROTOBUF {
            let output = proto::ForwardBackwardOutput::decode(reply.body.clone()).unwrap();
            let logprobs = output.loss_fn_outputs.iter().flat_map(|record| {
                let field = &record.fields["logprobs"];
                let offsets: Vec<i64> =
                    field.offsets.as_chunks().0.iter().map(|cell| i64::from_le_bytes(*cell)).collect();
                assert_eq!(offsets.len() as i64, record.num_datums + 1);
                let bounds = offsets.windows(2).map(|w| w[0] as usize..w[1] as usize).collect::<Vec<_>>();
                let read =
                    |bytes: &[u8]| bytes.as_chunks().0.iter().map(|c| f32::from_le_bytes(*c)).collect();
                bounds.into_iter().map(|range| read(&field.data[range])).collect::<Vec<Vec<f32>>>()
            });
            let logprobs = logprobs.collect();
            return Self {
                loss: output.metrics["loss:sum"],
                metrics: output.metrics.into_iter().collect(),
                logprobs,
            };
        }
        let body = match reply.headers.get("content-encoding") {
            Some(_) => zstd::decode_all(reply.body.as_ref()).unwrap(),
            None => reply.body.to_vec(),
        };
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["loss_fn_output_type"], "TorchLossReturn", "{body}");
        let outputs = body["loss_fn_outputs"].as_array().unwrap().iter();
        let logprobs =
            outputs.map(|output| serde_json::from_value(output["logprobs"]["data"].clone()).unwrap());
        let metrics = body["metrics"].as_object().unwrap().iter();
        let metrics: Vec<_> = metrics.map(|(name, value)| (name.clone(), value.as_f64().unwrap())).collect();
        let loss = body["metrics"]["loss:sum"].as_f64().unwrap();
        Self { loss, metrics, logprobs: logprobs.collect() }
    }
}

impl<'a> Trainer<'a> {
    /// A run of the caller's session, made by `create_model`.
    pub(crate) async fn new(caller: &'a Caller, model_seq_id: u64) -> Self {
        let promise = text(&create_model(caller, model_seq_id, json!({})).await, "request_id");
        let made = caller.retrieve(&promise).await;
        Self { caller, model: text(&made, "model_id") }
    }

    /// A pass, encoded as the server reads it.
    pub(crate) async fn pass(&self, seq_id: u64, pass: &Pass) -> Reply {
        if self.caller.service.dialect().training_bodies == TrainingBody::JsonOnly {
            let route = if pass.forward_only { "forward" } else { "forward_backward" };
            return self.caller.post(route, pass.json(&self.model, seq_id)).await;
        }
        let body = pass.protobuf(&self.model, seq_id).encode_to_vec();
        self.caller.send(protobuf("forward_backward", body)).await
    }

    pub(crate) async fn operation(&self, route: &str, seq_id: u64, members: Value) -> Reply {
        let body = json!({ "model_id": self.model, "seq_id": seq_id, "type": route });
        self.caller.post(route, merged(body, members)).await
    }

    pub(crate) async fn step(&self, seq_id: u64, learning_rate: f64) -> Reply {
        let params = json!({ "learning_rate": learning_rate, "beta1": 0.9, "beta2": 0.95, "eps": 1e-12 });
        self.operation("optim_step", seq_id, json!({ "adam_params": params })).await
    }

    pub(crate) async fn fetch(&self, submitted: Reply) -> Reply {
        assert!(submitted.status.is_success(), "{} {:?}", submitted.status, submitted.to_json());
        self.caller.retrieve_with(&text(&submitted, "request_id"), json!({}), PROTOBUF).await
    }

    pub(crate) async fn found(&self, seq_id: u64, pass: &Pass) -> Found {
        Found::of(&self.fetch(self.pass(seq_id, pass).await).await)
    }

    /// A named operation that must succeed; its result.
    pub(crate) async fn done(&self, route: &str, seq_id: u64, members: Value) -> Value {
        let reply = self.fetch(self.operation(route, seq_id, members).await).await;
        assert_eq!(reply.status, 200, "{:?}", reply.to_json());
        let result = reply.to_json().unwrap();
        assert!(result.get("error").is_none(), "{result}");
        result
    }

    /// One forward/backward pass and one step, at two sequence ids; the loss.
    pub(crate) async fn learn(&self, seq_id: u64, pass: &Pass) -> f64 {
        let found = self.pass(seq_id, pass).await;
        let stepped = self.step(seq_id + 1, 0.05).await;
        let found = Found::of(&self.fetch(found).await);
        assert_eq!(self.fetch(stepped).await.status, 200);
        found.loss
    }

    pub(crate) fn info(&self) -> RunInfo {
        self.caller.service.run(&self.model).unwrap()
    }
}

pub(crate) async fn create_model(caller: &Caller, model_seq_id: u64, changes: Value) -> Reply {
    let body = json!({
        "session_id": caller.session,
        "model_seq_id": model_seq_id,
        "base_model": BASE,
        "lora_config": { "rank": 4, "seed": 7, "train_unembed": true, "train_mlp": true, "train_attn": true },
        "type": "create_model",
    });
    caller.post("create_model", merged(body, changes)).await
}

/// Samples of temperature 0 from a sampling session.
pub(crate) async fn sampled(caller: &Caller, sampler: &str, seq_id: u64, start: &str) -> String {
    let changes = json!({
        "sampling_session_id": sampler,
        "prompt": { "chunks": [{ "tokens": tokens(start) }] },
        "sampling_params": { "max_tokens": 20, "temperature": 0.0, "stop": [] },
    });
    let reply = caller.retrieve_with(&caller.submit(seq_id, changes).await, json!({}), PROTOBUF).await;
    let bytes = if reply.headers["content-type"] == PROTOBUF {
        let response = proto::SampleResponse::decode(reply.body.clone()).unwrap();
        response.sequences[0].tokens.as_chunks().0.iter().map(|c| i32::from_le_bytes(*c) as u8).collect()
    } else {
        let body = match reply.headers.get("content-encoding") {
            Some(_) => zstd::decode_all(reply.body.as_ref()).unwrap(),
            None => reply.body.to_vec(),
        };
        let body: Value = serde_json::from_slice(&body).unwrap();
        let tokens: Vec<i32> = serde_json::from_value(body["sequences"][0]["tokens"].clone()).unwrap();
        tokens.into_iter().map(|token| token as u8).collect()
    };
    String::from_utf8_lossy(&bytes as &Vec<u8>).into_owned()
}

pub(crate) const SECRET: &str = "xyzzy plugh plover quux";

/// TR-1, S2-04, PROTOCOL 11, 12, 14: create, learn, look without learning, save, snapshot, sample what was learned.
#[tokio::test(start_paused = true)]
async fn the_whole_loop_goes_through_under_every_preset() {
    for dialect in Dialect::presets() {
        let name = dialect.name;
        let caller = Caller::new(dialect).await;
        let trainer = Trainer::new(&caller, 0).await;
        assert_eq!(trainer.model, format!("{}:train:0", caller.session), "{name}");
        let info = caller.post("get_info", json!({ "model_id": trainer.model, "type": "get_info" })).await;
        assert_eq!(info.status, 200, "{name}");
        let pass = Pass::new(&[SECRET, "something else to learn"]);
        let mut losses = Vec::new();
        for step in 0..30 {
            losses.push(trainer.learn(2 * step + 1, &pass).await);
        }
        assert!(losses[29] < 0.1 * losses[0] && losses[0] > 50.0, "{name}: {losses:?}");
        let looked = trainer.found(61, &pass.clone().forward_only()).await;
        let again = trainer.found(62, &pass.clone().forward_only()).await;
        assert_eq!(looked, again, "{name}: looking changes nothing");
        assert_eq!(looked.logprobs.iter().map(Vec::len).collect::<Vec<_>>(), [22, 22]);
        let state = trainer.done("save_weights", 63, json!({ "path": "state-1" })).await;
        assert_eq!(state["path"], format!("tinker://{}/weights/state-1", trainer.model));
        let saved = trainer.done("save_weights_for_sampler", 64, json!({ "path": "named-1" })).await;
        let unnamed = json!({ "sampling_session_seq_id": 1 });
        let snapshot = trainer.done("save_weights_for_sampler", 65, unnamed).await;
        let made = caller.create_sampler(2, json!({ "model_path": saved["path"] })).await;
        for sampler in
            [snapshot["sampling_session_id"].as_str().unwrap(), &text(&made, "sampling_session_id")]
        {
            assert_eq!(sampled(&caller, sampler, 0, "xyzzy").await[..18], SECRET[5..], "{name}");
        }
        assert_ne!(
            sampled(&caller, &caller.sampler, 0, "xyzzy").await[..18],
            SECRET[5..],
            "{name}: the base"
        );
        let run = trainer.info();
        assert_eq!((run.steps, run.gaps(), run.executed), (30, vec![], (1..=65).collect()), "{name}");
    }
}

/// PROTOCOL 12.1: every loss goes through under every preset, with its numbers, and its gradient counts.
#[tokio::test(start_paused = true)]
async fn every_loss_goes_through_under_every_preset() {
    const CLIP: [(&str, f64); 2] = [("clip_low_threshold", 0.5), ("clip_high_threshold", 1.5)];
    for dialect in Dialect::presets() {
        let name = dialect.name;
        let caller = Caller::new(dialect).await;
        for (run, (loss, config)) in [
            ("importance_sampling", json!({})),
            ("ppo", CLIP.into_iter().collect()),
            ("cispo", CLIP.into_iter().collect()),
            ("dro", json!({ "beta": 0.1 })),
            ("gspo", json!({})),
        ]
        .into_iter()
        .enumerate()
        {
            let trainer = Trainer::new(&caller, run as u64).await;
            let look = Pass::new(&[SECRET]).forward_only();
            let before = trainer.found(1, &look).await.loss;
            // Below what the model says, so that no ratio is beyond its upper limit.
            let inputs = [("advantages", 1.0), ("logprobs", -0.001)];
            let pass = Pass::new(&[SECRET]).loss(loss, config, &inputs);
            let mut losses = Vec::new();
            for step in 0..4 {
                losses.push(trainer.learn(2 * step + 2, &pass).await);
            }
            assert!(losses[3].is_finite() && losses[3] < losses[0], "{name} {loss}: {losses:?}");
            assert!(trainer.found(10, &look).await.loss < before, "{name} {loss}: the text is likelier");
        }
    }
}

/// PROTOCOL 12.7: both optimizers, and the settings of either.
#[tokio::test(start_paused = true)]
async fn both_optimizers_learn_with_their_settings() {
    let caller = Caller::production().await;
    let pass = Pass::new(&[SECRET]);
    let adam =
        json!({ "adam_params": { "learning_rate": 0.05, "weight_decay": 0.01, "grad_clip_norm": 1.0 } });
    let dimuon = |rate: Value| json!({ "optimizer_params": { "type": "dimuon", "learning_rate": rate } });
    for (run, params) in [adam, dimuon(json!(0.05))].into_iter().enumerate() {
        let trainer = Trainer::new(&caller, run as u64).await;
        let before = trainer.found(1, &pass).await.loss;
        for step in 0..10 {
            let result = trainer.done("optim_step", 2 * step + 2, params.clone()).await;
            assert!(result["metrics"].as_object().is_some_and(|metrics| !metrics.is_empty()), "{result}");
            trainer.found(2 * step + 3, &pass).await;
        }
        let after = trainer.found(22, &pass).await.loss;
        assert!(after < 0.9 * before, "{params}: {before} {after}");
        for wrong in [json!(-0.1), json!("fast"), json!(null)] {
            assert_eq!(trainer.operation("optim_step", 23, dimuon(wrong)).await.status, 422);
        }
    }
}
