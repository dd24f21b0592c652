//! Traces: operations and attempts, what is said of them, and what the service is told (ANCHORS 30 to 33).

mod context;
mod document;
mod example;
mod operations;
