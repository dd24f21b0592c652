//! The metrics contract of Tinkex: what is counted and measured, under which names and labels, and what it means.
//!
//! Everything goes through the facade [`metrics`]: the application installs the recorder, at any time, and without one
//! nothing is measured, and nothing is allocated but, once, the names of the series. All metrics stand in [`contract`], and nowhere else; `docs/metrics.md` is
//! written from it, and tests compare it with what the crates really emit.
//!
//! Label values are `&'static str`: an id, which is not known before the program runs, cannot become one, so the number
//! of series is bounded.
//!
//! ```
//! use std::time::Duration;
//!
//! tinkex_metrics::contract::HTTP_RETRIES.increment(["asample", "throttled"]);
//! tinkex_metrics::contract::BACKOFF_WAIT.record(["shared"], Duration::from_millis(1500));
//! let in_use = tinkex_metrics::contract::DISPATCH_SLOTS_IN_USE.raise([], 1.0);
//! drop(in_use); // the gauge falls again
//! ```

mod buckets;
pub mod contract;
mod description;
mod instrument;
mod keys;
pub mod table;

pub use buckets::DURATION_BUCKETS;
pub use description::{Description, Kind, LabelDescription, Values, describe};
pub use instrument::{Counter, Gauge, Histogram, Raised, Timer};
