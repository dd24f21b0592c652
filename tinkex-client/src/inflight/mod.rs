//! What is in flight: one row per request, shown as a table or as JSON, so that a stuck run can be diagnosed.

mod dump;
mod json;
mod metrics;
#[cfg(unix)]
mod on_signal;
mod request;
mod row;
mod snapshot;
mod table;
mod target;
mod text;

pub(crate) use dump::dump;
#[cfg(unix)]
pub(crate) use on_signal::DumpOnSignal;
pub use request::{InflightRequest, Stage};
pub(crate) use row::Row;
pub use snapshot::Inflight;
pub(crate) use table::{InflightEntry, InflightTable};
pub use target::DumpTarget;
