//! Measures what the client costs: side by side with a bare `reqwest` loop that does the same bytes and with the
//! official Python SDK, against the same server process.
//!
//! `cargo xtask bench` runs it in release mode. Server and contenders are processes of their own, and contenders run
//! in turn, because machines are noisy: what counts is the ratio within a round.

#![allow(clippy::print_stdout, reason = "this program talks to a person")]

mod cell;
mod command_line;
mod contender;
mod driver;
mod instructions;
mod laboratory;
mod lead;
mod machine;
mod meter;
mod method;
mod operations;
mod pinning;
mod plan;
mod reading;
mod report;
mod rounds;
mod server;
mod statistics;
mod wire;

use std::process::ExitCode;

use command_line::Role;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let outcome =
        command_line::parse(std::env::args().skip(1)).map_err(AnyError::from).and_then(|role| match role {
            Role::Serve => server::run(),
            Role::Work { contender, url, cell } => {
                let reading = contender::work(contender, url, cell)?;
                println!("{}", serde_json::to_string(&reading)?);
                Ok(())
            }
            Role::Count { operation, repetitions } => instructions::repeat(&operation, repetitions),
            Role::Lead(options) => lead::run(&options),
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A runtime with a thread for each core that this process may use.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
}
