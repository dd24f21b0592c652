//! The losses, each with its exact gradient with respect to the logprobs of the targets (PROTOCOL 12.1).
//!
//! All are sums over the targets of all datums. With lp the logprob of a target under the model, w its `weights`
//! entry (1 where the datum has no weights), A its `advantages` entry, old its `logprobs` entry, the ratio
//! r = exp(lp − old), and clip(r) = r limited to `clip_low_threshold` … `clip_high_threshold`:
//!
//! | Loss | Share of a target |
//! |---|---|
//! | `cross_entropy` | −w·lp |
//! | `importance_sampling` | −w·r·A |
//! | `ppo` | −w·min(r·A, clip(r)·A) |
//! | `cispo` | −w·clip(r)·A·lp, clip(r) taken for a constant |
//! | `dro` | −w·(A·lp − ½·`beta`·(lp − old)²) |
//! | `gspo` | as `ppo`, where r of all targets of a datum has the value exp(mean of lp − old), and the derivative of r |
//!
//! The mean of `gspo` is over the targets whose `sequence_ratio_mask` entry is not zero, weighted by it; without the
//! input over all. Where the mask is zero everywhere, no target has a share. The thresholds are numbers of the loss
//! (defaults 0.8 and 1.2), or inputs of the datum with one entry per target, which come first. `beta` is a number of
//! the loss, by default 0.05.

use std::collections::BTreeMap;

use super::{LearnerDatum, LossError};
use crate::model::exp;

/// A slope beyond this is an error in the data, and would soon be no number any more.
const LARGEST_SLOPE: f64 = 1e30;

/// Which loss to compute, by its name in the protocol, with its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct LearnerLoss {
    /// `cross_entropy`, `importance_sampling`, `ppo`, `cispo`, `dro` or `gspo`.
    pub name: String,
    /// The numbers of `loss_fn_config`. Those a loss does not know are ignored.
    pub numbers: BTreeMap<String, f64>,
}

impl LearnerLoss {
    /// A loss with its default numbers.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), numbers: BTreeMap::new() }
    }

    /// Sets a number.
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.numbers.insert(name.to_owned(), value);
        self
    }

    fn number(&self, name: &str, default: f64) -> Result<f64, LossError> {
        let value = self.numbers.get(name).copied().unwrap_or(default);
        if value.is_finite() {
            return Ok(value);
        }
        Err(LossError::new(format!("{}: {name} is {value}, which is no finite number", self.name)))
    }
}

/// A loss that is known, with checked numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Objective {
    kind: Kind,
    /// The name, for errors.
    name: &'static str,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    CrossEntropy,
    ImportanceSampling,
    Ppo(Thresholds),
    Cispo(Thresholds),
    Dro { beta: f64 },
    Gspo(Thresholds),
}

#[derive(Clone, Copy, Debug)]
struct Thresholds {
    low: f64,
    high: f64,
}

const LOW: &str = "clip_low_threshold";
const HIGH: &str = "clip_high_threshold";

/// A datum's share of the loss, and the derivative with respect to the logprob of each target.
pub(crate) struct Outcome {
    pub(crate) loss: f64,
    pub(crate) slopes: Vec<f64>,
}

impl Objective {
    pub(crate) fn of(loss: &LearnerLoss) -> Result<Self, LossError> {
        let thresholds = || Ok(Thresholds { low: loss.number(LOW, 0.8)?, high: loss.number(HIGH, 1.2)? });
        let (name, kind) = match loss.name.as_str() {
            "cross_entropy" => ("cross_entropy", Kind::CrossEntropy),
            "importance_sampling" => ("importance_sampling", Kind::ImportanceSampling),
            "ppo" => ("ppo", Kind::Ppo(thresholds()?)),
            "cispo" => ("cispo", Kind::Cispo(thresholds()?)),
            "dro" => ("dro", Kind::Dro { beta: loss.number("beta", 0.05)? }),
            "gspo" => ("gspo", Kind::Gspo(thresholds()?)),
            "stable_reinforce" => {
                return Err(LossError::new("the loss function stable_reinforce is not supported"));
            }
            other => return Err(LossError::new(format!("unknown loss function {other:?}"))),
        };
        Ok(Self { kind, name })
    }

