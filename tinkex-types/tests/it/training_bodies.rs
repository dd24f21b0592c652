//! The forward/backward body: as recorded, as prost writes it, and as JSON (PROTOCOL 12.1, 18, 23).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Map, Value, json};
use tinkex_types::{
    AudioChunk, Chunk, CsrIndices, Datum, ForwardBackwardBody, ImageAssetPointerChunk, ImageChunk,
    ImageFormat, Loss, LossConfigValue, LossFn, LossFnConfig, ModelInput, PpoConfig, ProvenanceSpan,
    TensorData, TensorValues, proto,
};

use crate::support::{exchanges, fixture, same};

const MODEL: &str = "s-0001:train:0";

fn body<'a>(data: &'a [Datum], loss: &'a Loss, forward_only: bool) -> ForwardBackwardBody<'a> {
    ForwardBackwardBody { model_id: MODEL, seq_id: 1, data, loss, forward_only }
}

/// A member that the protobuf-JSON mapping leaves out where it has its default.
fn put(object: &mut Map<String, Value>, name: &str, value: Value) {
    let unset = match &value {
        Value::Null => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
    };
    if !unset {
        object.insert(name.to_owned(), value);
    }
}

fn packed(bytes: &Bytes) -> Value {
    json!(STANDARD.encode(bytes))
}

fn tensor(tensor: &proto::Tensor) -> Value {
    let mut out = Map::new();
    match tensor.encoding.as_ref().unwrap() {
        proto::tensor::Encoding::Dense(bytes) => {
            out.insert("dense".to_owned(), packed(bytes));
        }
        proto::tensor::Encoding::SparseCsr(csr) => {
            let mut sparse = Map::new();
            put(&mut sparse, "values", packed(&csr.values));
            put(&mut sparse, "crow_indices", packed(&csr.crow_indices));
            put(&mut sparse, "col_indices", packed(&csr.col_indices));
            out.insert("sparse_csr".to_owned(), sparse.into());
        }
    }
    put(&mut out, "dtype", json!(tensor.dtype().as_str_name()));
    put(&mut out, "shape", tensor.shape.iter().map(i64::to_string).collect());
    out.into()
}

fn chunk(chunk: &proto::Chunk) -> Value {
    match chunk.chunk.as_ref().unwrap() {
        proto::chunk::Chunk::EncodedText(text) => json!({"encoded_text": {"tokens": packed(&text.tokens)}}),
        proto::chunk::Chunk::Image(image) => {
            assert!(image.override_dimensions.is_none());
            let mut out = Map::new();
            put(&mut out, "data", packed(&image.data));
            put(&mut out, "format", json!(image.format));
            put(&mut out, "expected_tokens", json!(image.expected_tokens));
            json!({"image": out})
        }
        proto::chunk::Chunk::Dmel(audio) => json!({"dmel": {"dmel": packed(&audio.dmel)}}),
    }
}

fn span(span: &proto::ProvenanceSpan) -> Value {
    let (name, sequence_id, offset, length) = match span.span.as_ref().unwrap() {
        proto::provenance_span::Span::PromptTokens(s) => {
            ("prompt_tokens", &s.sequence_id, s.offset, s.length)
        }
        proto::provenance_span::Span::SampledTokens(s) => {
            ("sampled_tokens", &s.sequence_id, s.offset, s.length)
        }
    };
    let mut out = Map::new();
    put(&mut out, "sequence_id", json!(sequence_id));
    for (name, value) in [("offset", offset), ("length", length)] {
        if value != 0 {
            out.insert(name.to_owned(), json!(value.to_string()));
        }
    }
    json!({name: out})
}

