//! Counters, gauges and histograms with their labels.

use std::fmt;
use std::time::Duration;

use metrics::{Key, Level, Metadata};

use crate::description::{Description, LabelDescription, Values};
use crate::keys::Keys;

static METADATA: Metadata<'_> = Metadata::new("tinkex", Level::INFO, None);

/// What all instruments have.
struct Instrument<const N: usize> {
    description: Description,
    keys: Keys<N>,
}

impl<const N: usize> Instrument<N> {
    const fn new(description: Description) -> Self {
        assert!(description.labels.len() == N, "as many labels as the type says");
        Self { description, keys: Keys::new() }
    }

    fn key(&self, values: [&'static str; N]) -> &Key {
        let Description { name, labels, .. } = self.description;
        self.keys.of(name, std::array::from_fn(|at| labels.get(at).map_or("", |label| label.name)), values)
    }
}

macro_rules! instrument {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name<const N: usize>(Instrument<N>);

        impl<const N: usize> $name<N> {
            pub(crate) const fn new(description: Description) -> Self {
                Self(Instrument::new(description))
            }

            /// What it is.
            pub const fn description(&self) -> Description {
                self.0.description
            }

            /// The first value of each label.
            pub(crate) fn first_values(&self) -> [&'static str; N] {
                let first = |label: &LabelDescription| match label.values {
                    Values::OneOf(values) => values.first().copied(),
                    Values::Operation => Some("asample"),
                };
                std::array::from_fn(|at| self.0.description.labels.get(at).and_then(first).unwrap_or(""))
            }
        }

        impl<const N: usize> fmt::Debug for $name<N> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.0.description.name).finish()
            }
        }
    };
}

instrument! {
    /// A count with `N` labels.
    Counter
}

instrument! {
    /// A value that rises and falls, with `N` labels.
    Gauge
}

instrument! {
    /// Durations with `N` labels.
    Histogram
}

impl<const N: usize> Counter<N> {
    /// Counts one.
    pub fn increment(&self, values: [&'static str; N]) {
        self.add(values, 1);
    }

    pub(crate) fn measure(&self, values: [&'static str; N]) {
        self.increment(values);
    }

    /// Counts several.
    pub fn add(&self, values: [&'static str; N], count: u64) {
        metrics::with_recorder(|recorder| {
            recorder.register_counter(self.0.key(values), &METADATA).increment(count);
        });
    }
}

impl<const N: usize> Histogram<N> {
    pub(crate) fn measure(&self, values: [&'static str; N]) {
        self.record(values, Duration::from_millis(1));
    }

    /// Records a duration, in seconds.
    pub fn record(&self, values: [&'static str; N], duration: Duration) {
        metrics::with_recorder(|recorder| {
            recorder.register_histogram(self.0.key(values), &METADATA).record(duration.as_secs_f64());
        });
    }
}

impl<const N: usize> Histogram<N> {
    /// Records what `elapsed` says when the timer is dropped, so that a wait that is given up is recorded too. The clock
    /// is the caller's.
    pub fn timer<E: Fn() -> Duration>(&'static self, values: [&'static str; N], elapsed: E) -> Timer<N, E> {
        Timer { histogram: self, values, elapsed }
    }
}

/// Records a duration when it is dropped.
#[must_use = "the duration ends when this is dropped"]
pub struct Timer<const N: usize, E: Fn() -> Duration> {
    histogram: &'static Histogram<N>,
    values: [&'static str; N],
    elapsed: E,
}

impl<const N: usize, E: Fn() -> Duration> Drop for Timer<N, E> {
    fn drop(&mut self) {
        self.histogram.record(self.values, (self.elapsed)());
    }
}

impl<const N: usize, E: Fn() -> Duration> fmt::Debug for Timer<N, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Timer").field(&self.histogram).finish()
    }
}

impl<const N: usize> Gauge<N> {
    pub(crate) fn measure(&self, values: [&'static str; N]) {
        drop(self.raise(values, 1.0));
    }

    /// Raises the gauge until the guard is dropped.
    pub fn raise(&self, values: [&'static str; N], by: f64) -> Raised {
        let gauge = metrics::with_recorder(|recorder| recorder.register_gauge(self.0.key(values), &METADATA));
        gauge.increment(by);
        Raised { gauge, by }
    }
}

/// Keeps a gauge raised. What it raised is what falls again: a recorder that comes in between sees neither.
#[must_use = "the gauge falls again when this is dropped"]
pub struct Raised {
    gauge: metrics::Gauge,
    by: f64,
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.gauge.decrement(self.by);
    }
}

impl fmt::Debug for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Raised").field(&self.by).finish()
    }
}
