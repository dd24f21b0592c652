//! Sampling results, from protobuf and from JSON (PROTOCOL 19.1, S1-03).

use prost::Message as _;
use serde_json::{Value, json};
use tinkex_types::{SampleResponse, StopReason, TokenLogprob, proto};

use crate::support::{bytes, decoded, exchanges, fixture, proto_result};

/// Golden vector `proto_decode`, the sampling cases. Two differences, both wanted: a stop reason this version does not
/// know is kept instead of failing the result (open enums), and bfloat16 in a tensor is widened as it should be, which
/// the reference SDK gets wrong.
#[test]
fn protobuf_results_decode_like_the_reference_sdk() {
    let vector = fixture(include_str!("../fixtures/proto_decode.json"));
    let cases = vector["cases"].as_array().unwrap();
    let sampling: Vec<_> = cases.iter().filter(|c| c["message"] == "tinker_public.SampleResponse").collect();
    assert_eq!(sampling.len(), 8);
    for case in sampling {
        let result = SampleResponse::from_proto(bytes(&case["bytes_base64"]));
        match case["name"].as_str().unwrap() {
            "sample_unknown_stop_reason" => {
                assert_eq!(result.unwrap().sequences[0].stop_reason, StopReason::Other("5".to_owned()));
            }
            "sample_target_tensor_bf16_quirk" => {
                let tensor = result.unwrap().target_prompt_logprobs.unwrap();
                assert_eq!(tensor.as_float32(), Some(&[-0.5, 1.0][..]));
                assert_eq!(tensor.shape(), Some(&[1, 2][..]));
            }
            name if case.get("error").is_some() => {
                let error = result.unwrap_err().to_string();
                let expected = match name {
                    "sample_tokens_not_multiple_of_4" => {
                        "cannot read tokens: 3 bytes are not whole int32 values"
                    }
                    "sample_topk_short_buffer" => {
                        "cannot read top-k logprobs: 2 rows of 2 cells need 4 of each, have 3 ids and 4 logprobs"
                    }
                    other => panic!("a new case: {other}"),
                };
                assert_eq!(error, expected);
            }
            name => assert_eq!(decoded(&result.unwrap()), case["decoded"], "{name}"),
        }
    }
}

/// Golden scenarios: the results as the caller gets them, once the sequence ids of the promise are attached.
#[test]
fn recorded_results_decode_to_what_the_caller_got() {
    for text in [
        include_str!("../fixtures/asample_minimal.json"),
        include_str!("../fixtures/asample_all_fields.json"),
        include_str!("../fixtures/asample_multimodal_prompt.json"),
        include_str!("../fixtures/join_sampling_session.json"),
        include_str!("../fixtures/retrieve_futures_flow.json"),
        include_str!("../fixtures/retrieve_future_complete_metadata.json"),
    ] {
        let scenario = fixture(text);
        let mut response = SampleResponse::from_proto(proto_result(&scenario)).unwrap();
        for (n, sequence) in response.sequences.iter_mut().enumerate() {
            let recorded = scenario["decoded"]["sequences"][n]["sequence_id"].as_str();
            sequence.sequence_id = recorded.map(Into::into);
        }
        assert_eq!(decoded(&response), scenario["decoded"], "{}", scenario["name"]);
    }
    let scenario = fixture(include_str!("../fixtures/compute_logprobs.json"));
    let response = SampleResponse::from_proto(proto_result(&scenario)).unwrap();
    assert_eq!(decoded(&response)["prompt_logprobs"], scenario["decoded"]);
}

/// The JSON form of every golden result reads as the same value as the protobuf form.
#[test]
fn json_and_protobuf_results_are_equal() {
    for text in [
        include_str!("../fixtures/asample_minimal.json"),
        include_str!("../fixtures/asample_all_fields.json"),
        include_str!("../fixtures/join_sampling_session.json"),
    ] {
        let scenario = fixture(text);
        let from_proto = SampleResponse::from_proto(proto_result(&scenario)).unwrap();
        let json = scenario["decoded"].to_string();
        let from_json = SampleResponse::from_json(json.as_bytes()).unwrap();
        assert_eq!(from_json, from_proto, "{}", scenario["name"]);
    }
}

