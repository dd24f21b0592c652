//! Optimizer steps (PROTOCOL 12.7).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::{InvalidInput, lenient};

/// One Adam step with decoupled weight decay (PROTOCOL 12.7). Weight decay and clipping are left out of the request
/// while they are off, because the oldest servers refuse the fields (OPEN_SERVERS, decision 1).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdamParams {
    /// The learning rate. The protocol's default is 1e-4.
    pub learning_rate: f64,
    /// Decay of the mean of gradients. Default 0.9.
    pub beta1: f64,
    /// Decay of the mean of squared gradients. Default 0.95.
    pub beta2: f64,
    /// Added to the denominator. Default 1e-12.
    pub eps: f64,
    /// Weight decay. Default 0, none.
    #[serde(skip_serializing_if = "is_zero")]
    pub weight_decay: f64,
    /// The largest norm of the whole gradient; larger ones are scaled down. Default 0, which is off.
    #[serde(skip_serializing_if = "is_zero")]
    pub grad_clip_norm: f64,
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl Default for AdamParams {
    fn default() -> Self {
        Self::new(1e-4)
    }
}

impl AdamParams {
    /// The protocol's defaults, at a learning rate.
    pub fn new(learning_rate: f64) -> Self {
        Self { learning_rate, beta1: 0.9, beta2: 0.95, eps: 1e-12, weight_decay: 0.0, grad_clip_norm: 0.0 }
    }

    /// Sets the decay of the mean of gradients.
    #[must_use]
    pub fn beta1(mut self, beta1: f64) -> Self {
        self.beta1 = beta1;
        self
    }

    /// Sets the decay of the mean of squared gradients.
    #[must_use]
    pub fn beta2(mut self, beta2: f64) -> Self {
        self.beta2 = beta2;
        self
    }

    /// Sets what is added to the denominator.
    #[must_use]
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Sets the weight decay.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Sets the largest norm of the whole gradient; 0 is off.
    #[must_use]
    pub fn grad_clip_norm(mut self, grad_clip_norm: f64) -> Self {
        self.grad_clip_norm = grad_clip_norm;
        self
    }
}

/// One Dimuon step, for models created with
/// [`OptimizerConfig::Dimuon`](crate::OptimizerConfig::Dimuon) (PROTOCOL 12.7).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DimuonParams {
    /// The learning rate, at least 0.
    pub learning_rate: f64,
    /// The largest norm of the whole gradient. Default 0; 0 and below is off.
    #[serde(default)]
    pub grad_clip_norm: f64,
    /// Momentum, in [0, 1). Default 0.9.
    #[serde(default = "momentum")]
    pub beta1: f64,
}

fn momentum() -> f64 {
    0.9
}

impl DimuonParams {
    /// The protocol's defaults, at a learning rate.
    pub fn new(learning_rate: f64) -> Self {
        Self { learning_rate, grad_clip_norm: 0.0, beta1: momentum() }
    }

    /// Sets the momentum, in [0, 1).
    #[must_use]
    pub fn beta1(mut self, beta1: f64) -> Self {
        self.beta1 = beta1;
        self
    }

    /// Sets the largest norm of the whole gradient; 0 and below is off.
    #[must_use]
    pub fn grad_clip_norm(mut self, grad_clip_norm: f64) -> Self {
        self.grad_clip_norm = grad_clip_norm;
        self
    }
}

/// What an optimizer step does. It must be of the family the model was created with (PROTOCOL 12.7).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum OptimizerParams {
    /// An Adam step.
    Adam(AdamParams),
    /// A Dimuon step.
    Dimuon(DimuonParams),
    /// A step of another family: an object with a text `type` and any other members, sent as it is.
    Other(Map<String, Value>),
}

impl From<AdamParams> for OptimizerParams {
    fn from(params: AdamParams) -> Self {
        Self::Adam(params)
    }
}

impl From<DimuonParams> for OptimizerParams {
    fn from(params: DimuonParams) -> Self {
        Self::Dimuon(params)
    }
}

impl OptimizerParams {
    /// Checks what can be known before sending.
    ///
    /// # Errors
    /// Where a number is not finite, a Dimuon step has a negative learning rate or a momentum outside [0, 1), or a
    /// step of another family names no type.
    pub fn validate(&self) -> Result<(), InvalidInput> {
        match self {
            Self::Adam(adam) => finite(&[
                ("learning_rate", adam.learning_rate),
                ("beta1", adam.beta1),
                ("beta2", adam.beta2),
                ("eps", adam.eps),
                ("weight_decay", adam.weight_decay),
                ("grad_clip_norm", adam.grad_clip_norm),
            ]),
            Self::Dimuon(dimuon) => {
                finite(&[
                    ("learning_rate", dimuon.learning_rate),
                    ("grad_clip_norm", dimuon.grad_clip_norm),
                    ("beta1", dimuon.beta1),
                ])?;
                if dimuon.learning_rate < 0.0 {
                    let problem = format!("must be at least 0, not {}", dimuon.learning_rate);
                    return Err(InvalidInput::new("learning_rate", problem));
                }
                if !(0.0..1.0).contains(&dimuon.beta1) {
                    return Err(InvalidInput::new(
                        "beta1",
                        format!("must be in [0, 1), not {}", dimuon.beta1),
                    ));
                }
                Ok(())
            }
            Self::Other(members) => match members.get("type") {
                Some(Value::String(_)) => Ok(()),
                _ => Err(InvalidInput::new("optimizer_params", "must have a text member `type`")),
            },
        }
    }
}

fn finite(numbers: &[(&'static str, f64)]) -> Result<(), InvalidInput> {
    match numbers.iter().find(|(_, number)| !number.is_finite()) {
        Some((name, number)) => {
            Err(InvalidInput::new(name, format!("must be a finite number, not {number}")))
        }
        None => Ok(()),
    }
}

/// The body of `POST /api/v1/optim_step` (PROTOCOL 12.7).
#[derive(Clone, Copy, Debug)]
pub struct OptimStepBody<'a> {
    /// The model.
    pub model_id: &'a str,
    /// The request's number, from 1.
    pub seq_id: u64,
    /// The step.
    pub params: &'a OptimizerParams,
}

impl Serialize for OptimStepBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Tagged<'a> {
            #[serde(rename = "type")]
            kind: &'static str,
            #[serde(flatten)]
            params: &'a DimuonParams,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "snake_case")]
        enum Member<'a> {
            AdamParams(&'a AdamParams),
            #[serde(rename = "optimizer_params")]
            Dimuon(Tagged<'a>),
            #[serde(rename = "optimizer_params")]
            Other(&'a Map<String, Value>),
        }
        #[derive(Serialize)]
        struct Body<'a> {
            model_id: &'a str,
            seq_id: u64,
            #[serde(rename = "type")]
            kind: &'static str,
            #[serde(flatten)]
            params: Member<'a>,
        }
        let params = match self.params {
            OptimizerParams::Adam(params) => Member::AdamParams(params),
            OptimizerParams::Dimuon(params) => Member::Dimuon(Tagged { kind: "dimuon", params }),
            OptimizerParams::Other(members) => Member::Other(members),
        };
        Body { model_id: self.model_id, seq_id: self.seq_id, kind: "optim_step", params }
            .serialize(serializer)
    }
}

/// The result of an optimizer step (PROTOCOL 12.7).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct OptimStepResult {
    /// What the server measured, by name (`grad_norm:mean`, …). Empty where it sent none.
    #[serde(default, deserialize_with = "lenient::numbers")]
    pub metrics: BTreeMap<String, f64>,
}
