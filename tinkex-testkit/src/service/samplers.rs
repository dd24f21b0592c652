//! Sampling sessions: create, look up, join (PROTOCOL 15.1, 15.7).

use serde_json::json;

use super::Service;
use super::refusal::Refusal;
use super::routes::object;
use super::sessions::text;
use super::state::{Sampler, State};
use crate::model::LanguageModel;
use crate::{Received, Reply};

impl Service {
    pub(crate) fn create_sampling_session(&self, request: &Received) -> Result<Reply, Refusal> {
        let body = object(request)?;
        let session_id = text(&body, "session_id")?;
        let seq_id = body
            .get("sampling_session_seq_id")
            .and_then(|value| value.as_u64())
            .ok_or_else(|| Refusal::new(422, "sampling_session_seq_id: number required"))?;
        let wanted = |name: &str| body.get(name).and_then(|value| value.as_str());
        if let Some(path) = wanted("model_path") {
            self.await_checkpoint(path);
        }
        let mut state = self.state();
        let session = state.open_session(session_id)?;
        // A path says its base model; a base model beside it is not looked at.
        let (base_model, model, model_path) = match (wanted("model_path"), wanted("base_model")) {
            (Some(path), _) => {
                let (base_model, model) = sampler_at(path, &state)?;
                (base_model, model, Some(path.to_owned()))
            }
            (None, Some(base)) => (self.known_base(base)?, LanguageModel::named(base), None),
            (None, None) => return Err(Refusal::new(400, "one of base_model and model_path is needed")),
        };
        let id = format!("{session_id}:sample:{seq_id}");
        match state.samplers.get(&id) {
            Some(sampler) if sampler.base_model == base_model && sampler.model_path == model_path => {}
            Some(_) => {
                let detail = format!("sampling_session_seq_id {seq_id} was used for another model");
                return Err(Refusal::new(409, detail));
            }
            None => {
                let sampler = Sampler::new(session, base_model, model_path, model);
                state.samplers.insert(id.clone(), sampler);
            }
        }
        let answer = json!({ "type": "create_sampling_session", "sampling_session_id": id });
        Ok(Reply::json(self.dialect().success.created, &answer))
    }

    pub(crate) fn known_base(&self, base: &str) -> Result<String, Refusal> {
        let supported = &self.options().base_models;
        if supported.iter().any(|name| name == base) {
            return Ok(base.to_owned());
        }
        let detail =
            format!("base model {base:?} is not supported; supported models: {}", supported.join(", "));
        Err(Refusal::new(self.dialect().unknown_model_status, detail))
    }

    pub(crate) fn get_sampler(&self, id: &str) -> Result<Reply, Refusal> {
        let state = self.state();
        let sampler =
            state.samplers.get(id).ok_or_else(|| Refusal::new(404, format!("unknown sampler {id}")))?;
        let mut answer = json!({ "sampler_id": id, "base_model": sampler.base_model });
        if let Some(path) = &sampler.model_path {
            answer["model_path"] = json!(path);
        }
        Ok(Reply::json(200, &answer))
    }

    pub(crate) fn join_sampling_session(&self, request: &Received) -> Result<Reply, Refusal> {
        let body = object(request)?;
        let id = text(&body, "sampling_session_id")?;
        let mut state = self.state();
        let sampler = state.samplers.get_mut(id);
        let sampler = sampler.ok_or_else(|| Refusal::new(404, format!("unknown sampling session {id}")))?;
        sampler.joined += 1;
        Ok(Reply::json(200, &json!({ "type": "join_sampling_session", "client_counter": sampler.joined })))
    }
}

/// The base model and the model a path stands for.
fn sampler_at(path: &str, state: &State) -> Result<(String, LanguageModel), Refusal> {
    if !path.starts_with("tinker://") {
        return Err(Refusal::new(400, format!("model_path must start with tinker://, but is {path:?}")));
    }
    let checkpoint = state.checkpoints.get(path);
    let checkpoint =
        checkpoint.ok_or_else(|| Refusal::new(404, format!("there is no checkpoint at {path}")))?;
    match checkpoint.sampled_model(path) {
        Some(model) => Ok((checkpoint.base_model.clone(), model)),
        None => Err(Refusal::new(400, format!("{path} holds training state, from which nothing is sampled"))),
    }
}
