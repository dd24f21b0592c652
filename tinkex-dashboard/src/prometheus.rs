//! A real Prometheus: its programs, a process of it, and its query API.

mod api;
mod process;
mod program;

pub use api::{Api, Series};
pub use process::Server;
pub use program::{Program, check_exposition, check_rules};