    fn required(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::CrossEntropy => &[],
            _ => &["advantages", "logprobs"],
        }
    }

    fn optional(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::CrossEntropy | Kind::ImportanceSampling | Kind::Dro { .. } => &["weights"],
            Kind::Ppo(_) | Kind::Cispo(_) => &["weights", LOW, HIGH],
            Kind::Gspo(_) => &["weights", LOW, HIGH, "sequence_ratio_mask"],
        }
    }

    /// Whether the datum has what the loss needs; `index` is its place in the request.
    pub(crate) fn check(&self, index: usize, datum: &LearnerDatum) -> Result<(), LossError> {
        for input in self.required() {
            if !datum.inputs.contains_key(*input) {
                return Err(LossError::new(format!("datum {index}: {} needs {input}", self.name)));
            }
        }
        for input in self.required().iter().chain(self.optional()) {
            if let Some(values) = datum.inputs.get(*input) {
                datum.check_cells(index, input, values)?;
            }
        }
        Ok(())
    }

    /// The share of a datum that was [checked](Self::check), given the logprobs of its targets.
    pub(crate) fn evaluate(
        &self,
        index: usize,
        datum: &LearnerDatum,
        logprobs: &[f32],
    ) -> Result<Outcome, LossError> {
        let targets = TargetInputs::of(datum, logprobs);
        let outcome = match self.kind {
            Kind::Gspo(thresholds) => by_sequence(&targets, thresholds),
            _ => {
                let shares = (0..logprobs.len()).map(|cell| self.share(&targets, cell));
                let mut loss = 0.0;
                let slopes = shares.map(|(share, slope)| {
                    loss += share;
                    slope
                });
                Outcome { slopes: slopes.collect(), loss }
            }
        };
        let sound = |slope: &f64| slope.abs() <= LARGEST_SLOPE;
        match outcome.slopes.iter().position(|slope| !sound(slope)) {
            Some(cell) => Err(LossError::new(format!(
                "datum {index}: the gradient of {} is too large at target {cell}",
                self.name
            ))),
            None => Ok(outcome),
        }
    }

    /// A target's share of the loss, and the derivative with respect to its logprob.
    fn share(&self, targets: &TargetInputs<'_>, cell: usize) -> (f64, f64) {
        let (logprob, weight) = (targets.logprob(cell), targets.weight(cell));
        let advantage = targets.advantage(cell);
        let (share, slope) = match self.kind {
            Kind::CrossEntropy => (logprob, 1.0),
            Kind::ImportanceSampling => {
                let ratio = exp(targets.change(cell));
                (ratio * advantage, ratio * advantage)
            }
            Kind::Ppo(thresholds) => {
                let ratio = exp(targets.change(cell));
                let clipped = targets.clip(cell, ratio, thresholds);
                pessimistic(ratio, clipped, advantage)
            }
            Kind::Cispo(thresholds) => {
                let clipped = targets.clip(cell, exp(targets.change(cell)), thresholds);
                (clipped * advantage * logprob, clipped * advantage)
            }
            Kind::Dro { beta } => {
                let change = targets.change(cell);
                (logprob * advantage - 0.5 * beta * change * change, advantage - beta * change)
            }
            // Has no share of its own: see by_sequence.
            Kind::Gspo(_) => (0.0, 0.0),
        };
        (-weight * share, -weight * slope)
    }
}

/// The smaller of the two objectives, and its derivative with respect to the logarithm of the ratio.
fn pessimistic(ratio: f64, clipped: f64, advantage: f64) -> (f64, f64) {
    let (free, bound) = (ratio * advantage, clipped * advantage);
    if free <= bound { (free, free) } else { (bound, 0.0) }
}

/// `gspo`: one ratio for the whole datum, with the derivative of each target's own.
fn by_sequence(targets: &TargetInputs<'_>, thresholds: Thresholds) -> Outcome {
    let cells = || 0..targets.logprobs.len();
    let total: f64 = cells().map(|cell| targets.mask(cell)).sum();
    if total == 0.0 {
        return Outcome { loss: 0.0, slopes: vec![0.0; targets.logprobs.len()] };
    }
    let ratio = exp(cells().map(|cell| targets.mask(cell) / total * targets.change(cell)).sum());
    let mut loss = 0.0;
    let slopes = cells().map(|cell| {
        let clipped = targets.clip(cell, ratio, thresholds);
        let (share, slope) = pessimistic(ratio, clipped, targets.advantage(cell));
        loss -= targets.weight(cell) * share;
        -targets.weight(cell) * slope
    });
    Outcome { slopes: slopes.collect(), loss }
}

/// The inputs of a datum as numbers per target.
struct TargetInputs<'a> {
    logprobs: &'a [f32],
    weights: Option<&'a [f32]>,
    advantages: Option<&'a [f32]>,
    old: Option<&'a [f32]>,
    low: Option<&'a [f32]>,
    high: Option<&'a [f32]>,
    mask: Option<&'a [f32]>,
}

impl<'a> TargetInputs<'a> {
    fn of(datum: &'a LearnerDatum, logprobs: &'a [f32]) -> Self {
        let input = |name: &str| datum.inputs.get(name).map(Vec::as_slice);
        Self {
            logprobs,
            weights: input("weights"),
            advantages: input("advantages"),
            old: input("logprobs"),
            low: input(LOW),
            high: input(HIGH),
            mask: input("sequence_ratio_mask"),
        }
    }

    fn logprob(&self, cell: usize) -> f64 {
        f64::from(self.logprobs[cell])
    }

    fn weight(&self, cell: usize) -> f64 {
        entry(self.weights, cell, 1.0)
    }

    fn advantage(&self, cell: usize) -> f64 {
        entry(self.advantages, cell, 0.0)
    }

    /// lp − old.
    fn change(&self, cell: usize) -> f64 {
        self.logprob(cell) - entry(self.old, cell, self.logprob(cell))
    }

    fn mask(&self, cell: usize) -> f64 {
        entry(self.mask, cell, 1.0)
    }

    /// The ratio within the thresholds of this target; the upper one wins where they cross.
    fn clip(&self, cell: usize, ratio: f64, thresholds: Thresholds) -> f64 {
        ratio.max(entry(self.low, cell, thresholds.low)).min(entry(self.high, cell, thresholds.high))
    }
}

fn entry(values: Option<&[f32]>, cell: usize, default: f64) -> f64 {
    values.and_then(|values| values.get(cell)).map_or(default, |value| f64::from(*value))
}