/// The protobuf-JSON mapping of a request, as the golden files have it.
fn mapped(request: &proto::ForwardBackwardRequest) -> Value {
    let datum = |datum: &proto::Datum| {
        let mut out = Map::new();
        put(&mut out, "model_input", datum.model_input.iter().map(chunk).collect());
        let inputs = datum.loss_fn_inputs.iter().map(|(name, value)| (name.clone(), tensor(value)));
        put(&mut out, "loss_fn_inputs", inputs.collect());
        put(&mut out, "model_input_spans", datum.model_input_spans.iter().map(span).collect());
        put(&mut out, "loss_fn_input_spans", datum.loss_fn_input_spans.iter().map(span).collect());
        Value::from(out)
    };
    let setting = |(name, value): (&String, &proto::LossConfigValue)| {
        let value = match value.value.as_ref().unwrap() {
            proto::loss_config_value::Value::Number(number) => json!({"number": number}),
            proto::loss_config_value::Value::Text(text) => json!({"text": text}),
        };
        (name.clone(), value)
    };
    let mut out = Map::new();
    put(&mut out, "model_id", json!(request.model_id));
    put(&mut out, "seq_id", json!(request.seq_id));
    put(&mut out, "data", request.data.iter().map(datum).collect());
    put(&mut out, "loss_fn", json!(request.loss_fn));
    put(&mut out, "loss_fn_config", json!(request.loss_fn_config));
    put(&mut out, "forward_only", json!(request.forward_only));
    put(&mut out, "loss_fn_config_v2", request.loss_fn_config_v2.iter().map(setting).collect());
    out.into()
}

#[track_caller]
fn assert_recorded(scenario: &str, datum: Datum, loss: impl Into<Loss>, forward_only: bool) {
    let scenario = fixture(scenario);
    let recorded = exchanges(&scenario)[0]["request"]["body_proto"].clone();
    let (data, loss) = ([datum], loss.into());
    let bytes = body(&data, &loss, forward_only).to_protobuf().unwrap();
    let ours = mapped(&proto::ForwardBackwardRequest::decode(bytes).unwrap());
    assert!(same(&ours, &recorded), "ours:     {ours}\nrecorded: {recorded}");
}

fn example() -> Datum {
    Datum::new(vec![1, 2, 3]).target_tokens([2, 3, 4]).weights([0.0, 1.0, 0.5])
}

fn shapeless(data: &[i64]) -> TensorData {
    serde_json::from_value(json!({"data": data, "dtype": "int64"})).unwrap()
}

/// The golden training scenarios, whose recorded bodies the reference SDK sent.
#[test]
fn recorded_bodies_are_ours() {
    assert_recorded(
        include_str!("../fixtures/forward_backward_dense.json"),
        example(),
        LossFn::CrossEntropy,
        false,
    );
    assert_recorded(include_str!("../fixtures/forward.json"), example(), LossFn::CrossEntropy, true);
    assert_recorded(
        include_str!("../fixtures/forward_backward_dtypes.json"),
        Datum::new(ModelInput::from_ints([1, 2]).with_tokens([151_643]))
            .target_tokens([2, 3, 4])
            .logprobs([-1.5, -2.25, -0.1])
            .advantages([1.0, -1.0, 0.5])
            .tensor("mask", shapeless(&[1, 0, 1]))
            .tensor(
                "grid",
                TensorData::float32((0..6).map(|n| n as f32).collect::<Vec<_>>(), &[3, 2]).unwrap(),
            )
            .tensor("scalar", TensorData::scalar_f32(3.5))
            .tensor("empty", TensorData::from(Vec::<f32>::new())),
        LossFn::ImportanceSampling,
        false,
    );
    let image = |data: &'static [u8], format, expected_tokens| ImageChunk {
        data: Bytes::from_static(data),
        format,
        expected_tokens,
    };
    assert_recorded(
        include_str!("../fixtures/forward_backward_image_dmel.json"),
        Datum::new(
            ModelInput::from_ints([1])
                .with_image(image(b"\x89PNG\r\n\x1a\n\x00\x01\x02", ImageFormat::Png, Some(5)))
                .with_image(image(b"\xff\xd8\xff", ImageFormat::Jpeg, None))
                .with_audio(AudioChunk { dmel: Bytes::from_static(&[0, 2, 3, 4, 7, 7, 7]) }),
        )
        .target_tokens([1, 2])
        .weights([1.0, 1.0]),
        LossFn::CrossEntropy,
        false,
    );
    let config = LossFnConfig::from(PpoConfig { clip_high_threshold: 2.0, ..PpoConfig::default() });
    assert_recorded(
        include_str!("../fixtures/forward_backward_loss_fn_config.json"),
        example(),
        LossFn::Ppo.with_config(config.set("mode", "token").set("flag", true).set("empty", "")),
        false,
    );
    let (prompt, sampled) = (ProvenanceSpan::prompt, ProvenanceSpan::sampled);
    assert_recorded(
        include_str!("../fixtures/forward_backward_provenance.json"),
        Datum::new(vec![1, 2, 3])
            .target_tokens([2, 3, 4])
            .weights([1.0; 3])
            .model_input_spans([prompt("q1", 0, 2), sampled("q1", 0, 1)])
            .loss_fn_input_spans([prompt("q1", 1, 1), sampled("q1", 0, 2)]),
        LossFn::StableReinforce.with_config(LossFnConfig::new().set("kl_coeff", 0.1)),
        false,
    );
    let (mut targets, mut weights) = (vec![0i64; 32], vec![0f32; 32]);
    (targets[1], targets[31], weights[1], weights[31]) = (11, 22, 0.5, 0.25);
    assert_recorded(
        include_str!("../fixtures/forward_backward_sparse_csr.json"),
        Datum::new(vec![5, 6, 7, 8])
            .tensor("target_tokens", TensorData::int64(targets, &[4, 8]).unwrap().sparsified())
            .tensor("weights", TensorData::float32(weights, &[4, 8]).unwrap().sparsified()),
        LossFn::CrossEntropy,
        false,
    );
}

