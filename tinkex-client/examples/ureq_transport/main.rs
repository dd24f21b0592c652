//! A blocking HTTP stack: the client over `ureq`, on threads of its own. The transport is in `transport.rs`.
//!
//! `cargo run -p tinkex-client --example ureq_transport` needs no key: it talks to an embedded server. `--url URL`, with
//! the key in `TINKER_API_KEY`, talks to another one that speaks plain HTTP; `--model NAME` picks the base model.

#![allow(clippy::print_stdout, reason = "this program talks to a person")]

#[path = "mod.rs"]
mod blocking;
#[path = "../swapped/mod.rs"]
mod swapped;

use std::process::ExitCode;

use tinkex_client::SharedTransport;

/// Calls at one time; more wait for a thread.
const THREADS: usize = 64;

#[tokio::main]
async fn main() -> ExitCode {
    let transport = SharedTransport::new(blocking::UreqTransport::new(THREADS));
    swapped::run("ureq_transport", transport).await
}
