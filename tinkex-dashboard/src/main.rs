//! Runs the demo with a real Prometheus beside it, and draws the dashboard over the run.
//!
//! `cargo xtask dashboard` builds the demo and calls this program with the demo's path and the picture's.

#![allow(clippy::print_stdout, reason = "this program talks to a person")]

mod demo;

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use tinkex_dashboard::dashboard::{Dashboard, TEXT};
use tinkex_dashboard::prometheus::{Program, Server};
use tinkex_dashboard::{Failure, picture};

fn main() -> ExitCode {
    let words: Vec<_> = env::args().skip(1).collect();
    let outcome = match words.as_slice() {
        [demo, out] => run(demo.as_ref(), out.as_ref()),
        _ => Err("usage: tinkex-dashboard DEMO PICTURE; `cargo xtask dashboard` knows both".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(demo: &Path, out: &Path) -> Result<(), Failure> {
    let dashboard = Dashboard::read(TEXT)?;
    let program = Program::find("prometheus")?;
    let address = demo::free_address()?;
    // It scrapes before there is anything to scrape, so that the run is seen from its beginning.
    let prometheus = Server::start(&program, address, "1s")?;
    let stretch = demo::run(demo, address)?;
    fs::write(out, picture::draw(&dashboard, prometheus.api(), &stretch)?)?;
    println!("\nThe dashboard over this run: {}", out.display());
    Ok(())
}