/// The older protocol's bodies (PROTOCOL 23), but for nulls and with the `type` literals its servers also know.
#[test]
fn json_bodies_are_those_of_the_older_protocol() {
    let configured = LossFn::CrossEntropy.with_config(LossFnConfig::new().set("x", 1.0));
    for (scenario, loss, seq_id, forward_only) in [
        (include_str!("../fixtures/classic_forward_backward.json"), configured, 1, false),
        (include_str!("../fixtures/classic_forward.json"), LossFn::CrossEntropy.into(), 2, true),
    ] {
        let mut recorded = exchanges(&fixture(scenario))[0]["request"]["body"].clone();
        let member = if forward_only { "forward_input" } else { "forward_backward_input" };
        let input = recorded[member].as_object_mut().unwrap();
        if input["loss_fn_config"].is_null() {
            input.remove("loss_fn_config");
        }
        input["data"][0]["model_input"]["chunks"][0]["type"] = json!("encoded_text");
        let data = [example()];
        let body = ForwardBackwardBody { model_id: "m-1", seq_id, data: &data, loss: &loss, forward_only };
        let ours: Value = serde_json::from_slice(&body.to_json().unwrap()).unwrap();
        assert!(same(&ours, &recorded), "ours:     {ours}\nrecorded: {recorded}");
    }
}

/// The older protocol has neither sparse tensors nor provenance.
#[test]
fn json_bodies_are_dense_and_without_provenance() {
    let mut values = vec![0i64; 32];
    values[9] = 7;
    let dense = TensorData::int64(values.clone(), &[4, 8]).unwrap();
    let spans = [ProvenanceSpan::sampled("q", 0, 4)];
    let datum = Datum::new(vec![1; 4])
        .tensor("target_tokens", dense.sparsified())
        .model_input_spans(spans.clone())
        .loss_fn_input_spans(spans);
    let without_spans = Datum { model_input_spans: vec![], loss_fn_input_spans: vec![], ..datum.clone() };
    assert!(example().is_whole_in_json() && !datum.is_whole_in_json() && !without_spans.is_whole_in_json());
    let (data, loss) = ([datum], Loss::from(LossFn::CrossEntropy));
    let written: Value = serde_json::from_slice(&body(&data, &loss, false).to_json().unwrap()).unwrap();
    let datum = &written["forward_backward_input"]["data"][0];
    assert_eq!(datum.as_object().unwrap().len(), 2);
    let tensor = json!({"data": values, "dtype": "int64", "shape": [4, 8]});
    assert_eq!(datum["loss_fn_inputs"]["target_tokens"], tensor);
}

