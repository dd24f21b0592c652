//! `create_model`, `get_info` and `unload_model` (PROTOCOL 11).

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::refusal::Refusal;
use super::super::routes::{json_hash, object};
use super::super::sessions::{number, text};
use super::super::{ModelFacts, Service};
use super::operation::{Creation, Operation};
use super::order::Order;
use super::runs::{Phase, Run};
use crate::learner::LearnerSpec;
use crate::{Received, Reply};

/// The highest rank of an adapter.
const MOST_RANK: u64 = 512;

/// What a new run is made of.
pub(crate) struct NewRun<'a> {
    pub(crate) session_id: &'a str,
    pub(crate) model_seq_id: u64,
    pub(crate) base_model: String,
    pub(crate) lora: Value,
    pub(crate) optimizer: Value,
    pub(crate) creation: Creation,
}

impl Service {
    pub(crate) fn create_model(&self, request: &Received) -> Result<Reply, Refusal> {
        let body = object(request)?;
        let (session_id, model_seq_id) = (text(&body, "session_id")?, number(&body, "model_seq_id")?);
        let base_model = self.known_base(text(&body, "base_model")?)?;
        let lora = lora_config(&body)?;
        let seed = lora["seed"].as_u64().unwrap_or(self.options().seed);
        let rank = lora["rank"].as_u64().unwrap_or(1) as u32;
        let spec = LearnerSpec { base_model: base_model.clone(), rank, seed };
        let optimizer = optimizer_config(&body)?;
        let creation = Creation::Untrained(spec);
        let run = NewRun { session_id, model_seq_id, base_model, lora, optimizer, creation };
        self.create_run(request, run)
    }

    /// Makes a run, unless the request is a repetition.
    pub(crate) fn create_run(&self, request: &Received, new: NewRun<'_>) -> Result<Reply, Refusal> {
        let hash = json_hash(request, &[]);
        let mut state = self.state();
        let session = state.open_session(new.session_id)?;
        let model_id = format!("{}:train:{}", new.session_id, new.model_seq_id);
        if let Some(run) = state.runs.get(&model_id) {
            let (promise, was) = run.created_by;
            if was == hash {
                return Ok(self.accepted(promise));
            }
            let detail = format!("model_seq_id {} was used by a different request", new.model_seq_id);
            return Err(Refusal::new(409, detail));
        }
        let run = Run {
            session,
            session_id: new.session_id.to_owned(),
            model_id: model_id.clone(),
            created_by: (state.next_promise, hash),
            unloaded_by: None,
            phase: Phase::Coming,
            base_model: new.base_model,
            lora: new.lora,
            optimizer: new.optimizer,
            learner: None,
            busy: false,
            order: Order::new(self.dialect(), self.options().keep_records),
            queue: VecDeque::new(),
            due: VecDeque::new(),
            executed: VecDeque::new(),
            steps: 0,
            names: HashSet::new(),
            published: None,
            news: Arc::new(Notify::new()),
        };
        state.runs.insert(model_id.clone(), run);
        let promise = state.enqueue(Instant::now(), &model_id, None, Operation::Create(new.creation));
        Ok(self.accepted(promise))
    }

    pub(crate) fn get_info(&self, request: &Received) -> Result<Reply, Refusal> {
        let body = object(request)?;
        let model_id = text(&body, "model_id")?;
        if self.state().runs.get(model_id).is_some_and(|run| run.phase == Phase::Coming) {
            self.work_off(model_id, None);
        }
        let state = self.state();
        let run = state.runs.get(model_id).filter(|run| run.phase == Phase::Alive);
        let run = run.ok_or_else(|| Refusal::new(404, format!("unknown model {model_id}")))?;
        let facts = self.dialect().model_facts;
        let name = if facts == ModelFacts::NoName { Value::Null } else { json!(run.base_model) };
        let mut answer = json!({
            "type": "get_info",
            "model_data": { "arch": "byte-ngram", "model_name": name, "tokenizer_id": run.base_model },
            "model_id": model_id,
            "model_name": name,
        });
        if facts != ModelFacts::NoLora {
            answer["is_lora"] = json!(true);
            answer["lora_rank"] = run.lora["rank"].clone();
        }
        if facts == ModelFacts::All {
            answer["optimizer_config"] = run.optimizer.clone();
        }
        Ok(Reply::json(200, &answer))
    }

    pub(crate) fn unload_model(&self, request: &Received) -> Result<Reply, Refusal> {
        let body = object(request)?;
        let model_id = text(&body, "model_id")?;
        let mut state = self.state();
        if let Some(promise) = state.runs.get(model_id).and_then(|run| run.unloaded_by) {
            return Ok(self.accepted(promise));
        }
        state.open_run(model_id)?;
        let promise = state.enqueue(Instant::now(), model_id, None, Operation::Unload);
        if let Some(run) = state.runs.get_mut(model_id) {
            run.unloaded_by = Some(promise);
        }
        Ok(self.accepted(promise))
    }
}

/// `lora_config` with its defaults.
fn lora_config(body: &Value) -> Result<Value, Refusal> {
    let given = body.get("lora_config").filter(|config| config.is_object());
    let given = given.ok_or_else(|| Refusal::new(422, "lora_config: field required"))?;
    let rank = given.get("rank").and_then(Value::as_u64);
    let rank = rank.ok_or_else(|| Refusal::new(422, "lora_config.rank: number required"))?;
    if !(1..=MOST_RANK).contains(&rank) {
        return Err(Refusal::new(400, format!("lora_config.rank must be from 1 to {MOST_RANK}, not {rank}")));
    }
    let flag = |name: &str| given.get(name).and_then(Value::as_bool).unwrap_or(true);
    let (unembed, mlp, attn) = (flag("train_unembed"), flag("train_mlp"), flag("train_attn"));
    if !(unembed || mlp || attn) {
        let detail = "one of train_unembed, train_mlp and train_attn must be true";
        return Err(Refusal::new(400, detail));
    }
    Ok(json!({
        "rank": rank,
        "seed": given.get("seed").cloned().unwrap_or(Value::Null),
        "train_unembed": unembed,
        "train_mlp": mlp,
        "train_attn": attn,
    }))
}

/// `optimizer_config`, or the default of servers (PROTOCOL 11.1).
pub(crate) fn optimizer_config(body: &Value) -> Result<Value, Refusal> {
    match body.get("optimizer_config") {
        None | Some(Value::Null) => Ok(json!({ "type": "adamw" })),
        Some(config) if config.get("type").is_some_and(Value::is_string) => Ok(config.clone()),
        Some(_) => Err(Refusal::new(422, "optimizer_config.type: text required")),
    }
}
