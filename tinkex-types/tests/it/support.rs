//! Reading the golden files.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use tinkex_types::{SampleResponse, TensorData, TokenLogprob};

pub(crate) fn fixture(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The exchanges of a scenario, in order of arrival.
pub(crate) fn exchanges(scenario: &Value) -> Vec<Value> {
    scenario["exchanges"].as_array().cloned().unwrap_or_else(|| vec![scenario.clone()])
}

/// The body of the `n`-th request to a path.
pub(crate) fn request_body(scenario: &Value, path: &str, n: usize) -> Value {
    let all = exchanges(scenario);
    let bodies: Vec<_> = all.iter().filter(|e| e["request"]["path"] == path).collect();
    bodies[n]["request"]["body"].clone()
}

pub(crate) fn bytes(base64: &Value) -> Bytes {
    STANDARD.decode(base64.as_str().unwrap()).unwrap().into()
}

/// The first protobuf result of a scenario.
pub(crate) fn proto_result(scenario: &Value) -> Bytes {
    let all = exchanges(scenario);
    bytes(all.iter().map(|e| &e["response"]["body_base64"]).find(|body| body.is_string()).unwrap())
}

/// Numbers are compared as numbers: `1` is `1.0`.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

fn float(value: f32) -> Value {
    match value {
        v if v.is_nan() => json!("NaN"),
        f32::INFINITY => json!("Infinity"),
        f32::NEG_INFINITY => json!("-Infinity"),
        v => json!(f64::from(v)),
    }
}

/// A tensor as the golden files write it.
pub(crate) fn tensor(tensor: &TensorData) -> Value {
    let data: Vec<Value> = match (tensor.as_float32(), tensor.as_int64()) {
        (Some(values), _) => values.iter().copied().map(float).collect(),
        (_, values) => values.unwrap().iter().map(|v| json!(v)).collect(),
    };
    json!({"dtype": tensor.dtype(), "shape": tensor.shape(), "data": data})
}

fn topk(rows: &Option<Vec<Option<Vec<TokenLogprob>>>>) -> Value {
    let cell = |cell: &TokenLogprob| json!([cell.token, float(cell.logprob)]);
    let row =
        |row: &Option<Vec<TokenLogprob>>| row.as_ref().map(|row| row.iter().map(cell).collect::<Vec<_>>());
    json!(rows.as_ref().map(|rows| rows.iter().map(row).collect::<Vec<_>>()))
}

/// A sampling result as the golden files write it.
pub(crate) fn decoded(response: &SampleResponse) -> Value {
    let sequences: Vec<_> = response
        .sequences
        .iter()
        .map(|s| {
            json!({
                "stop_reason": s.stop_reason.to_string(),
                "sequence_id": s.sequence_id.as_deref(),
                "tokens": s.tokens,
                "logprobs": s.logprobs.as_ref().map(|l| l.iter().copied().map(float).collect::<Vec<_>>()),
                "topk_logprobs": topk(&s.topk_logprobs),
            })
        })
        .collect();
    let prompt = response.prompt_logprobs.as_ref();
    json!({
        "sequences": sequences,
        "prompt_logprobs": prompt.map(|l| l.iter().map(|v| v.map(float)).collect::<Vec<_>>()),
        "topk_prompt_logprobs": topk(&response.topk_prompt_logprobs),
        "target_prompt_logprobs": response.target_prompt_logprobs.as_ref().map(tensor),
        "prompt_cache_hit_tokens": response.prompt_cache_hit_tokens,
        "prompt_alt_tokens": response
            .prompt_alt_tokens
            .as_ref()
            .map(|a| json!({"tokens": tensor(&a.tokens), "logprobs": tensor(&a.logprobs)})),
    })
}