/// Bad input is refused before anything is sent, whatever the format, and said in words.
#[test]
fn bad_bodies_are_refused() {
    let loss = Loss::from(LossFn::CrossEntropy);
    let both = |data: &[Datum], loss: &Loss| {
        let body = body(data, loss, false);
        (body.to_protobuf().err().map(|e| e.to_string()), body.to_json().err().map(|e| e.to_string()))
    };
    let everywhere = |message: &str| (Some(message.to_owned()), Some(message.to_owned()));
    assert_eq!(both(&[], &loss), everywhere("data must not be empty"));
    let nameless = Loss::from(LossFn::Other(String::new()));
    assert_eq!(both(&[example()], &nameless), everywhere("loss_fn must not be empty"));
    let endless = LossFn::Ppo.with_config(LossFnConfig::new().set("beta", f64::INFINITY));
    let message = "loss_fn_config must hold finite numbers, but `beta` is inf";
    assert_eq!(both(&[example()], &endless), everywhere(message));
    let lonely = example().model_input_spans([ProvenanceSpan::prompt("q", 0, 3)]);
    let message = "loss_fn_input_spans must come with model_input_spans";
    assert_eq!(both(&[example(), lonely], &loss), everywhere(message));

    let pointer = ImageAssetPointerChunk {
        format: ImageFormat::Png,
        location: "tinker://i/1".to_owned(),
        expected_tokens: None,
    };
    let pointing = Datum::new(ModelInput::default().with_image_asset(pointer));
    let message = "model_input must not refer to an image asset: the protobuf form has none";
    assert_eq!(both(&[pointing], &loss), (Some(message.to_owned()), None));
    let nan = example().weights([f32::NAN; 3]);
    let message = "loss_fn_inputs must be finite in a JSON request, but `weights` is not";
    assert_eq!(both(&[nan], &loss), (None, Some(message.to_owned())));

    let data = [example()];
    let late = |seq_id| ForwardBackwardBody { seq_id, ..body(&data, &loss, false) }.to_protobuf();
    assert!(late(i32::MAX as u64).is_ok());
    assert_eq!(
        late(i32::MAX as u64 + 1).unwrap_err().to_string(),
        "seq_id must fit 31 bits, not be 2147483648"
    );
}

/// Short runs, and such as are about as long as one or two of the writer's blocks.
fn runs<T: Clone + std::fmt::Debug>(
    element: impl Strategy<Value = T> + Clone,
) -> impl Strategy<Value = Vec<T>> {
    let run = |length| prop::collection::vec(element.clone(), length);
    prop_oneof![4 => run(0..20), 1 => run(500..530), 1 => run(1020..1030)]
}

fn any_tensor() -> impl Strategy<Value = TensorData> {
    let floats = runs(any::<f32>()).prop_map(TensorData::from);
    let ints = runs(any::<i64>()).prop_map(TensorData::from);
    let scalar = any::<f32>().prop_map(TensorData::scalar_f32);
    let shapeless = prop::collection::vec(any::<i64>(), 0..4).prop_map(|v| shapeless(&v));
    let grid = (1u64..300, prop::collection::vec(any::<f32>(), 300)).prop_map(|(columns, values)| {
        TensorData::float32(&values[..columns as usize], &[1, columns, 1]).unwrap()
    });
    let sparse = prop::collection::vec((0i64..50, any::<f32>()), 0..5).prop_map(|cells| {
        let (col, values): (Vec<_>, Vec<_>) = cells.into_iter().unzip();
        let csr = CsrIndices { crow: vec![0, values.len() as i64].into(), col: col.into() };
        TensorData::sparse(TensorValues::Float32(values.into()), csr, 1, 50).unwrap()
    });
    prop_oneof![floats, ints, scalar, shapeless, grid, sparse]
}

fn any_chunk() -> impl Strategy<Value = Chunk> {
    let data = || prop::collection::vec(any::<u8>(), 1..600).prop_map(Bytes::from);
    let format = prop_oneof![
        Just(ImageFormat::Png),
        Just(ImageFormat::Jpeg),
        "[a-z]{0,4}".prop_map(ImageFormat::from)
    ];
    prop_oneof![
        runs(0i32..).prop_map(Chunk::text),
        (data(), format, prop::option::of(0u32..=i32::MAX as u32)).prop_map(
            |(data, format, expected_tokens)| Chunk::Image(ImageChunk { data, format, expected_tokens })
        ),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(|tail| {
            let dmel = [&[0, 1, 3][..], &tail].concat().into();
            Chunk::Audio(AudioChunk { dmel })
        }),
    ]
}

fn any_datum() -> impl Strategy<Value = Datum> {
    let inputs = prop::collection::btree_map("[a-zé]{0,4}", any_tensor(), 0..4);
    let spans = (any::<bool>(), 1u64..1 << 40, 0u64..1 << 40);
    (prop::collection::vec(any_chunk(), 0..4), inputs, prop::option::of(spans)).prop_map(
        |(chunks, loss_fn_inputs, spans)| {
            let mut datum = Datum { loss_fn_inputs, ..Datum::new(ModelInput::new(chunks)) };
            if let (Some((sampled, offset, more)), Some(tokens)) = (spans, datum.model_input.token_count()) {
                let span = if sampled { ProvenanceSpan::sampled } else { ProvenanceSpan::prompt };
                datum = datum
                    .model_input_spans([span("a", offset, tokens as u64), span("b", 0, 0)])
                    .loss_fn_input_spans([span("c", 0, more)]);
            }
            datum
        },
    )
}

