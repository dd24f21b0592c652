//! Checkpoints: a run is stopped halfway and goes on in another session, and its losses are those of a run that was
//! never stopped.
//!
//! `cargo run -p tinkex-client --example resume` needs no key: it trains on an embedded server. `--url URL`, with the key in
//! `TINKER_API_KEY`, trains on a real one; `--model NAME` picks the base model. The run is in `training.rs`.

#![allow(clippy::print_stdout, reason = "this program talks to a person")]

#[path = "../terminal/mod.rs"]
mod terminal;
mod training;

use std::process::ExitCode;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use terminal::{Connection, Failure, Screen};
use tinkex_client::FinishReason;
use tinkex_testkit::FakeServer;
use training::{Recipe, STEPS, STOP};

#[tokio::main]
async fn main() -> ExitCode {
    terminal::run("cargo run -p tinkex-client --example resume --", &FakeServer::new(), resume).await
}

async fn resume(connection: &Connection, screen: &Screen) -> Result<(), Failure> {
    let learning_rate = connection.learning_rate(training::learning_rate);
    let recipe = Recipe::new(&connection.model, learning_rate, connection.tokenizer.as_ref())?;
    let bar = screen.bar(3 * STEPS - STOP);
    let watch = |run: &'static str| {
        let bar = bar.clone();
        move |loss: f64| {
            bar.set_message(format!("{run}: loss {loss:.3} per token"));
            bar.inc(1);
        }
    };

    let service = connection.service().await?;
    let trainer = recipe.start(&service).await?;
    let whole = recipe.train(&trainer, 0..STEPS, watch("without a stop")).await?;
    let (mut resumed, path) = training::until_stop(&service, &recipe, watch("until the stop")).await?;
    service.close(FinishReason::Success).await?;

    // Nothing is left of the first session but the path.
    screen.line(&format!("Stopped after {STOP} steps; the checkpoint is {path}.\n"));
    let service = connection.service().await?;
    resumed.extend(training::from_stop(&service, &recipe, &path, watch("resumed")).await?);
    let fresh =
        training::from_stop_without_optimizer(&service, &recipe, &path, watch("with a new optimizer"))
            .await?;
    service.close(FinishReason::Success).await?;
    bar.finish_and_clear();

    screen.line(&terminal::curve("Loss per token of the resumed run:", &resumed));
    screen.line(&table(&whole, &resumed, &fresh));
    // A large model on many processors does not add up in the same order twice.
    let tolerance = if connection.is_embedded() { 1e-6 } else { 0.05 };
    let differences: Vec<f64> = whole.iter().zip(&resumed).map(|(a, b)| (a - b).abs()).collect();
    let largest = differences.iter().copied().fold(0.0, f64::max);
    // A loss that is no number has no difference either.
    if differences.len() != STEPS || !differences.iter().all(|difference| *difference <= tolerance) {
        return Err(
            format!("the resumed run differs by {} from the one without a stop", short(largest)).into()
        );
    }
    screen.line(&format!("The losses of the two runs differ by {} at most.", short(largest)));
    Ok(())
}

fn table(whole: &[f64], resumed: &[f64], fresh: &[f64]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["step", "without a stop", "resumed", "difference", "with a new optimizer"]);
    for (step, (whole, resumed)) in whole.iter().zip(resumed).enumerate() {
        if step == STOP {
            table.add_row(["", "", "-- stop --", "", ""]);
        }
        let fresh = step.checked_sub(STOP).map_or(String::new(), |n| format!("{:.6}", fresh[n]));
        let difference = short((whole - resumed).abs());
        table.add_row([
            (step + 1).to_string(),
            format!("{whole:.6}"),
            format!("{resumed:.6}"),
            difference,
            fresh,
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("\n{table}\n")
}

/// A difference in few characters.
fn short(difference: f64) -> String {
    if difference == 0.0 { "0".to_owned() } else { format!("{difference:.1e}") }
}
