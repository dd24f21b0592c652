//! A tour in two acts. Sampling: one sample, then fifty at once through a rate limit and a capacity pause. Training: a
//! model learns a text, and is sampled before and after. `--metrics ADDRESS` adds a third: operations, a minute of
//! steady load with three troubles for a dashboard to show.
//!
//! `cargo xtask demo` runs it against an embedded server. `--url URL` with `TINKER_API_KEY` runs the same program
//! against a real one; `--model NAME` picks the base model.

#![allow(clippy::print_stdout, reason = "this program talks to a person")]

mod operations;
mod report;
mod sampling;
#[path = "../sft/training.rs"]
mod sft;
#[path = "../terminal/mod.rs"]
mod terminal;
mod training;
mod trouble;
mod watch;
mod wrapped;

use std::process::ExitCode;

use report::Report;
use terminal::{Connection, Failure, Screen};
use tinkex_client::FinishReason;
use trouble::Embedded;

/// Samples in flight at once; the rest wait their turn, so that there is something to watch.
const IN_FLIGHT: usize = 16;

#[tokio::main]
async fn main() -> ExitCode {
    let (report, recorder) = Report::new();
    let embedded = Embedded::new();
    terminal::run_measured("cargo xtask demo --", &embedded.server, recorder, async |connection, screen| {
        tour(connection, screen, &embedded, &report).await
    })
    .await
}

async fn tour(
    connection: &Connection,
    screen: &Screen,
    embedded: &Embedded,
    report: &Report,
) -> Result<(), Failure> {
    let tokenizer = connection.tokenizer.as_ref();
    let service = connection.service().await?;
    let sampler =
        service.sampling_client().base_model(&connection.model).max_in_flight(IN_FLIGHT).create().await?;
    screen.line(&format!(
        "Connected: session {}, sampler {} on {}.\n",
        service.session_id().as_deref().unwrap_or("-"),
        sampler.sampling_session_id(),
        sampler.base_model()
    ));

    sampling::one(&sampler, tokenizer, screen).await?;
    if connection.is_embedded() {
        embedded.make_trouble();
    }
    sampling::fan_out(&service, &sampler, tokenizer, screen, report).await?;
    screen.line(&format!("{}\n", report.table()));

    embedded.calm_down(connection.is_measured());
    training::act(&service, connection, screen).await?;
    if connection.is_measured() {
        match connection.is_embedded() {
            true => operations::act(&service, connection, embedded, screen).await?,
            false => {
                screen.line("\nTroubles on demand are for the embedded server; so there is no third act.")
            }
        }
    }
    let left = service.inflight();
    if !left.is_empty() {
        screen.line(&left.to_string());
    }
    service.close(FinishReason::Success).await?;
    Ok(())
}
