//! A retrying client of a package registry's download statistics, made of `tinkex-http` alone.
//!
//! Without arguments it asks a small server of its own, which is busy at times, so that there is something to retry:
//! `cargo run -p tinkex-http --example package_stats`. With `URL PACKAGE...` it asks
//! `URL/packages/PACKAGE/downloads` for `{"package": "...", "last_week": 7}`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this program talks to a person")]

mod busy_server;
mod stats;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let outcome = match words.next() {
        None => stats::run_offline(|line| println!("{line}")).await,
        Some(url) => stats::run(&url, &words.collect::<Vec<_>>(), |line| println!("{line}")).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("That failed: {failure}");
            ExitCode::FAILURE
        }
    }
}
