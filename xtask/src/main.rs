//! The project's checks and chores: `cargo xtask help` lists them.
//!
//! The program stays light on purpose: its one ordinary dependency is `serde_json`, so the first `cargo xtask test` on
//! a fresh machine compiles the project, not a second world. The protobuf compiler of `cargo xtask proto` sits behind
//! the feature `proto`; the command rebuilds itself with it when needed.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a command-line tool prints to its terminal and measures wall-clock time; no tokio runtime lives here"
)]

mod bench;
mod ci;
mod command_line;
mod conformance;
mod dashboard;
mod demo;
mod lint;
mod process;
mod proto;
mod table;
mod test;
mod transports;
mod workspace;

use std::process::ExitCode;

use command_line::Command;
use workspace::Workspace;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = command_line::parse(&arguments).and_then(|command| {
        let workspace = Workspace::here();
        match command {
            Command::Help => {
                print!("{}", command_line::help());
                Ok(())
            }
            Command::Test(suite) => test::run(&workspace, suite),
            Command::Demo(extra) => demo::run(&workspace, &extra),
            Command::Lint => lint::run(&workspace),
            Command::Proto { check } => proto::run(&workspace, check),
            Command::Conformance => conformance::run(&workspace),
            Command::Bench(part, extra) => bench::run(&workspace, part, &extra),
            Command::Dashboard => dashboard::run(&workspace),
            Command::Ci => ci::run(&workspace),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
