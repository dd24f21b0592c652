//! Results and errors in the form in which the scenarios hold them.

use serde_json::{Value, json};
use tinkex_client::{
    Error, ErrorKind, ForwardBackwardOutput, PromptAltTokens, SampleResponse, SampledSequence, StopReason,
    TensorData, TensorValues, TokenLogprob,
};

/// A float32 as the nearest double, and what JSON lacks as text.
pub(super) fn float(value: f32) -> Value {
    let value = f64::from(value);
    if value.is_finite() {
        json!(value)
    } else if value.is_nan() {
        json!("NaN")
    } else if value > 0.0 {
        json!("Infinity")
    } else {
        json!("-Infinity")
    }
}

pub(super) fn logprobs(values: &[Option<f32>]) -> Value {
    values.iter().map(|value| value.map_or(Value::Null, float)).collect()
}

pub(super) fn response(response: &SampleResponse) -> Value {
    json!({
        "sequences": response.sequences.iter().map(sequence).collect::<Vec<_>>(),
        "prompt_logprobs": response.prompt_logprobs.as_deref().map(logprobs),
        "topk_prompt_logprobs": response.topk_prompt_logprobs.as_deref().map(topk),
        "target_prompt_logprobs": response.target_prompt_logprobs.as_ref().map(tensor),
        "prompt_cache_hit_tokens": response.prompt_cache_hit_tokens,
        "prompt_alt_tokens": response.prompt_alt_tokens.as_ref().map(alternatives),
    })
}

fn sequence(sequence: &SampledSequence) -> Value {
    let stop_reason = match &sequence.stop_reason {
        StopReason::Stop => "stop",
        StopReason::Length => "length",
        StopReason::Other(text) => text,
        _ => "not known to this test",
    };
    json!({
        "stop_reason": stop_reason,
        "sequence_id": sequence.sequence_id.as_deref(),
        "tokens": sequence.tokens.as_slice(),
        "logprobs": sequence.logprobs.as_deref().map(|l| l.iter().copied().map(float).collect::<Vec<_>>()),
        "topk_logprobs": sequence.topk_logprobs.as_deref().map(topk),
    })
}

fn topk(rows: &[Option<Vec<TokenLogprob>>]) -> Value {
    let row = |row: &Vec<TokenLogprob>| -> Value {
        row.iter().map(|cell| json!([cell.token, float(cell.logprob)])).collect()
    };
    rows.iter().map(|cells| cells.as_ref().map_or(Value::Null, row)).collect()
}

pub(super) fn output(output: &ForwardBackwardOutput) -> Value {
    let outputs = output.loss_fn_outputs.iter();
    let outputs: Vec<Value> = outputs
        .map(|output| output.iter().map(|(name, value)| (name.to_owned(), tensor(value))).collect())
        .collect();
    json!({
        "loss_fn_output_type": output.loss_fn_output_type,
        "loss_fn_outputs": outputs,
        "metrics": output.metrics,
    })
}

fn tensor(tensor: &TensorData) -> Value {
    let (dtype, data): (_, Value) = match tensor.values() {
        TensorValues::Float32(values) => ("float32", values.iter().copied().map(float).collect()),
        TensorValues::Int64(values) => ("int64", values.iter().copied().map(Value::from).collect()),
    };
    json!({ "dtype": dtype, "shape": tensor.shape(), "data": data })
}

fn alternatives(alternatives: &PromptAltTokens) -> Value {
    json!({ "tokens": tensor(&alternatives.tokens), "logprobs": tensor(&alternatives.logprobs) })
}

/// What is compared of an error: its kind, the server's status, and for a failed promise category and id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    pub(super) status: Option<u16>,
    pub(super) category: Option<String>,
    pub(super) request_id: Option<String>,
}

impl Failure {
    /// What came out.
    pub(super) fn of(error: &Error) -> Self {
        let failed = error.kind() == ErrorKind::RequestFailed;
        Self {
            kind: error.kind(),
            status: error.status(),
            category: failed.then(|| error.category().as_str().to_owned()),
            request_id: failed.then(|| error.request_id().unwrap_or_default().to_owned()),
        }
    }

    /// What the reference SDK raised, in this client's kinds.
    pub(super) fn recorded(error: &Value) -> Self {
        let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
        let class = text("cause_type").or_else(|| text("error_type")).unwrap_or_default();
        let status = match class.as_str() {
            "BadRequestError" => Some(400),
            "AuthenticationError" => Some(401),
            "PermissionDeniedError" => Some(403),
            "NotFoundError" => Some(404),
            "ConflictError" => Some(409),
            "UnprocessableEntityError" => Some(422),
            _ => None,
        };
        let kind = match class.as_str() {
            "RequestFailedError" => ErrorKind::RequestFailed,
            _ => ErrorKind::Status,
        };
        Self { kind, status, category: text("category"), request_id: text("request_id") }
    }
}
