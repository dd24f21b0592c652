//! What comes of an operation: the learner is back, and weights are filed, published or gone.

use std::sync::Arc;

use serde_json::json;
use tinkex_types::ErrorCategory;
use tokio::time::Instant;

use super::super::product::Product;
use super::super::promises::{Outcome, after};
use super::super::state::{Sampler, State};
use super::checkpoints::{Checkpoint, CheckpointKind};
use super::compute::{Done, Effect, Ticket};
use super::operation::{Publish, Save};
use super::runs::Phase;
use crate::learner::LearnerCheckpoint;

impl State {
    /// Puts the learner back and gives the promise its end.
    pub(crate) fn take_in(&mut self, done: Done) {
        let Done { ticket: Ticket { number, model_id, news, at }, learner, effect } = done;
        let run = self.runs.get_mut(&model_id).filter(|run| Arc::ptr_eq(&run.news, &news));
        let Some(run) = run else { return };
        run.busy = false;
        run.learner = learner;
        let product = match effect {
            Ok(Effect::Computed(product)) => Ok(product),
            Ok(Effect::Stepped(product)) => {
                run.steps += 1;
                Ok(product)
            }
            Ok(Effect::Created(source)) => {
                run.phase = Phase::Alive;
                let mut answer = json!({ "type": "create_model", "model_id": model_id });
                if let Some((load, checkpoint)) = source {
                    answer["type"] = json!("load_weights");
                    answer["path"] = json!(load.path);
                    run.base_model = checkpoint.base_model;
                    run.lora = checkpoint.lora.unwrap_or_default();
                    if run.optimizer.is_null() {
                        run.optimizer = checkpoint.optimizer;
                    }
                }
                Ok(Product::plain(answer))
            }
            Ok(Effect::Loaded(load)) => {
                let path = match load.session_paths {
                    true => load.path.replace("tinker://", "sessions/"),
                    false => load.path,
                };
                Ok(Product::plain(json!({ "type": "load_weights", "path": path, "model_id": model_id })))
            }
            Ok(Effect::Saved(save, weights)) => self.keep(&model_id, at, save, weights),
            Ok(Effect::Published(publish, weights)) => self.publish(&model_id, publish, &weights),
            Ok(Effect::Unloaded) => {
                self.end_run(&model_id);
                Ok(Product::plain(json!({ "type": "unload_model", "model_id": model_id })))
            }
            Err(problem) => {
                if run.phase == Phase::Coming {
                    self.end_run(&model_id);
                }
                Err(problem)
            }
        };
        match product {
            Ok(product) => self.conclude(number, Ok(product)),
            Err(problem) => self.fail(number, problem),
        }
    }

    /// Ends a promise by its user's fault.
    pub(crate) fn fail(&mut self, number: u64, problem: String) {
        self.conclude(number, Err(Outcome::Failure(ErrorCategory::User, problem)));
    }

    /// Ends the life of a run; operations that still wait for earlier ones come to their turn, and fail.
    pub(crate) fn end_run(&mut self, model_id: &str) {
        let Some(run) = self.runs.get_mut(model_id) else { return };
        run.phase = Phase::Over;
        run.learner = None;
        let waiting = run.order.abandon();
        run.queue.extend(waiting);
        self.start_first(model_id, Instant::now());
    }

    /// Files a named save.
    fn keep(
        &mut self,
        model_id: &str,
        at: Instant,
        save: Save,
        weights: LearnerCheckpoint,
    ) -> Result<Product, String> {
        if !save.overwrite && self.checkpoints.get(&save.path).is_some() {
            return Err(format!("there is a checkpoint at {} already", save.path));
        }
        let Some(run) = self.runs.get_mut(model_id) else { return Err(format!("unknown model {model_id}")) };
        let mut answer = json!({ "type": save.answer, "path": save.path });
        if save.kind == CheckpointKind::External {
            answer["size_bytes"] = json!(weights.weights_size_bytes());
        }
        if save.inflight {
            run.published = Some(weights.model());
        }
        let checkpoint = Checkpoint {
            base_model: run.base_model.clone(),
            kind: save.kind,
            weights: Some(weights),
            lora: Some(run.lora.clone()),
            optimizer: run.optimizer.clone(),
            user_metadata: save.user_metadata,
            expires: save.ttl.map(|ttl| after(at, ttl)),
        };
        self.checkpoints.insert(&save.path, checkpoint);
        Ok(Product::plain(answer))
    }

    /// Makes the sampling session of an unnamed save.
    fn publish(
        &mut self,
        model_id: &str,
        publish: Publish,
        weights: &LearnerCheckpoint,
    ) -> Result<Product, String> {
        if self.samplers.contains_key(&publish.sampler) {
            return Err(format!("the number of sampling session {} was used before", publish.sampler));
        }
        let Some(run) = self.runs.get_mut(model_id) else { return Err(format!("unknown model {model_id}")) };
        let mut sampler = Sampler::new(run.session, run.base_model.clone(), None, weights.model());
        if publish.inflight {
            run.published = Some(weights.model());
            sampler.follows = Some(model_id.to_owned());
        }
        let answer = json!({ "type": "save_weights_for_sampler", "sampling_session_id": publish.sampler });
        self.samplers.insert(publish.sampler, sampler);
        Ok(Product::plain(answer))
    }
}
