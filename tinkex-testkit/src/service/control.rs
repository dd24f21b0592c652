//! The commands of the control routes: the steering methods, for callers in another process.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tinkex_types::{ErrorCategory, QueueState};

use super::Service;
use super::refusal::Refusal;
use crate::Reply;

/// The flags of `client/dynamic_config`; all others are of `client/config`.
const DYNAMIC_FLAGS: &[&str] =
    &["refresh_interval_sec", "sample_cancel_enabled", "sample_cancel_max_batch_size"];

/// # Control commands
///
/// Where the server has control routes, these commands reach the service, each with a JSON object. All answer
/// `{}` or, where the object does not fit, 400 with a detail.
///
/// | command | object |
/// |---|---|
/// | `config` | flags to replace: `{"client_config": {…}, "dynamic_config": {…}}`, or all of them flat |
/// | `pause` | `{"state", "reason"?, "seconds"?, "next"?}`; with `next` only the next sample or training operation |
/// | `resume` | |
/// | `limit_inflight` | `{"samples": number or null, "retry_after_ms"?}` |
/// | `fail_next` | `{"category"?, "message"?, "count"?}` |
/// | `expire_next` | `{"count"?}` |
/// | `latency`, `hold` | `{"seconds"}` |
/// | `metadata_threshold` | `{"bytes"}` |
/// | `accepted_keys` | `{"keys": list or null}` |
/// | `tokens` | `{"demand"?: bool, "lifetime_seconds"?: number}` |
/// | `reject_token` | `{"count"?}`: the next requests that carry a token |
/// | `revoke_tokens` | |
/// | `refuse_exchange` | `{"status": number or null}` |
/// | `checkpoint` | `{"path", "base_model"}` |
/// | `weights_access_token` | `{"token": text or null}` |
/// | `state` | answers with sessions, samplers, runs, counters, cancelled ids and telemetry |
/// | `reset` | |
impl Service {
    pub(crate) fn carry_out(&self, command: &str, body: &Value) -> Option<Reply> {
        let done = match command {
            "state" => return Some(Reply::json(200, &self.snapshot())),
            "reset" => {
                self.reset();
                Ok(())
            }
            "resume" => {
                self.resume();
                Ok(())
            }
            "config" => self.replace_flags(body),
            "pause" => self.pause_by(body),
            "limit_inflight" => self.limit_by(body),
            "fail_next" => repeat(body, || {
                let category = ErrorCategory::parse(text(body, "category").unwrap_or("unknown"));
                self.fail_next(category, text(body, "message").unwrap_or("made to fail"));
            }),
            "expire_next" => repeat(body, || self.expire_next()),
            "latency" => seconds(body, "seconds").map(|latency| self.set_latency(latency)),
            "hold" => seconds(body, "seconds").map(|hold| self.set_hold(hold)),
            "metadata_threshold" => number(body, "bytes")
                .map(|bytes| self.set_metadata_threshold(usize::try_from(bytes).unwrap_or(usize::MAX))),
            "accepted_keys" => self.keys_by(body),
            "tokens" => self.tokens_by(body),
            "reject_token" => repeat(body, || self.reject_next_token()),
            "revoke_tokens" => {
                self.revoke_tokens();
                Ok(())
            }
            "refuse_exchange" => self.refuse_exchange_by(body),
            "weights_access_token" => {
                self.set_weights_access_token(text(body, "token").map(str::to_owned));
                Ok(())
            }
            "checkpoint" => match (text(body, "path"), text(body, "base_model")) {
                (Some(path), Some(base)) => {
                    self.register_checkpoint(path, base);
                    Ok(())
                }
                _ => Err(bad("path and base_model are needed")),
            },
            _ => return None,
        };
        Some(match done {
            Ok(()) => Reply::json(200, &json!({})),
            Err(refusal) => refusal.into(),
        })
    }

