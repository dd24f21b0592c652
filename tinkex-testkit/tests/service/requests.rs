//! What `asample` takes and refuses, and how it tells repeated requests.

use serde_json::{Value, json};
use tinkex_testkit::Received;
use tinkex_testkit::service::ServiceOptions;

use crate::caller::{Caller, prompt, refusal, text};

/// S1-10: bad requests are refused at once, with a reason that names the field.
#[tokio::test(start_paused = true)]
async fn bad_requests_are_refused_and_leave_no_trace() {
    let caller = Caller::production().await;
    let image = |positions: i64| json!({ "chunks": [{ "data": "AA==", "format": "png", "expected_tokens": positions }] });
    let target = |shape: Value, data: Value, dtype: &str| json!({ "target_prompt_logprobs": { "data": data, "dtype": dtype, "shape": shape } });
    let cases: Vec<(Value, u16, &str)> = vec![
        (json!({ "prompt": { "chunks": [] } }), 400, "prompt"),
        (json!({ "prompt": prompt("") }), 400, "prompt"),
        (json!({ "prompt": { "chunks": [{ "type": "encoded_text" }] } }), 422, "chunk"),
        (json!({ "prompt": image(-1) }), 400, "expected_tokens"),
        (json!({ "prompt": image(1 << 40) }), 400, "expected_tokens"),
        (json!({ "prompt": null }), 422, "prompt"),
        (json!({ "prompt": "text" }), 422, "cannot be read"),
        (json!({ "num_samples": 0 }), 400, "num_samples"),
        (json!({ "num_samples": 100_000 }), 400, "num_samples"),
        (json!({ "sampling_params": { "max_tokens": 0 } }), 400, "max_tokens"),
        (json!({ "sampling_params": { "max_tokens": 65_536 } }), 400, "context of 65536"),
        (json!({ "sampling_params": { "temperature": -0.1 } }), 400, "temperature"),
        (json!({ "sampling_params": { "top_p": 0.0 } }), 400, "top_p"),
        (json!({ "sampling_params": { "top_p": 1.1 } }), 400, "top_p"),
        (json!({ "sampling_params": { "top_k": -2 } }), 400, "top_k"),
        (json!({ "sampling_params": { "stop": 5 } }), 422, "cannot be read"),
        (json!({ "topk_prompt_logprobs": -1 }), 400, "topk_prompt_logprobs"),
        (json!({ "topk_sample_logprobs": 256 }), 400, "topk_sample_logprobs"),
        (json!({ "prompt_alt_tokens_k": -1 }), 400, "prompt_alt_tokens_k"),
        (json!({ "prompt_logprobs_last_n": 2 }), 400, "needs prompt_logprobs"),
        (json!({ "prompt_logprobs_last_n": 0, "prompt_logprobs": true }), 400, "from 1 to 9"),
        (json!({ "prompt_logprobs_last_n": 10, "prompt_logprobs": true }), 400, "from 1 to 9"),
        (
            json!({ "topk_prompt_logprobs": 255, "prompt": image(40_000) }),
            400,
            "255 answers for each of 40000",
        ),
        (target(json!([10, 1]), json!([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), "int64"), 400, "[9, K]"),
        (target(json!([9]), json!([1, 2, 3, 4, 5, 6, 7, 8, 9]), "int64"), 400, "[9, K]"),
        (target(json!([9, 1]), json!([1, 2]), "int64"), 400, "do not fill"),
        (target(json!([9, 1]), json!([1, 2, 3, 4, 5, 6, 7, 8, 9]), "float32"), 400, "dtype"),
        (json!({ "sampling_session_id": "none" }), 404, "none"),
        (json!({ "sampling_session_id": null }), 422, "sampling_session_id"),
        (json!({ "seq_id": -1 }), 422, "cannot be read"),
    ];
    for (changes, status, part) in cases {
        let (got, detail) = refusal(&caller.asample(0, changes.clone()).await);
        assert!(got == status && detail.contains(part), "{changes}: {got} {detail}");
    }
    assert_eq!(caller.send(Received::post("asample", &json!([]))).await.status, 422);
    let broken = Received::post("asample", &json!({})).with_header("content-encoding", "gzip");
    assert_eq!(caller.send(broken).await.status, 400);
    assert_eq!((caller.service.samples_accepted(), caller.service.seq_ids(&caller.sampler)), (0, vec![]));
    caller.submit(0, json!({})).await;
}

#[tokio::test(start_paused = true)]
async fn the_context_bounds_prompt_and_tokens_together() {
    let options =
        ServiceOptions { max_context_length: 12, default_max_tokens: 5, ..ServiceOptions::default() };
    let caller = Caller::with_options(options).await;
    let ask = |text: &str, max: Value| json!({ "prompt": prompt(text), "sampling_params": { "max_tokens": max, "stop": [] } });
    let length =
        async |seq, body| caller.sample(seq, body).await["sequences"][0]["tokens"].as_array().unwrap().len();
    assert_eq!(length(0, ask("123456", json!(6))).await, 6);
    assert_eq!(refusal(&caller.asample(1, ask("123456", json!(7))).await).0, 400);
    assert_eq!(length(2, ask("123456", Value::Null)).await, 5, "the default");
    assert_eq!(length(3, ask("1234567890", Value::Null)).await, 2, "what is left of the context");
    assert_eq!(refusal(&caller.asample(4, ask("123456789012", Value::Null)).await).0, 400);
}

/// PROTOCOL 15.2, 23: pictures and sounds stand for positions; the type of a chunk may be missing.
#[tokio::test(start_paused = true)]
async fn every_kind_of_chunk_is_taken() {
    let caller = Caller::production().await;
    let chunks = json!({ "chunks": [
        { "tokens": [65, 66] },
        { "data": "iVBORw0KGgo=", "format": "png", "expected_tokens": 3, "type": "image" },
        { "format": "jpeg", "location": "tinker://img/1", "type": "image_asset_pointer" },
        { "dmel": "AAIDBAc=", "type": "dmel" },
    ] });
    let result = caller.sample(0, json!({ "prompt": chunks, "prompt_logprobs": true })).await;
    assert_eq!(result["prompt_logprobs"].as_array().unwrap().len(), 2 + 3 + 1 + 1);
}

/// S1-05, F-14, PROTOCOL 22: one logical request, one promise.
#[tokio::test(start_paused = true)]
async fn a_repeated_request_gets_the_same_promise_and_a_changed_one_is_a_conflict() {
    let caller = Caller::production().await;
    let first = caller.asample(7, json!({})).await;
    let again = caller.asample(7, json!({})).await;
    assert_eq!(first.to_json(), again.to_json());
    assert_eq!(caller.service.samples_accepted(), 1);
    let (status, detail) = refusal(&caller.asample(7, json!({ "num_samples": 2 })).await);
    assert!(status == 409 && detail.contains("seq_id 7"), "{detail}");
    assert_ne!(
        text(&caller.asample(3, json!({})).await, "request_id"),
        text(&first, "request_id"),
        "gaps and disorder are fine"
    );
    assert_eq!(caller.service.seq_ids(&caller.sampler), [7, 3]);
    caller.retrieve(&text(&first, "request_id")).await;
    assert_eq!(
        caller.asample(7, json!({})).await.to_json(),
        first.to_json(),
        "also after the result was fetched"
    );
}

#[tokio::test(start_paused = true)]
async fn the_same_number_on_two_samplers_is_two_samples() {
    let caller = Caller::production().await;
    let path = caller.service.checkpoints()[0].clone();
    let other = text(&caller.create_sampler(1, json!({ "model_path": path })).await, "sampling_session_id");
    let long = json!({ "sampling_params": { "max_tokens": 60, "stop": [], "seed": 5 } });
    let mut on_other = long.clone();
    on_other["sampling_session_id"] = json!(other);
    let (a, b) = (caller.sample(0, long).await, caller.sample(0, on_other).await);
    assert_eq!(caller.service.samples_accepted(), 2);
    assert_ne!(a["sequences"][0]["logprobs"], b["sequences"][0]["logprobs"], "another model");
}
