//! `telemetry` (PROTOCOL 20).

use serde_json::{Value, json};

use super::Service;
use super::refusal::Refusal;
use super::routes::object;
use super::state::Records;
use crate::{Received, Reply};

impl Service {
    pub(crate) fn telemetry(&self, request: &Received) -> Result<Reply, Refusal> {
        let mut body = object(request)?;
        let Some(Value::Array(events)) = body.get_mut("events").map(Value::take) else {
            return Err(Refusal::new(422, "events: list required"));
        };
        let mut state = self.state();
        let limit = state.records.limit;
        for event in events {
            Records::push(limit, &mut state.records.telemetry, event);
        }
        Ok(Reply::json(200, &json!({ "status": "accepted" })))
    }
}
