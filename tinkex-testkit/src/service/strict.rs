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

const CREATE_MODEL: &[&str] =
    &["session_id", "model_seq_id", "base_model", "user_metadata", "lora_config", "type"];
const LORA_CONFIG: &[&str] = &["rank", "seed", "train_unembed", "train_mlp", "train_attn"];
const MODEL: &[&str] = &["model_id", "type"];
const OPTIM_STEP: &[&str] = &["model_id", "seq_id", "adam_params", "type"];
const SAVE_WEIGHTS: &[&str] = &["model_id", "seq_id", "path", "ttl_seconds", "type"];
const SAVE_FOR_SAMPLER: &[&str] =
    &["model_id", "seq_id", "path", "sampling_session_seq_id", "ttl_seconds", "type"];
const LOAD_WEIGHTS: &[&str] = &["model_id", "seq_id", "path", "optimizer", "type"];
const WEIGHTS_INFO: &[&str] = &["tinker_path", "type"];

/// The first field of a request that the base protocol does not have. None for routes without a list.
pub(crate) fn unknown_field(route: &str, body: &Value) -> Option<String> {
    let known = match route {
        "create_session" => CREATE_SESSION,
        "session_heartbeat" => SESSION_HEARTBEAT,
        "create_sampling_session" => CREATE_SAMPLING_SESSION,
        "asample" => SAMPLE,
        "create_model" => CREATE_MODEL,
        "get_info" | "unload_model" => MODEL,
        "optim_step" => OPTIM_STEP,
        "save_weights" => SAVE_WEIGHTS,
        "save_weights_for_sampler" => SAVE_FOR_SAMPLER,
        "load_weights" => LOAD_WEIGHTS,
        "weights_info" => WEIGHTS_INFO,
        "retrieve_future" => RETRIEVE,
        _ => return None,
    };
    let nested = || {
        let (member, known) = match route {
            "asample" => ("sampling_params", SAMPLING_PARAMS),
            "create_model" => ("lora_config", LORA_CONFIG),
            _ => return None,
        };
        stranger(body.get(member)?, known).map(|field| format!("{member}.{field}"))
    };
    stranger(body, known).map(str::to_owned).or_else(nested)
}

fn stranger<'a>(object: &'a Value, known: &[&str]) -> Option<&'a str> {
    object.as_object()?.keys().map(String::as_str).find(|key| !known.contains(key))
}
