//! `save_weights`, `save_weights_for_sampler` and `save_weights_external` (PROTOCOL 14).

use std::time::Duration;

use serde_json::Value;

use super::super::Service;
use super::super::refusal::Refusal;
use super::super::sessions::{number, text};
use super::checkpoints::CheckpointKind;
use super::operation::{Operation, Publish, Save};
use super::runs::Run;
use crate::{Received, Reply};

const LEAST_TTL: u64 = 3600;
const MOST_TTL: u64 = 10 * 365 * 24 * 3600;

/// The most recipients of an encrypted export.
const MOST_RECIPIENTS: usize = 10;

impl Service {
    pub(crate) fn save_weights(&self, request: &Received) -> Result<Reply, Refusal> {
        self.ordered(request, |request| {
            self.submit_json(request, &[], |body, run| {
                let name = name(body)?.unwrap_or("state");
                let path = format!("tinker://{}/weights/{name}", run.model_id);
                self.save(body, run, path, CheckpointKind::Training, "save_weights")
            })
        })
    }

    pub(crate) fn save_weights_for_sampler(&self, request: &Received) -> Result<Reply, Refusal> {
        // The number of a sampling session is drawn anew for each attempt of the reference SDK (PROTOCOL 10.4).
        let varying = ["sampling_session_seq_id"];
        self.ordered(request, |request| {
            self.submit_json(request, &varying, |body, run| {
                let inflight = match body.get("kind") {
                    None | Some(Value::Null) => false,
                    Some(kind) => match kind.as_str() {
                        Some("snapshot") => false,
                        Some("inflight") => true,
                        _ => return Err(Refusal::new(422, "kind must be snapshot or inflight")),
                    },
                };
                let Some(name) = name(body)? else {
                    let seq_id = number(body, "sampling_session_seq_id").map_err(|_| {
                        Refusal::new(422, "one of path and sampling_session_seq_id is needed")
                    })?;
                    let sampler = format!("{}:sample:{seq_id}", run.session_id);
                    return Ok(Operation::Publish(Publish { sampler, inflight }));
                };
                let path = self.dialect().sampler_paths.path(&run.model_id, name);
                let save = self.save(body, run, path, CheckpointKind::Sampler, "save_weights_for_sampler")?;
                Ok(match save {
                    Operation::Save(save) => Operation::Save(Save { inflight, ..save }),
                    other => other,
                })
            })
        })
    }

    pub(crate) fn save_weights_external(&self, request: &Received) -> Result<Reply, Refusal> {
        self.ordered(request, |request| {
            self.submit_json(request, &[], |body, run| {
                let name = name(body)?.ok_or_else(|| Refusal::new(422, "path: text required"))?;
                let recipients = match body.get("age_encryption_recipients") {
                    None | Some(Value::Null) => 0,
                    Some(Value::Array(list)) if list.iter().all(Value::is_string) => list.len(),
                    Some(_) => {
                        return Err(Refusal::new(422, "age_encryption_recipients: list of texts required"));
                    }
                };
                if recipients > MOST_RECIPIENTS {
                    let detail =
                        format!("at most {MOST_RECIPIENTS} age_encryption_recipients, not {recipients}");
                    return Err(Refusal::new(422, detail));
                }
                let path = format!("tinker://{}/external_weights/{name}", run.model_id);
                self.save(body, run, path, CheckpointKind::External, "save_weights_external")
            })
        })
    }

    fn save(
        &self,
        body: &Value,
        run: &Run,
        path: String,
        kind: CheckpointKind,
        answer: &'static str,
    ) -> Result<Operation, Refusal> {
        let overwrite = body.get("overwrite").and_then(Value::as_bool).unwrap_or(false);
        if let Some(status) = self.dialect().reused_name_status
            && run.names.contains(&path)
        {
            return Err(Refusal::new(status, format!("{path} exists")));
        }
        Ok(Operation::Save(Save {
            kind,
            path,
            answer,
            overwrite,
            ttl: ttl(body)?,
            user_metadata: body.get("user_metadata").cloned().unwrap_or(Value::Null),
            inflight: false,
        }))
    }
}

/// The name of the checkpoint. It is one segment of a path.
fn name(body: &Value) -> Result<Option<&str>, Refusal> {
    if body.get("path").is_none_or(Value::is_null) {
        return Ok(None);
    }
    let name = text(body, "path")?;
    if name.is_empty() || name.contains('/') || name.len() > 255 {
        return Err(Refusal::new(422, format!("path must be the name of a checkpoint, not {name:?}")));
    }
    Ok(Some(name))
}

/// How long a checkpoint lives; for ever where nothing is said.
pub(crate) fn ttl(body: &Value) -> Result<Option<Duration>, Refusal> {
    if body.get("ttl_seconds").is_none_or(Value::is_null) {
        return Ok(None);
    }
    match number(body, "ttl_seconds")? {
        seconds @ LEAST_TTL..=MOST_TTL => Ok(Some(Duration::from_secs(seconds))),
        seconds => {
            let detail = format!("ttl_seconds must be from {LEAST_TTL} to {MOST_TTL}, not {seconds}");
            Err(Refusal::new(422, detail))
        }
    }
}
