//! Polling something that is no Tinker server, over a closure, with `tinkex-future` alone: the jobs of a render farm.
//!
//! `cargo run -p tinkex-future --example render_farm` takes three seconds and needs nothing.

#![allow(clippy::print_stdout, reason = "this program talks to a person")]

mod farm;
mod jobs;

#[tokio::main]
async fn main() {
    jobs::run(|line| println!("{line}")).await;
}
