//! Reading recorded traffic with `tinkex-types` alone: what a client and its server said to each other, in words.
//!
//! `cargo run -p tinkex-types --example read_recording -- FILE...`; without a file it reads the small recording beside it. A
//! recording is a JSON object with `exchanges`, each a `request` and a `response` (or one of each), whose bodies are in `body`,
//! or in `body_base64` where they are protobuf.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this program talks to a person")]

mod recording;
mod words;

use std::process::ExitCode;

use recording::Recording;

fn main() -> ExitCode {
    let files: Vec<_> = std::env::args().skip(1).collect();
    let read = if files.is_empty() {
        println!("No file was named, so this is the recording that comes with the example.\n");
        Recording::own().and_then(|own| words::tell(&[own]))
    } else {
        files
            .iter()
            .map(Recording::from_file)
            .collect::<Result<Vec<_>, _>>()
            .and_then(|all| words::tell(&all))
    };
    match read {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("That failed: {failure}");
            ExitCode::FAILURE
        }
    }
}