fn any_loss() -> impl Strategy<Value = Loss> {
    let number = prop::num::f64::NORMAL | prop::num::f64::ZERO;
    let value =
        prop_oneof![number.prop_map(LossConfigValue::Number), "[a-zé]{0,4}".prop_map(LossConfigValue::Text)];
    let config = prop::collection::btree_map("[a-z]{0,3}", value, 0..4);
    ("[a-z]{1,9}", config).prop_map(|(name, config)| {
        LossFn::from(name).with_config(config.into_iter().collect::<LossFnConfig>())
    })
}

/// The same request, by way of prost's structs.
fn structs(body: &ForwardBackwardBody<'_>) -> proto::ForwardBackwardRequest {
    let chunk = |chunk: &Chunk| proto::Chunk {
        chunk: match chunk {
            Chunk::EncodedText { tokens } => {
                Some(proto::chunk::Chunk::EncodedText(proto::EncodedTextChunk {
                    tokens: tokens.to_le_bytes(),
                }))
            }
            Chunk::Image(image) => Some(proto::chunk::Chunk::Image(proto::ImageChunk {
                data: image.data.clone(),
                format: image.format.as_str().to_owned(),
                expected_tokens: image.expected_tokens.map(|n| n as i32),
                override_dimensions: None,
            })),
            Chunk::Audio(audio) => {
                Some(proto::chunk::Chunk::Dmel(proto::DmelChunk { dmel: audio.dmel.clone() }))
            }
            _ => None,
        },
    };
    let span = |span: &ProvenanceSpan| {
        let (sequence_id, offset, length) =
            (span.sequence_id().to_owned(), span.offset() as i64, span.length() as i64);
        proto::ProvenanceSpan {
            span: Some(match span {
                ProvenanceSpan::Prompt { .. } => {
                    proto::provenance_span::Span::PromptTokens(proto::PromptProvenanceSpan {
                        sequence_id,
                        offset,
                        length,
                    })
                }
                ProvenanceSpan::Sampled { .. } => {
                    proto::provenance_span::Span::SampledTokens(proto::SampledProvenanceSpan {
                        sequence_id,
                        offset,
                        length,
                    })
                }
            }),
        }
    };
    let mut request = proto::ForwardBackwardRequest {
        model_id: body.model_id.to_owned(),
        seq_id: body.seq_id as i32,
        loss_fn: body.loss.loss_fn.to_string(),
        forward_only: body.forward_only,
        ..Default::default()
    };
    for datum in body.data {
        request.data.push(proto::Datum {
            model_input: datum.model_input.chunks().iter().map(chunk).collect(),
            loss_fn_inputs: datum.loss_fn_inputs.iter().map(|(n, t)| (n.clone(), t.to_proto())).collect(),
            model_input_spans: datum.model_input_spans.iter().map(span).collect(),
            loss_fn_input_spans: datum.loss_fn_input_spans.iter().map(span).collect(),
        });
    }
    for (name, value) in body.loss.config.entries() {
        let value = match value {
            LossConfigValue::Number(number) => {
                request.loss_fn_config.insert(name.clone(), *number);
                proto::loss_config_value::Value::Number(*number)
            }
            LossConfigValue::Text(text) => proto::loss_config_value::Value::Text(text.clone()),
        };
        request.loss_fn_config_v2.insert(name.clone(), proto::LossConfigValue { value: Some(value) });
    }
    request
}

proptest! {
    /// The bytes are those prost writes, for any request, and the buffer has exactly their size.
    #[test]
    fn bodies_are_what_prost_writes(
        data in prop::collection::vec(any_datum(), 1..4),
        loss in any_loss(),
        model_id in "[a-z:]{0,12}",
        seq_id in 0u64..=i32::MAX as u64,
        forward_only in any::<bool>(),
    ) {
        let body = ForwardBackwardBody { model_id: &model_id, seq_id, data: &data, loss: &loss, forward_only };
        let expected = structs(&body);
        let written = body.to_protobuf().unwrap();
        prop_assert_eq!(&written, &expected.encode_to_vec());
        let buffer = Vec::from(written);
        prop_assert_eq!(buffer.capacity(), buffer.len());
    }
}
