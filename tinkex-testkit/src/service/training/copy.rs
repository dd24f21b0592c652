//! `copy_weights`: the same weights under a path of their own (PROTOCOL 14, REST C9).

use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::Service;
use super::super::promises::after;
use super::super::refusal::Refusal;
use super::super::routes::object;
use super::super::sessions::text;
use super::checkpoints::Checkpoint;
use super::save::ttl;
use crate::model::stable_hash;
use crate::{Received, Reply};

impl Service {
    pub(crate) fn copy_weights(&self, request: &Received) -> Result<Reply, Refusal> {
        let body = object(request)?;
        let source = text(&body, "source_path")?;
        let ttl = ttl(&body)?;
        self.await_checkpoint(source);
        let mut state = self.state();
        let token = body.get("weights_access_token").and_then(Value::as_str);
        state.check_access(request.header("x-tinker-weights-access-token").or(token))?;
        let slot = body
            .get("session_id")
            .and_then(Value::as_str)
            .zip(body.get("model_seq_id").and_then(Value::as_u64));
        let run = match (body.get("destination_project_id").and_then(Value::as_str), slot) {
            (_, Some((session_id, model_seq_id))) => {
                state.open_session(session_id)?;
                format!("{session_id}:train:{model_seq_id}")
            }
            (Some(project), None) => {
                // The key is the same for all attempts of one copy, so that a repeated request is no second copy.
                let key = request.idempotency_key().map(str::to_owned).unwrap_or_else(|| {
                    state.checkpoints.copies += 1;
                    state.checkpoints.copies.to_string()
                });
                let tag = stable_hash(format!("{project}/{source}/{key}").as_bytes());
                format!("copy-{tag:016x}:train:0")
            }
            (None, None) => {
                let detail = "destination_project_id or session_id and model_seq_id are needed";
                return Err(Refusal::new(422, detail));
            }
        };
        let checkpoint = state.checkpoints.get(source).cloned();
        let checkpoint =
            checkpoint.ok_or_else(|| Refusal::new(404, format!("there is no checkpoint at {source}")))?;
        let within = source.strip_prefix("tinker://").and_then(|path| path.split_once('/'));
        let path = format!("tinker://{run}/{}", within.map_or("weights/copy", |(_, rest)| rest));
        let expires = ttl.map(|ttl| after(Instant::now(), ttl));
        state.checkpoints.insert(&path, Checkpoint { expires, ..checkpoint });
        Ok(Reply::json(200, &json!({ "tinker_path": path })))
    }
}
