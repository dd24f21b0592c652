//! From a payload to a checked result (PROTOCOL 15.5).

use std::sync::Arc;

use tinkex_future::{Payload, PayloadEncoding};
use tinkex_types::{DecodeError, SampleRequest, SampleResponse};

/// What a result is checked against.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Expectations {
    prompt_tokens: Option<usize>,
    prompt_logprobs: bool,
    alternatives: bool,
    last_n: Option<u32>,
}

impl Expectations {
    pub(crate) fn of(request: &SampleRequest) -> Self {
        Self {
            prompt_tokens: request.prompt.token_count(),
            prompt_logprobs: request.prompt_logprobs,
            alternatives: request.prompt_alt_tokens_k > 0,
            last_n: request.prompt_logprobs_last_n,
        }
    }
}

/// Decodes by the payload's own encoding, whatever was asked for, repairs what open servers leave out, and refuses
/// results of servers that ignored an option.
pub(crate) fn read(
    payload: &Payload,
    sequence_ids: Option<&[String]>,
    expectations: &Expectations,
) -> Result<SampleResponse, DecodeError> {
    let mut response = match payload.encoding {
        PayloadEncoding::Protobuf => SampleResponse::from_proto(payload.body.clone())?,
        _ => SampleResponse::from_json(&payload.body)?,
    };
    if expectations.alternatives && response.prompt_alt_tokens.is_none() {
        return Err(ignored("prompt_alt_tokens_k"));
    }
    if expectations.prompt_logprobs && response.prompt_logprobs.is_none() {
        // Nothing can be said of the first token, so a server that leaves it out has nothing to send for a prompt of
        // one token.
        if expectations.prompt_tokens != Some(1) {
            return Err(ignored("prompt_logprobs"));
        }
        response.prompt_logprobs = Some(vec![None]);
    }
    if let Some(tokens) = expectations.prompt_tokens {
        response.align_prompt_logprobs(tokens);
    }
    if let (Some(last_n), Some(logprobs)) = (expectations.last_n, &response.prompt_logprobs) {
        let before = logprobs.len().saturating_sub(last_n as usize);
        if logprobs[..before].iter().any(Option::is_some) {
            return Err(ignored("prompt_logprobs_last_n"));
        }
    }
    match sequence_ids {
        Some(ids) if ids.len() == response.sequences.len() => {
            for (sequence, id) in response.sequences.iter_mut().zip(ids) {
                sequence.sequence_id = Some(Arc::from(id.as_str()));
            }
        }
        Some(ids) => tracing::warn!(
            "the server promised {} sequence ids and returned {} sequences; the ids are left out",
            ids.len(),
            response.sequences.len()
        ),
        None => {}
    }
    Ok(response)
}

fn ignored(option: &'static str) -> DecodeError {
    DecodeError::new("sample response", format!("the server ignored {option}; it may be too old for it"))
}
