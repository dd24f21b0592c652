//! Requests in flight as JSON. [`Inflight`] documents the fields.

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use super::{Inflight, InflightRequest, Stage};

impl Serialize for Inflight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Inflight", Stage::ALL.len() + 3)?;
        fields.serialize_field("count", &self.len())?;
        for stage in Stage::ALL {
            fields.serialize_field(stage.as_str(), &self.count(stage))?;
        }
        fields.serialize_field("oldest_age_seconds", &self.oldest_age().map(|age| age.as_secs_f64()))?;
        fields.serialize_field("requests", &**self)?;
        fields.end()
    }
}

impl Serialize for InflightRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("InflightRequest", 9)?;
        fields.serialize_field("number", &self.number)?;
        fields.serialize_field("request_type", self.kind.as_str())?;
        fields.serialize_field("stage", self.stage.as_str())?;
        fields.serialize_field("age_seconds", &self.age.as_secs_f64())?;
        fields.serialize_field("client_id", &self.client_id)?;
        fields.serialize_field("request_id", &self.request_id)?;
        fields.serialize_field("polls", &self.polls)?;
        fields.serialize_field("queue_state", &self.queue_state.as_ref().map(|state| state.as_str()))?;
        fields.serialize_field("reason", &self.reason)?;
        fields.end()
    }
}