    fn replace_flags(&self, body: &Value) -> Result<(), Refusal> {
        let flags = body.as_object().ok_or_else(|| bad("the flags must be an object"))?;
        let (client, dynamic) = (flags.get("client_config"), flags.get("dynamic_config"));
        if client.is_some() || dynamic.is_some() {
            client.into_iter().for_each(|flags| self.set_client_config(flags));
            dynamic.into_iter().for_each(|flags| self.set_dynamic_config(flags));
            return Ok(());
        }
        let (dynamic, client): (Map<_, _>, Map<_, _>) =
            flags.clone().into_iter().partition(|(name, _)| DYNAMIC_FLAGS.contains(&name.as_str()));
        self.set_client_config(&client.into());
        self.set_dynamic_config(&dynamic.into());
        Ok(())
    }

    fn pause_by(&self, body: &Value) -> Result<(), Refusal> {
        let state = QueueState::parse(text(body, "state").ok_or_else(|| bad("state is needed"))?);
        let reason = text(body, "reason");
        let length = match body.get("seconds") {
            None | Some(Value::Null) => None,
            Some(_) => Some(seconds(body, "seconds")?),
        };
        if body.get("next").and_then(Value::as_bool) == Some(true) {
            self.pause_next(state, reason, length.ok_or_else(|| bad("seconds are needed with next"))?);
        } else {
            self.pause(state, reason, length);
        }
        Ok(())
    }

    fn limit_by(&self, body: &Value) -> Result<(), Refusal> {
        match body.get("samples") {
            None | Some(Value::Null) => self.lift_limit(),
            Some(_) => {
                let samples = usize::try_from(number(body, "samples")?).unwrap_or(usize::MAX);
                let retry_after = body.get("retry_after_ms").and_then(Value::as_u64).unwrap_or(1000);
                self.limit_inflight(samples, Duration::from_millis(retry_after));
            }
        }
        Ok(())
    }

    fn tokens_by(&self, body: &Value) -> Result<(), Refusal> {
        if body.get("lifetime_seconds").is_some() {
            self.set_token_lifetime(seconds(body, "lifetime_seconds")?);
        }
        match body.get("demand") {
            None => {}
            Some(Value::Bool(demand)) => self.demand_tokens(*demand),
            Some(_) => return Err(bad("demand must be true or false")),
        }
        Ok(())
    }

    fn refuse_exchange_by(&self, body: &Value) -> Result<(), Refusal> {
        let status = match body.get("status") {
            None | Some(Value::Null) => None,
            Some(_) => {
                let status = u16::try_from(number(body, "status")?).ok();
                Some(
                    status
                        .filter(|status| (400..600).contains(status))
                        .ok_or_else(|| bad("status must be 400 to 599"))?,
                )
            }
        };
        self.refuse_exchange(status);
        Ok(())
    }

    fn keys_by(&self, body: &Value) -> Result<(), Refusal> {
        let keys = match body.get("keys") {
            None | Some(Value::Null) => None,
            Some(Value::Array(keys)) => {
                Some(keys.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            }
            Some(_) => return Err(bad("keys must be a list or null")),
        };
        self.set_accepted_keys(keys);
        Ok(())
    }
}

/// Does something as often as `count` says, once by default.
fn repeat(body: &Value, act: impl Fn()) -> Result<(), Refusal> {
    let count = match body.get("count") {
        None => 1,
        Some(_) => number(body, "count")?,
    };
    if count > 10_000 {
        return Err(bad("count must be at most 10000"));
    }
    (0..count).for_each(|_| act());
    Ok(())
}

fn text<'a>(body: &'a Value, name: &str) -> Option<&'a str> {
    body.get(name)?.as_str()
}

fn number(body: &Value, name: &str) -> Result<u64, Refusal> {
    body.get(name).and_then(Value::as_u64).ok_or_else(|| bad(&format!("{name} must be a number from 0")))
}

fn seconds(body: &Value, name: &str) -> Result<Duration, Refusal> {
    let value = body.get(name).and_then(Value::as_f64);
    value
        .and_then(|value| Duration::try_from_secs_f64(value).ok())
        .ok_or_else(|| bad(&format!("{name} must be a number of seconds from 0")))
}

fn bad(detail: &str) -> Refusal {
    Refusal::new(400, detail)
}
