//! What the exchanges mean: every body is read by the type it belongs to.

use std::collections::BTreeMap;
use std::error::Error;

use serde::Deserialize as _;
use serde_json::Value;
use tinkex_types::{
    ClientConfig, CreateSamplingSessionResponse, CreateSessionResponse, ErrorCategory, ForwardBackwardOutput,
    ModelInput, OptimStepResult, Promise, QueueState, SampleResponse,
};

use super::recording::{Exchange, Recording};

/// Numbers of the whole, for the end.
#[derive(Default)]
struct Totals {
    exchanges: u32,
    prompt_tokens: usize,
    sampled_tokens: BTreeMap<String, usize>,
    pauses: u32,
}

/// A line for each exchange, and the totals.
pub(crate) fn tell(recordings: &[Recording]) -> Result<String, Box<dyn Error>> {
    let (mut lines, mut totals) = (Vec::new(), Totals::default());
    for recording in recordings {
        lines.push(recording.description().to_owned());
        for exchange in recording.exchanges() {
            totals.exchanges += 1;
            let meaning = meaning(&exchange, &mut totals)?;
            lines.push(format!("  {:>3} {:<28} {meaning}", exchange.status(), exchange.route()));
        }
    }
    let Totals { exchanges, prompt_tokens, sampled_tokens, pauses } = totals;
    lines.push(format!("\n{exchanges} exchanges, {pauses} of them polls of a paused queue."));
    lines.push(format!("{prompt_tokens} tokens of prompts."));
    for (why, tokens) in sampled_tokens {
        lines.push(format!("{tokens} tokens were sampled in sequences that ended by: {why}"));
    }
    Ok(lines.join("\n"))
}

fn meaning(exchange: &Exchange<'_>, totals: &mut Totals) -> Result<String, Box<dyn Error>> {
    let answer = exchange.answer();
    if exchange.route() == "retrieve_future" {
        return polled(exchange, totals);
    }
    if exchange.status() >= 300 {
        let status = u16::try_from(exchange.status())?;
        return Ok(format!("refused; at fault: {} ({answer})", ErrorCategory::of_status(status)));
    }
    Ok(match exchange.route() {
        "client/config" => {
            let flags = serde_json::to_value(ClientConfig::deserialize(answer)?)?;
            let usual = serde_json::to_value(ClientConfig::default())?;
            let other =
                flags.as_object().into_iter().flatten().filter(|(name, flag)| usual[name.as_str()] != **flag);
            let other: Vec<_> = other.map(|(name, flag)| format!("{name} = {flag}")).collect();
            format!("flags: {}", if other.is_empty() { "as usual".to_owned() } else { other.join(", ") })
        }
        "create_session" => format!("session {}", CreateSessionResponse::deserialize(answer)?.session_id),
        "create_sampling_session" => {
            let created = CreateSamplingSessionResponse::deserialize(answer)?;
            format!("sampling session {}", created.sampling_session_id)
        }
        "asample" => {
            let prompt = ModelInput::deserialize(&exchange.asked()["prompt"])?;
            let tokens = prompt.token_count();
            totals.prompt_tokens += tokens.unwrap_or_default();
            let tokens = tokens.map_or("an unknown number of".to_owned(), |tokens| tokens.to_string());
            let promise = Promise::deserialize(answer)?;
            format!("a prompt of {tokens} tokens, promised as {}", promise.request_id)
        }
        _ => match Promise::deserialize(answer) {
            Ok(promise) => format!("promised as {}", promise.request_id),
            Err(_) => "answered".to_owned(),
        },
    })
}

/// What a poll found: a result, a failure, or nothing yet.
fn polled(exchange: &Exchange<'_>, totals: &mut Totals) -> Result<String, Box<dyn Error>> {
    let (kind, answer, id) = (exchange.kind(), exchange.answer(), &exchange.asked()["request_id"]);
    let id = id.as_str().unwrap_or_default();
    if let Some(state) = answer["queue_state"].as_str().map(QueueState::parse) {
        totals.pauses += u32::from(state.is_paused());
        let reason = answer["queue_state_reason"].as_str().unwrap_or("no reason given");
        return Ok(format!("{id}: not yet; {state} ({reason})"));
    }
    if exchange.status() == 200 && answer["type"] != "try_again" && answer["status"] != "complete_metadata" {
        if let Some(failure) = answer.get("error") {
            let category = ErrorCategory::parse(answer["category"].as_str().unwrap_or_default());
            return Ok(format!("{id}: failed, at fault: {category} ({failure})"));
        }
        let protobuf = exchange.protobuf()?;
        return Ok(format!("{id}: {}", result(kind, protobuf, answer, totals)?));
    }
    Ok(format!("{id}: not yet"))
}

fn result(
    kind: &str,
    protobuf: Option<Vec<u8>>,
    json: &Value,
    totals: &mut Totals,
) -> Result<String, Box<dyn Error>> {
    Ok(match kind {
        "Sample" => {
            let reply = match protobuf {
                Some(bytes) => SampleResponse::from_proto(bytes.into())?,
                None => SampleResponse::from_json(json.to_string().as_bytes())?,
            };
            let told = reply.sequences.iter().map(|sequence| {
                let (tokens, why) = (sequence.tokens.len(), sequence.stop_reason.to_string());
                let told = format!("{tokens} tokens ({why})");
                *totals.sampled_tokens.entry(why).or_default() += tokens;
                told
            });
            format!("sampled {}", told.collect::<Vec<_>>().join(", "))
        }
        "Forward" | "ForwardBackward" => {
            let output = match protobuf {
                Some(bytes) => ForwardBackwardOutput::from_protobuf(bytes.into())?,
                None => ForwardBackwardOutput::from_json(json.to_string().as_bytes())?,
            };
            format!("{} outputs, loss {:?}", output.loss_fn_outputs.len(), output.loss())
        }
        "OptimStep" => format!("a step, {:?}", OptimStepResult::deserialize(json)?.metrics),
        _ => json.to_string(),
    })
}
