//! Request bodies against the recorded ones (PROTOCOL 15.2, OPEN_SERVERS decision 1).

use serde_json::{Value, json};
use tinkex_types::{
    AudioChunk, Chunk, ImageAssetPointerChunk, ImageChunk, ImageFormat, ModelInput, SampleRequest,
    SamplingParams, Stop, TensorData,
};

use crate::support::{fixture, request_body, same};

const ASAMPLE: &str = "/api/v1/asample";

/// The members that may be absent while they have their default.
const DEFAULTS: [(&str, Value); 4] = [
    ("topk_prompt_logprobs", Value::Null),
    ("topk_sample_logprobs", Value::Null),
    ("prompt_alt_tokens_k", Value::Null),
    ("record_stability_info", Value::Bool(false)),
];

/// Our body, with what is absent put back as the protocol documents it.
fn body(request: &SampleRequest, seq_id: u64) -> Value {
    request.validate().unwrap();
    let body = request.body("s-0001:sample:0", seq_id);
    let mut body: Value = {
        let text: Value = serde_json::from_slice(&body.to_json().unwrap()).unwrap();
        assert_eq!(text, serde_json::to_value(&body).unwrap(), "both ways of writing a body agree");
        text
    };
    for (name, default) in DEFAULTS {
        let default = if default.is_null() { json!(0) } else { default };
        body.as_object_mut().unwrap().entry(name).or_insert(default);
    }
    body
}

#[track_caller]
fn assert_recorded(scenario: &str, request: &SampleRequest, seq_id: u64) {
    let recorded = request_body(&fixture(scenario), ASAMPLE, 0);
    let ours = body(request, seq_id);
    assert!(same(&ours, &recorded), "ours:     {ours}\nrecorded: {recorded}");
}

fn prompt(tokens: &[i32]) -> ModelInput {
    ModelInput::from_ints(tokens)
}

#[test]
fn recorded_bodies_are_ours() {
    let params = SamplingParams::new;
    assert_recorded(
        include_str!("../fixtures/asample_minimal.json"),
        &SampleRequest::new(prompt(&[1, 2, 3]), params()),
        0,
    );
    assert_recorded(
        include_str!("../fixtures/asample_all_fields.json"),
        &SampleRequest::new(
            prompt(&[1, 2, 3]),
            params().max_tokens(16).seed(42).stop(["\n\n", "END"]).temperature(0.7).top_k(50).top_p(0.9),
        )
        .num_samples(2)
        .prompt_logprobs(true)
        .topk_prompt_logprobs(2)
        .topk_sample_logprobs(2)
        .target_prompt_logprobs(TensorData::int64(vec![5, -1, 7, 8], &[2, 2]).unwrap())
        .prompt_alt_tokens_k(2)
        .prompt_logprobs_last_n(2)
        .record_stability_info(true),
        0,
    );
    assert_recorded(
        include_str!("../fixtures/compute_logprobs.json"),
        &SampleRequest::new(prompt(&[1, 2, 3]), params().max_tokens(1)).prompt_logprobs(true),
        0,
    );
    assert_recorded(
        include_str!("../fixtures/join_sampling_session.json"),
        &SampleRequest::new(prompt(&[1]), params().max_tokens(2)),
        3 * tinkex_types::SAMPLER_BLOCK,
    );
    let one = |stop: Option<Stop>| {
        SampleRequest::new(prompt(&[1]), SamplingParams { stop, max_tokens: Some(4), ..params() })
    };
    assert_recorded(include_str!("../fixtures/asample_stop_none.json"), &one(None), 0);
    assert_recorded(include_str!("../fixtures/asample_stop_string.json"), &one(Some("END".into())), 0);
    assert_recorded(
        include_str!("../fixtures/asample_stop_tokens.json"),
        &one(Some([151_643, 151_645].into())),
        0,
    );
}