/// PROTOCOL 19.1: surplus cells are ignored, missing ones are an error, and no rows or no columns are none.
#[test]
fn topk_buffers_are_measured() {
    let packed = |n: usize| -> bytes::Bytes { (1..=n).flat_map(|i| (i as i32).to_le_bytes()).collect() };
    let read = |ids: usize, logprobs: usize, k: u32, length: u32| {
        let topk = proto::TopkLogprobs { token_ids: packed(ids), logprobs: packed(logprobs), k, length };
        let message = proto::SampleResponse { topk_prompt_logprobs: Some(topk), ..Default::default() };
        SampleResponse::from_proto(message.encode_to_vec().into())
            .map(|response| response.topk_prompt_logprobs)
    };
    for (ids, logprobs) in [(4, 4), (9, 4), (4, 9), (7, 8)] {
        let rows = read(ids, logprobs, 2, 2).unwrap().unwrap();
        let tokens: Vec<_> = rows
            .iter()
            .map(|row| row.as_ref().unwrap().iter().map(|c| c.token).collect::<Vec<_>>())
            .collect();
        assert_eq!(tokens, [vec![1, 2], vec![3, 4]], "{ids} {logprobs}");
    }
    assert_eq!(read(4, 4, 0, 2).unwrap(), None);
    assert_eq!(read(4, 4, 2, 0).unwrap(), None);
    for (ids, logprobs, k, length) in [(3, 4, 2, 2), (4, 3, 2, 2), (0, 0, 1, 1), (4, 4, u32::MAX, u32::MAX)] {
        assert!(read(ids, logprobs, k, length).is_err(), "{ids} {logprobs}");
    }
}

/// The recorded result of the older JSON protocol.
#[test]
fn reads_results_of_the_older_protocol() {
    let scenario = fixture(include_str!("../fixtures/classic_asample.json"));
    let body = exchanges(&scenario).last().unwrap()["response"]["body"].to_string();
    let response = SampleResponse::from_json(body.as_bytes()).unwrap();
    assert_eq!(response.sequences[0].tokens, [1, 2][..]);
    assert_eq!(response.sequences[0].logprobs.as_deref(), Some(&[-0.5, -1.0][..]));
    assert_eq!((response.prompt_logprobs, response.topk_prompt_logprobs), (None, None));
}

fn read(json: &Value) -> SampleResponse {
    SampleResponse::from_json(json.to_string().as_bytes()).unwrap_or_else(|e| panic!("{json}: {e}"))
}

const fn cell(token: i32, logprob: f32) -> TokenLogprob {
    TokenLogprob { token, logprob }
}

/// S1-03: the body of the requirement, word for word.
#[test]
fn reads_the_body_of_the_requirement() {
    let response = read(&json!({
        "sequences": [{"tokens": [10, 11, 12], "logprobs": [-0.1, -0.2], "stop_reason": "length"}],
        "prompt_logprobs": [-0.05],
        "topk_prompt_logprobs": [[[42, -0.3]]],
    }));
    assert_eq!(response.sequences[0].tokens, [10, 11, 12][..]);
    assert_eq!(response.sequences[0].logprobs.as_deref(), Some(&[-0.1, -0.2][..]));
    assert_eq!(response.sequences[0].stop_reason, StopReason::Length);
    assert_eq!(response.prompt_logprobs, Some(vec![Some(-0.05)]));
    assert_eq!(response.topk_prompt_logprobs, Some(vec![Some(vec![cell(42, -0.3)])]));
}

/// S1-03: null entries at every level, both shapes of a cell, in one list.
#[test]
fn reads_every_shape_of_topk() {
    let rows = json!([null, [[42, -0.3], {"token_id": 7, "logprob": -1}], [null, [1, -2], null], []]);
    let response = read(&json!({
        "sequences": [{"tokens": [1], "topk_logprobs": rows}],
        "topk_prompt_logprobs": rows,
    }));
    let expected =
        Some(vec![None, Some(vec![cell(42, -0.3), cell(7, -1.0)]), Some(vec![cell(1, -2.0)]), Some(vec![])]);
    assert_eq!(response.topk_prompt_logprobs, expected);
    assert_eq!(response.sequences[0].topk_logprobs, expected);
}

