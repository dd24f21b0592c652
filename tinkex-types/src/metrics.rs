//! The metrics of a training request, and how those of its chunks become one (PROTOCOL 12.6).

use std::collections::BTreeMap;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{DecodeError, lenient};

/// The value of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum MetricValue {
    /// A number.
    Number(f64),
    /// A combined hash, all 64 bits.
    Hash(u64),
}

/// The metrics of a training request, by name: `name:reduction` (PROTOCOL 12.6).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Metrics(BTreeMap<String, MetricValue>);

impl Metrics {
    /// The metric of that name, where it is a number.
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.0.get(name) {
            Some(MetricValue::Number(value)) => Some(*value),
            _ => None,
        }
    }

    /// Adds or replaces a metric.
    pub fn insert(&mut self, name: impl Into<String>, value: MetricValue) {
        self.0.insert(name.into(), value);
    }

    /// The metrics of a batch from those of its chunks, each with the number of its loss function outputs.
    pub(crate) fn combine(chunks: &[(&Self, usize)]) -> Result<Self, DecodeError> {
        let Some((first, _)) = chunks.first() else { return Ok(Self::default()) };
        let mut combined = Self::default();
        for name in first.0.keys() {
            let reduction = match name.split_once(':') {
                Some((_, reduction)) if !reduction.contains(':') => reduction,
                _ => {
                    return Err(DecodeError::new(
                        "metrics",
                        format!("`{name}` is not of the form name:reduction"),
                    ));
                }
            };
            let values: Option<Vec<_>> = chunks
                .iter()
                .map(|(metrics, outputs)| Some((*metrics.0.get(name)?, *outputs as f64)))
                .collect();
            if let Some(values) = values {
                combined.reduce(name, reduction, &values)?;
            }
        }
        Ok(combined)
    }

    fn reduce(
        &mut self,
        name: &str,
        reduction: &str,
        values: &[(MetricValue, f64)],
    ) -> Result<(), DecodeError> {
        let numbers = || values.iter().map(|(value, _)| value.as_f64());
        let value = match reduction {
            "sum" => numbers().sum(),
            "mean" => weighted_mean(name, values)?,
            "min" => numbers().fold(f64::INFINITY, smaller),
            "max" => numbers().fold(f64::NEG_INFINITY, larger),
            "slack" => numbers().fold(f64::NEG_INFINITY, larger) - weighted_mean(name, values)?,
            "unique" => {
                for (n, (value, _)) in values.iter().enumerate() {
                    let name = if n == 0 { name.to_owned() } else { format!("{name}_{n}") };
                    self.insert(name, *value);
                }
                return Ok(());
            }
            "hash2" => {
                let hashes = values.iter().map(|(value, _)| value.as_hash());
                let sum = hashes.reduce(|a, b| Some(a?.wrapping_add(b?))).flatten();
                let sum =
                    sum.ok_or_else(|| DecodeError::new("metrics", format!("`{name}` is not finite")))?;
                self.insert(name, MetricValue::Hash(sum));
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.insert(name, MetricValue::Number(value));
        Ok(())
    }
}

fn weighted_mean(name: &str, values: &[(MetricValue, f64)]) -> Result<f64, DecodeError> {
    let weights: f64 = values.iter().map(|(_, weight)| weight).sum();
    if weights == 0.0 {
        return Err(DecodeError::new("metrics", format!("`{name}` is a mean over no outputs")));
    }
    Ok(values.iter().map(|(value, weight)| value.as_f64() * weight).sum::<f64>() / weights)
}

/// Unlike `f64::min`, NaN wins.
fn smaller(a: f64, b: f64) -> f64 {
    if a.is_nan() || a < b { a } else { b }
}

/// Unlike `f64::max`, NaN wins.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

impl MetricValue {
    fn as_f64(self) -> f64 {
        match self {
            Self::Number(value) => value,
            Self::Hash(hash) => hash as f64,
        }
    }

    /// The whole part modulo 2^64; none where the number is not finite.
    fn as_hash(self) -> Option<u64> {
        const MODULUS: f64 = 18_446_744_073_709_551_616.0; // 2^64
        match self {
            Self::Hash(hash) => Some(hash),
            Self::Number(value) if !value.is_finite() => None,
            Self::Number(value) => {
                // Exact: the remainder of floats is, and it is below 2^64.
                let magnitude = (value.trunc() % MODULUS).abs() as u64;
                Some(if value < 0.0 { magnitude.wrapping_neg() } else { magnitude })
            }
        }
    }
}

impl Deref for Metrics {
    type Target = BTreeMap<String, MetricValue>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl From<BTreeMap<String, f64>> for Metrics {
    fn from(numbers: BTreeMap<String, f64>) -> Self {
        Self(numbers.into_iter().map(|(name, value)| (name, MetricValue::Number(value))).collect())
    }
}

impl<'a> IntoIterator for &'a Metrics {
    type Item = (&'a String, &'a MetricValue);
    type IntoIter = std::collections::btree_map::Iter<'a, String, MetricValue>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'de> Deserialize<'de> for Metrics {
    /// Reads numbers: null is NaN, and what is no number is left out.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        lenient::numbers(deserializer).map(Self::from)
    }
}