#[test]
fn the_recorded_multimodal_body_is_ours() {
    let png: &[u8] = &[0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
    let prompt = prompt(&[1, 2])
        .with_image(ImageChunk { data: png.into(), format: ImageFormat::Png, expected_tokens: Some(3) })
        .with_image_asset(ImageAssetPointerChunk {
            format: ImageFormat::Jpeg,
            location: "tinker://img/1".to_owned(),
            expected_tokens: None,
        })
        .with_audio(AudioChunk { dmel: vec![0, 2, 3, 4, 7].into() });
    assert_eq!(prompt.token_count(), None, "the asset says nothing of its length");
    let request = SampleRequest::new(prompt, SamplingParams::new().max_tokens(1));
    assert_recorded(include_str!("../fixtures/asample_multimodal_prompt.json"), &request, 0);
}

/// OPEN_SERVERS, decision 1: strict servers of the older protocol see no field they do not know.
#[test]
fn newer_fields_are_absent_while_they_have_their_default() {
    let request =
        SampleRequest::new(prompt(&[1, 2]), SamplingParams::new().max_tokens(4).stop(vec!["x".to_owned()]));
    let body = serde_json::to_value(request.body("s", 0)).unwrap();
    let names: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "num_samples",
        "prompt",
        "prompt_logprobs",
        "sampling_params",
        "sampling_session_id",
        "seq_id",
        "type",
    ];
    assert_eq!(names, expected);
    assert!(!body.to_string().contains("null"), "nulls are omitted: {body}");
    // All that the older SDK sent is there, with the same values.
    let classic = request_body(&fixture(include_str!("../fixtures/classic_asample.json")), ASAMPLE, 0);
    for (name, value) in classic["sampling_params"].as_object().unwrap() {
        assert!(same(&body["sampling_params"][name], value), "{name}");
    }
    assert_eq!(body["prompt"]["chunks"][0]["tokens"], classic["prompt"]["chunks"][0]["tokens"]);
}

/// `stop`: absent is the end of sequence, the empty list is never; every form comes back as it was.
#[test]
fn every_form_of_stop() {
    for (stop, json) in [
        (Stop::never(), json!([])),
        (Stop::from("a"), json!("a")),
        (Stop::from("a".to_owned()), json!("a")),
        (Stop::from(["a", "b"]), json!(["a", "b"])),
        (Stop::from(vec!["a".to_owned()]), json!(["a"])),
        (Stop::from([1, 2]), json!([1, 2])),
        (Stop::from(vec![1]), json!([1])),
    ] {
        let params = SamplingParams::new().stop(stop);
        let sent = serde_json::to_value(&params).unwrap();
        assert_eq!(sent["stop"], json);
        assert_eq!(serde_json::from_value::<SamplingParams>(sent).unwrap(), params);
    }
    let params: SamplingParams = serde_json::from_value(json!({})).unwrap();
    assert_eq!(params, SamplingParams::default());
    assert!(serde_json::to_value(&params).unwrap().get("stop").is_none());
}

/// A seed and a sequence id keep all their digits; text is not escaped beyond what JSON demands.
#[test]
fn numbers_and_text_are_sent_whole() {
    let request =
        SampleRequest::new(prompt(&[i32::MAX]), SamplingParams::new().seed(u64::MAX).stop("Grüß\n"));
    let text = serde_json::to_string(&request.body("s", (1 << 62) + 1)).unwrap();
    assert!(
        text.contains("\"seed\":18446744073709551615") && text.contains("\"seq_id\":4611686018427387905")
    );
    assert!(text.contains("\"stop\":\"Grüß\\n\"") && !text.contains(": "), "{text}");
}

/// Prompts read back as they were written, chunk by chunk.
#[test]
fn prompts_come_back() {
    let recorded =
        request_body(&fixture(include_str!("../fixtures/asample_multimodal_prompt.json")), ASAMPLE, 0);
    let prompt: ModelInput = serde_json::from_value(recorded["prompt"].clone()).unwrap();
    assert_eq!(prompt.chunks().len(), 4);
    assert_eq!(prompt.tokens().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(prompt.chunks()[1].token_count(), Some(3));
    assert_eq!(serde_json::to_value(&prompt).unwrap(), recorded["prompt"]);
    let other = json!({"format": "webp", "location": "x", "type": "image_asset_pointer"});
    let chunk: Chunk = serde_json::from_value(other.clone()).unwrap();
    assert_eq!(serde_json::to_value(&chunk).unwrap(), other, "a format of the future is kept");
}
