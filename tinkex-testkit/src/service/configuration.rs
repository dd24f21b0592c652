//! `client/config`, `client/dynamic_config` and `get_server_capabilities` (PROTOCOL 4).

use serde_json::{Value, json};

use super::refusal::Refusal;
use super::{ConfigAnswer, Service};
use crate::Reply;

impl Service {
    pub(crate) fn client_config(&self) -> Result<Reply, Refusal> {
        self.config(self.dialect().client_config, || Value::Object(self.state().client_config.clone()))
    }

    pub(crate) fn dynamic_config(&self) -> Result<Reply, Refusal> {
        self.config(self.dialect().dynamic_config, || Value::Object(self.state().dynamic_config.clone()))
    }

    fn config(&self, answer: ConfigAnswer, flags: impl FnOnce() -> Value) -> Result<Reply, Refusal> {
        match answer {
            ConfigAnswer::Flags => Ok(Reply::json(200, &flags())),
            ConfigAnswer::JwtOff => Ok(Reply::json(200, &json!({ "pjwt_auth_enabled": false }))),
            ConfigAnswer::Missing => Err(Refusal::new(404, "Not Found")),
        }
    }

    pub(crate) fn capabilities(&self) -> Reply {
        let options = self.options();
        let models = options.base_models.iter().map(|name| {
            json!({
                "model_name": name,
                "max_context_length": options.max_context_length,
                "trainable": true,
                "sampleable": true,
            })
        });
        Reply::json(200, &json!({ "supported_models": models.collect::<Vec<_>>() }))
    }
}
