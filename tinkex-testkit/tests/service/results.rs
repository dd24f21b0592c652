//! Results: their content and their encodings.

use prost::Message;
use serde_json::{Value, json};
use tinkex_testkit::model::LanguageModel;
use tinkex_types::proto;

use crate::caller::{BASE, Caller, prompt, tokens};

const PROTOBUF: &str = "application/x-protobuf";

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect()
}

fn ints(bytes: &[u8]) -> Vec<i32> {
    bytes.chunks_exact(4).map(|c| i32::from_le_bytes(c.try_into().unwrap())).collect()
}

fn int64s(bytes: &[u8]) -> Vec<i64> {
    bytes.chunks_exact(8).map(|c| i64::from_le_bytes(c.try_into().unwrap())).collect()
}

fn everything() -> Value {
    json!({
        "num_samples": 2,
        "prompt": prompt("The loss"),
        "sampling_params": { "max_tokens": 5, "seed": 42, "stop": [], "temperature": 1.5, "top_k": 50, "top_p": 0.95 },
        "prompt_logprobs": true,
        "topk_prompt_logprobs": 2,
        "topk_sample_logprobs": 3,
        "prompt_alt_tokens_k": 2,
        "target_prompt_logprobs": {
            "data": [101, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 115, 32], "dtype": "int64", "shape": [7, 2],
        },
    })
}

/// S1-03, PROTOCOL 19.1: every field of the protobuf result, checked against the model.
#[tokio::test(start_paused = true)]
async fn a_protobuf_result_holds_what_the_model_computes() {
    let caller = Caller::production().await;
    let id = caller.submit(0, everything()).await;
    let reply = caller.retrieve_with(&id, json!({}), PROTOBUF).await;
    assert_eq!(reply.headers["content-type"], PROTOBUF);
    let result = proto::SampleResponse::decode(reply.body).unwrap();
    let model = LanguageModel::named(BASE);
    let prompt = tokens("The loss");

    assert_eq!(result.sequences.len(), 2);
    assert_ne!(result.sequences[0].tokens, result.sequences[1].tokens, "each sample has its own seed");
    for sequence in &result.sequences {
        assert_eq!(sequence.stop_reason(), proto::StopReason::Length);
        let sampled = ints(&sequence.tokens);
        let logprobs = floats(sequence.logprobs.as_ref().unwrap());
        let top = sequence.topk_sampled_logprobs.as_ref().unwrap();
        assert_eq!((sampled.len(), logprobs.len(), top.k, top.length), (5, 5, 3, 5));
        let mut context = prompt.clone();
        for (index, token) in sampled.iter().enumerate() {
            let logits = model.logits(&context);
            assert_eq!(logprobs[index], logits[*token as usize]);
            let (id, value) = (ints(&top.token_ids)[index * 3], floats(&top.logprobs)[index * 3]);
            assert_eq!(value, logits[id as usize]);
            context.push(*token);
        }
    }
    let prompt_logprobs = floats(result.prompt_logprobs.as_ref().unwrap());
    assert_eq!(prompt_logprobs.len(), 8);
    assert!(prompt_logprobs[0].is_nan());
    assert_eq!(prompt_logprobs[3], model.logits(&prompt[..3])[prompt[3] as usize]);
    let top = result.topk_prompt_logprobs.unwrap();
    assert_eq!((top.k, top.length), (2, 8));
    assert_eq!((ints(&top.token_ids)[..2].to_vec(), floats(&top.logprobs)[0]), (vec![0, 0], -99_999.0));
    let targets = result.target_prompt_logprobs.unwrap();
    let Some(proto::tensor::Encoding::Dense(cells)) = &targets.encoding else { panic!("dense") };
    let cells = floats(cells);
    assert_eq!((targets.shape, targets.dtype), (vec![7, 2], i32::from(proto::DType::DtypeFloat32)));
    assert_eq!(
        (cells[0], cells[1], cells[13]),
        (model.logits(&prompt[..1])[101], 0.0, model.logits(&prompt[..7])[32])
    );
    let alternatives = result.prompt_alt_tokens.unwrap();
    let tensor = alternatives.tokens.unwrap();
    assert_eq!((tensor.shape, tensor.dtype), (vec![7, 2], i32::from(proto::DType::DtypeInt32)));
    assert_eq!(result.prompt_cache_hit_tokens, 0);
}

