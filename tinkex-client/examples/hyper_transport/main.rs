//! Another HTTP stack: the client over `hyper`, without `reqwest`. The transport is in `transport.rs`.
//!
//! `cargo run -p tinkex-client --example hyper_transport` needs no key: it talks to an embedded server. `--url URL`, with
//! the key in `TINKER_API_KEY`, talks to another one that speaks plain HTTP; `--model NAME` picks the base model.

#![allow(clippy::print_stdout, reason = "this program talks to a person")]

#[path = "../swapped/mod.rs"]
mod swapped;
mod transport;

use std::process::ExitCode;

use tinkex_client::SharedTransport;

#[tokio::main]
async fn main() -> ExitCode {
    let transport = SharedTransport::new(transport::HyperTransport::new());
    swapped::run("hyper_transport", transport).await
}
