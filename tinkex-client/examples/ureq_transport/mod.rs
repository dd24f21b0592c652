//! A transport over `ureq`: [`UreqTransport`], the threads it runs on, and how its calls are given up.

mod abandon;
mod threads;
mod transport;

pub(crate) use transport::UreqTransport;
