//! `load_weights` and `weights_info` (PROTOCOL 14, REST C8).

use serde_json::{Value, json};

use super::super::Service;
use super::super::refusal::Refusal;
use super::super::routes::object;
use super::super::sessions::{number, text};
use super::super::state::State;
use super::create::{NewRun, optimizer_config};
use super::operation::{Creation, Load, Operation};
use crate::{Received, Reply};

impl Service {
    pub(crate) fn load_weights(&self, request: &Received) -> Result<Reply, Refusal> {
        let has = |name: &str| request.field(name).is_some_and(|value| !value.is_null());
        if has("model_id") || !self.dialect().create_from_checkpoint {
            return self.ordered(request, |request| self.load_into(request));
        }
        let body = object(request)?;
        let creation = Creation::Loaded {
            load: self.load(&body, request)?,
            base_model: body.get("base_model").and_then(Value::as_str).map(str::to_owned),
        };
        let new = NewRun {
            session_id: text(&body, "session_id")?,
            model_seq_id: number(&body, "model_seq_id")?,
            base_model: String::new(),
            lora: Value::Null,
            optimizer: if has("optimizer_config") { optimizer_config(&body)? } else { Value::Null },
            creation,
        };
        self.create_run(request, new)
    }

    fn load_into(&self, request: &Received) -> Result<Reply, Refusal> {
        // Looked at here: the lock is held while the operation is made.
        let load = object(request).and_then(|body| self.load(&body, request))?;
        self.submit_json(request, &[], |body, _| {
            if self.dialect().load_only_first && number(body, "seq_id")? != 1 {
                return Err(Refusal::new(
                    400,
                    "weights can only be loaded as the first operation of a model",
                ));
            }
            Ok(Operation::Load(load))
        })
    }

    fn load(&self, body: &Value, request: &Received) -> Result<Load, Refusal> {
        let path = text(body, "path")?.to_owned();
        let token = body.get("weights_access_token").and_then(Value::as_str);
        self.state().check_access(token.or_else(|| request.header("x-tinker-weights-access-token")))?;
        Ok(Load {
            path,
            optimizer: body.get("optimizer").and_then(Value::as_bool).unwrap_or(false),
            session_paths: self.dialect().session_paths,
        })
    }

    pub(crate) fn weights_info(&self, request: &Received) -> Result<Reply, Refusal> {
        let body = object(request)?;
        let path = text(&body, "tinker_path")?;
        self.await_checkpoint(path);
        let state = self.state();
        let checkpoint = state.checkpoints.get(path);
        let checkpoint =
            checkpoint.ok_or_else(|| Refusal::new(404, format!("there is no checkpoint at {path}")))?;
        let flag =
            |name: &str| checkpoint.lora.as_ref().and_then(|lora| lora[name].as_bool()).unwrap_or(true);
        let answer = json!({
            "type": "weights_info",
            "base_model": checkpoint.base_model,
            "is_lora": true,
            "lora_rank": checkpoint.rank(),
            "train_unembed": flag("train_unembed"),
            "train_mlp": flag("train_mlp"),
            "train_attn": flag("train_attn"),
            "optimizer_config": checkpoint.optimizer,
        });
        Ok(Reply::json(200, &answer))
    }
}

impl State {
    /// Whether a token opens the weights, where one is needed.
    pub(crate) fn check_access(&self, token: Option<&str>) -> Result<(), Refusal> {
        match &self.weights_access_token {
            Some(needed) if token != Some(needed) => {
                Err(Refusal::new(403, "the weights access token is missing or wrong"))
            }
            _ => Ok(()),
        }
    }
}
