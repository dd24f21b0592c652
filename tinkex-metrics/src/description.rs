//! What a metric is, for people, for recorders and for tests.

use std::fmt;

use crate::contract;

/// One metric of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// Its name, as Prometheus shows it.
    pub name: &'static str,
    /// What kind of metric it is.
    pub kind: Kind,
    /// What its values are.
    pub unit: metrics::Unit,
    /// Its labels, in order.
    pub labels: &'static [LabelDescription],
    /// What it means, in a sentence.
    pub help: &'static str,
}

/// A kind of metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Durations, with [`DURATION_BUCKETS`](crate::DURATION_BUCKETS) for buckets.
    Histogram,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

/// A label and what it may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelDescription {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub values: Values,
}

/// The values of a label. There are finitely many in any program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// These and no others.
    OneOf(&'static [&'static str]),
    /// The name of a call: its URL template, such as `asample`. Who uses the HTTP layer alone gives names of their own.
    Operation,
}

impl Values {
    /// Whether a label may say so.
    pub fn allow(self, value: &str) -> bool {
        match self {
            Self::OneOf(values) => values.contains(&value),
            Self::Operation => {
                !value.is_empty() && value.bytes().all(|b| b.is_ascii_lowercase() || b"_/{}".contains(&b))
            }
        }
    }
}

/// Tells the installed recorder the unit and the meaning of every metric. Call it once, after the recorder is installed.
pub fn describe() {
    metrics::with_recorder(|recorder| {
        for metric in contract::ALL {
            let (name, unit, help) = (metric.name.into(), Some(metric.unit), metric.help.into());
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, unit, help),
                Kind::Gauge => recorder.describe_gauge(name, unit, help),
                Kind::Histogram => recorder.describe_histogram(name, unit, help),
            }
        }
    });
}
