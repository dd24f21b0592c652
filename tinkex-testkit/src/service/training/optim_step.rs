//! `optim_step` (PROTOCOL 12.7).

use serde_json::Value;

use super::super::Service;
use super::super::refusal::Refusal;
use super::operation::Operation;
use crate::learner::{AdamStep, DimuonStep};
use crate::{Received, Reply};

impl Service {
    pub(crate) fn optim_step(&self, request: &Received) -> Result<Reply, Refusal> {
        self.ordered(request, |request| self.submit_json(request, &[], |body, _| step(body)))
    }
}

fn step(body: &Value) -> Result<Operation, Refusal> {
    let given = |name: &str| body.get(name).filter(|params| !params.is_null());
    match (given("adam_params"), given("optimizer_params")) {
        (Some(params), None) => adam(params).map(|step| Operation::OptimStep(step.into())),
        (None, Some(params)) => match params.get("type").and_then(Value::as_str) {
            None => Err(Refusal::new(422, "optimizer_params.type: text required")),
            Some("dimuon") => dimuon(params).map(|step| Operation::OptimStep(step.into())),
            Some("adamw" | "adam") => adam(params).map(|step| Operation::OptimStep(step.into())),
            Some(other) => Ok(Operation::Broken(format!("optimizer {other:?} is not supported"))),
        },
        _ => Err(Refusal::new(422, "exactly one of adam_params and optimizer_params is needed")),
    }
}

fn adam(params: &Value) -> Result<AdamStep, Refusal> {
    let defaults = AdamStep::default();
    Ok(AdamStep {
        learning_rate: finite(params, "learning_rate", defaults.learning_rate)?,
        beta1: share(params, "beta1", defaults.beta1)?,
        beta2: share(params, "beta2", defaults.beta2)?,
        eps: finite(params, "eps", defaults.eps)?,
        weight_decay: finite(params, "weight_decay", defaults.weight_decay)?,
        grad_clip_norm: finite(params, "grad_clip_norm", defaults.grad_clip_norm)?,
    })
}

fn dimuon(params: &Value) -> Result<DimuonStep, Refusal> {
    if params.get("learning_rate").is_none() {
        return Err(Refusal::new(422, "learning_rate: field required"));
    }
    let learning_rate = finite(params, "learning_rate", 0.0)?;
    if learning_rate < 0.0 {
        return Err(Refusal::new(422, format!("learning_rate must not be negative, but is {learning_rate}")));
    }
    Ok(DimuonStep {
        learning_rate,
        beta1: share(params, "beta1", 0.9)?,
        grad_clip_norm: finite(params, "grad_clip_norm", 0.0)?,
    })
}

/// A number; the default where the member is missing. A null is what a NaN becomes in JSON, and is no number.
fn finite(params: &Value, name: &str, default: f64) -> Result<f64, Refusal> {
    match params.get(name) {
        None => Ok(default),
        Some(value) => {
            value.as_f64().ok_or_else(|| Refusal::new(422, format!("{name}: finite number required")))
        }
    }
}

/// A number from 0 to below 1.
fn share(params: &Value, name: &str, default: f64) -> Result<f64, Refusal> {
    let value = finite(params, name, default)?;
    if (0.0..1.0).contains(&value) {
        return Ok(value);
    }
    Err(Refusal::new(422, format!("{name} must be from 0 to below 1, not {value}")))
}