/// What is missing, null, empty, new or mistyped where that does no harm is tolerated.
#[test]
fn tolerates_what_servers_leave_out() {
    let response = read(&json!({
        "type": "sample",
        "new": {"x": 1},
        "sequences": [
            {"tokens": [], "logprobs": null, "stop_reason": null, "topk_logprobs": null, "new": 1},
            {"tokens": [1, 2], "logprobs": [-1.0, null], "stop_reason": "content_filter", "topk_logprobs": []},
            {"tokens": [1], "logprobs": []},
        ],
        "prompt_logprobs": [null, -0.5],
        "topk_prompt_logprobs": [],
        "prompt_cache_hit_tokens": null,
        "target_prompt_logprobs": null,
        "prompt_alt_tokens": null,
    }));
    assert_eq!(response.sequences[0].stop_reason, StopReason::Stop);
    assert_eq!(response.sequences[1].stop_reason, StopReason::Other("content_filter".to_owned()));
    let logprobs = response.sequences[1].logprobs.as_ref().unwrap();
    assert!(logprobs[0] == -1.0 && logprobs[1].is_nan());
    assert_eq!((&response.sequences[1].topk_logprobs, &response.sequences[2].logprobs), (&None, &None));
    assert_eq!(response.prompt_logprobs, Some(vec![None, Some(-0.5)]));
    assert_eq!((response.topk_prompt_logprobs, response.prompt_cache_hit_tokens), (None, 0));
    assert_eq!(read(&json!({"sequences": [], "prompt_logprobs": []})).prompt_logprobs, None);
    assert_eq!(read(&json!({"sequences": [], "prompt_cache_hit_tokens": -1})).prompt_cache_hit_tokens, 0);
}

/// What is no result is an error, never a panic.
#[test]
fn refuses_what_is_no_result() {
    for text in [
        "",
        "null",
        "[]",
        "{}",
        "{\"sequences\": null}",
        "{\"sequences\": [{}]}",
        "{\"sequences\": [{\"tokens\": [1.5]}]}",
        "{\"sequences\": [{\"tokens\": [4294967296]}]}",
        "{\"sequences\": [{\"tokens\": null}]}",
        "<html>",
        "{\"sequences\": [], \"topk_prompt_logprobs\": [[[1]]]}",
    ] {
        let error = SampleResponse::from_json(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("cannot read sample response: "), "{text}: {error}");
    }
    assert!(SampleResponse::from_proto(bytes::Bytes::from_static(b"{\"sequences\": []}")).is_err());
}

/// OPEN_SERVERS, row 12: one entry per prompt token, the first being none; what was sent stays reachable.
#[test]
fn prompt_logprobs_are_aligned() {
    for (sent, tokens, aligned) in [
        (json!([null, -0.5, -1.0]), 3, vec![None, Some(-0.5), Some(-1.0)]),
        (json!([-0.5, -1.0]), 3, vec![None, Some(-0.5), Some(-1.0)]),
        (json!([0.0, -0.5, -1.0]), 3, vec![None, Some(-0.5), Some(-1.0)]),
        // Of a length that says nothing: left alone.
        (json!([-0.5]), 3, vec![Some(-0.5)]),
    ] {
        let mut response = read(&json!({"sequences": [], "prompt_logprobs": sent}));
        let raw = response.prompt_logprobs.clone();
        for _ in 0..2 {
            response.align_prompt_logprobs(tokens);
            assert_eq!(response.prompt_logprobs.as_ref(), Some(&aligned));
            assert_eq!(response.raw_prompt_logprobs(), raw.as_deref(), "also after a second time");
        }
    }
    let mut none = SampleResponse::default();
    none.align_prompt_logprobs(3);
    assert_eq!((none.prompt_logprobs.clone(), none.raw_prompt_logprobs()), (None, None));
}