/// PROTOCOL 23: the JSON form holds the same numbers.
#[tokio::test(start_paused = true)]
async fn the_json_result_agrees_with_the_protobuf_one() {
    let caller = Caller::production().await;
    let id = caller.submit(0, everything()).await;
    let binary =
        proto::SampleResponse::decode(caller.retrieve_with(&id, json!({}), PROTOBUF).await.body).unwrap();
    let result = caller.retrieve(&id).await.to_json().unwrap();
    let numbers = |value: &Value| -> Vec<f32> {
        value.as_array().unwrap().iter().map(|v| v.as_f64().map_or(f32::NAN, |v| v as f32)).collect()
    };
    for (json, sequence) in result["sequences"].as_array().unwrap().iter().zip(&binary.sequences) {
        assert_eq!(json["stop_reason"], "length");
        assert_eq!(json["tokens"], json!(ints(&sequence.tokens)));
        assert_eq!(numbers(&json["logprobs"]), floats(sequence.logprobs.as_ref().unwrap()));
        assert_eq!(json["topk_logprobs"][4].as_array().unwrap().len(), 3);
    }
    assert_eq!(numbers(&result["prompt_logprobs"])[1..], floats(&binary.prompt_logprobs.unwrap())[1..]);
    assert_eq!(
        (&result["prompt_logprobs"][0], &result["topk_prompt_logprobs"][0]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(result["target_prompt_logprobs"]["shape"], json!([7, 2]));
    assert_eq!(result["prompt_alt_tokens"]["tokens"]["data"].as_array().unwrap().len(), 14);
}

/// PROTOCOL 19.2: a sparse request is answered sparsely.
#[tokio::test(start_paused = true)]
async fn sparse_targets_stay_sparse() {
    let caller = Caller::production().await;
    let tensor = json!({
        "data": [101, 115], "dtype": "int64", "shape": [3, 4],
        "sparse_crow_indices": [0, 1, 1, 2], "sparse_col_indices": [2, 0],
    });
    let body = json!({ "prompt": prompt("test"), "target_prompt_logprobs": tensor });
    let id = caller.submit(0, body).await;
    let result =
        proto::SampleResponse::decode(caller.retrieve_with(&id, json!({}), PROTOBUF).await.body).unwrap();
    let targets = result.target_prompt_logprobs.unwrap();
    let Some(proto::tensor::Encoding::SparseCsr(csr)) = &targets.encoding else { panic!("sparse") };
    let model = LanguageModel::named(BASE);
    let expected = [model.logits(&tokens("t"))[101], model.logits(&tokens("tes"))[115]];
    assert_eq!(floats(&csr.values), expected);
    assert_eq!((int64s(&csr.crow_indices), int64s(&csr.col_indices)), (vec![0, 1, 1, 2], vec![2, 0]));
    let json = caller.retrieve(&id).await.to_json().unwrap();
    assert_eq!(json["target_prompt_logprobs"]["sparse_col_indices"], json!([2, 0]));
}

/// PROTOCOL 15.2: `compute_logprobs` is a sample of one token with prompt logprobs; the last n may be asked for.
#[tokio::test(start_paused = true)]
async fn prompt_logprobs_of_the_last_positions() {
    let caller = Caller::production().await;
    let ask = json!({
        "prompt": prompt("The loss"), "prompt_logprobs": true, "prompt_logprobs_last_n": 2,
        "sampling_params": { "max_tokens": 1 },
    });
    let result = caller.sample(0, ask).await;
    let logprobs = result["prompt_logprobs"].as_array().unwrap();
    assert_eq!(logprobs.len(), 8);
    assert!(logprobs[..6].iter().all(Value::is_null) && logprobs[6..].iter().all(|v| v.as_f64() < Some(0.0)));
}

/// PROTOCOL 15.2: stop as text, list of texts, list of tokens, empty list, absent.
#[tokio::test(start_paused = true)]
async fn every_form_of_stop_is_understood() {
    let caller = Caller::production().await;
    let mut seq = 0;
    let mut run = async |stop: Value| {
        seq += 1;
        let params = json!({ "max_tokens": 2000, "seed": 3, "stop": stop });
        let result = caller.sample(seq, json!({ "sampling_params": params })).await["sequences"][0].take();
        let bytes: Vec<u8> =
            result["tokens"].as_array().unwrap().iter().map(|t| t.as_i64().unwrap() as u8).collect();
        (result["stop_reason"].as_str().unwrap().to_owned(), bytes)
    };
    let (reason, bytes) = run(json!(". ")).await;
    assert!(reason == "stop" && bytes.ends_with(b". "));
    let (reason, bytes) = run(json!(["never met", ","])).await;
    assert!(reason == "stop" && bytes.ends_with(b","));
    let (reason, bytes) = run(json!([44, 46])).await;
    assert!(reason == "stop" && (bytes.ends_with(b",") || bytes.ends_with(b".")));
    let (reason, bytes) = run(Value::Null).await;
    assert!(reason == "stop" && bytes.ends_with(b"\0"));
    let (reason, bytes) = run(json!([])).await;
    assert_eq!((reason.as_str(), bytes.len()), ("length", 2000));
}

/// FU-2, PROTOCOL 16.4: large results are announced first, where the client allows it.
#[tokio::test(start_paused = true)]
async fn a_large_result_is_announced_before_it_is_sent() {
    let caller = Caller::production().await;
    caller.service.set_metadata_threshold(100);
    let id = caller.submit(0, json!({ "num_samples": 8 })).await;
    let announced = caller.retrieve_with(&id, json!({}), PROTOBUF).await.to_json().unwrap();
    let payload = caller.retrieve_with(&id, json!({ "allow_metadata_only": false }), PROTOBUF).await;
    assert_eq!(
        announced,
        json!({ "status": "complete_metadata", "response_payload_size": payload.body.len() })
    );
    assert!(payload.body.len() > 100);
    let small = caller.submit(1, json!({})).await;
    let reply = caller.retrieve_with(&small, json!({}), PROTOBUF).await;
    assert!(reply.headers["content-type"] == PROTOBUF && reply.body.len() <= 100);
}
