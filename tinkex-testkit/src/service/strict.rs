//! Which request fields the base protocol has: a strict server refuses all others, whatever their value.

use serde_json::Value;

const CREATE_SESSION: &[&str] = &["tags", "user_metadata", "sdk_version", "project_id", "type"];
const SESSION_HEARTBEAT: &[&str] = &["session_id", "type"];
const CREATE_SAMPLING_SESSION: &[&str] =
    &["session_id", "sampling_session_seq_id", "base_model", "model_path", "type"];
const SAMPLE: &[&str] = &[
    "num_samples",
    "prompt",
    "sampling_params",
    "base_model",
    "model_path",
    "sampling_session_id",
    "seq_id",
    "prompt_logprobs",
    "topk_prompt_logprobs",
    "type",
];
const SAMPLING_PARAMS: &[&str] = &["max_tokens", "seed", "stop", "temperature", "top_k", "top_p"];
const RETRIEVE: &[&str] = &["request_id", "allow_metadata_only", "type"];

/// The first field of a request that the base protocol does not have. None for routes without a list.
pub(crate) fn unknown_field(route: &str, body: &Value) -> Option<String> {
    let known = match route {
        "create_session" => CREATE_SESSION,
        "session_heartbeat" => SESSION_HEARTBEAT,
        "create_sampling_session" => CREATE_SAMPLING_SESSION,
        "asample" => SAMPLE,
        "retrieve_future" => RETRIEVE,
        _ => return None,
    };
    let params = || {
        let params = body.get("sampling_params").filter(|_| route == "asample")?;
        stranger(params, SAMPLING_PARAMS).map(|field| format!("sampling_params.{field}"))
    };
    stranger(body, known).map(str::to_owned).or_else(params)
}

fn stranger<'a>(object: &'a Value, known: &[&str]) -> Option<&'a str> {
    object.as_object()?.keys().map(String::as_str).find(|key| !known.contains(key))
}
