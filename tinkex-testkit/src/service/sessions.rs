//! Sessions: create, heartbeat, finish (PROTOCOL 10).

use serde_json::json;

use super::Service;
use super::refusal::Refusal;
use super::routes::object;
use super::state::Session;
use crate::model::stable_hash;
use crate::{Received, Reply};

impl Service {
    pub(crate) fn create_session(&self, request: &Received) -> Result<Reply, Refusal> {
        let body = object(request)?;
        let metadata_fits = body.get("user_metadata").is_some_and(|metadata| metadata.is_object());
        if self.dialect().user_metadata_required && !metadata_fits {
            return Err(Refusal::new(422, "user_metadata: field required"));
        }
        let mut state = self.state();
        let key = request.idempotency_key().map(str::to_owned);
        // A repeated request of one call, whose first answer was lost, is no second session.
        let known = state.sessions.values().find(|session| key.is_some() && session.idempotency_key == key);
        let id = match known {
            Some(session) => session.id.clone(),
            None => {
                let tag = stable_hash(&self.options().seed.to_le_bytes()) & 0xFFFF;
                let id = format!("s-{tag:04x}-{:04}", state.next_session);
                state.add_session(Session {
                    id: id.clone(),
                    idempotency_key: key,
                    body,
                    heartbeats: 0,
                    finished: None,
                });
                id
            }
        };
        let answer = json!({ "type": "create_session", "session_id": id });
        Ok(Reply::json(self.dialect().success.created, &answer))
    }

    pub(crate) fn heartbeat(&self, request: &Received) -> Result<Reply, Refusal> {
        let body = object(request)?;
        let id = text(&body, "session_id")?;
        let mut state = self.state();
        let Some(session) = state.session_mut(id) else {
            return Err(Refusal::new(
                self.dialect().unknown_heartbeat_status,
                format!("unknown session {id}"),
            ));
        };
        if session.finished.is_some() {
            return Err(Refusal::new(410, format!("session {id} is finished")));
        }
        session.heartbeats += 1;
        Ok(Reply::json(200, &json!({ "type": "session_heartbeat" })))
    }

    pub(crate) fn finish_session(&self, id: &str, request: &Received) -> Result<Reply, Refusal> {
        let body = object(request)?;
        let mut state = self.state();
        let session =
            state.session_mut(id).ok_or_else(|| Refusal::new(404, format!("unknown session {id}")))?;
        // The first reason stays: a repeated finish is a retry.
        session.finished.get_or_insert(body);
        Ok(self.done())
    }
}

/// A member of a body that must be text.
pub(crate) fn text<'a>(body: &'a serde_json::Value, name: &str) -> Result<&'a str, Refusal> {
    body.get(name)
        .and_then(|value| value.as_str())
        .ok_or_else(|| Refusal::new(422, format!("{name}: text required")))
}

/// A member of a body that must be a number from 0.
pub(crate) fn number(body: &serde_json::Value, name: &str) -> Result<u64, Refusal> {
    body.get(name)
        .and_then(|value| value.as_u64())
        .ok_or_else(|| Refusal::new(422, format!("{name}: number required")))
}
