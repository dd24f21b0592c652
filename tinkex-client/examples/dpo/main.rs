//! Direct preference optimisation: of two answers to a question, the preferred one becomes more likely. The loss is
//! computed in this process, so any loss can take its place.
//!
//! `cargo run -p tinkex-client --example dpo` needs no key: it trains on an embedded server. `--url URL`, with the key in
//! `TINKER_API_KEY`, trains on a real one; `--model NAME` picks the base model. The loop is in `training.rs`.

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

#[tokio::main]
async fn main() -> ExitCode {
    terminal::run("cargo run -p tinkex-client --example dpo --", &FakeServer::new(), dpo).await
}

async fn dpo(connection: &Connection, screen: &Screen) -> Result<(), Failure> {
    let service = connection.service().await?;
    let trainer =
        service.lora_training_client(&connection.model).rank(training::RANK).seed(1).create().await?;
    let data = training::data(connection.tokenizer.as_ref())?;
    let before = training::score(&trainer, data.clone()).await?;

    let learning_rate = connection.learning_rate(training::learning_rate);
    let bar = screen.bar(training::STEPS);
    let steps = training::train(&trainer, data.clone(), learning_rate, |now| {
        bar.set_message(format!("margin {:.2}, accuracy {:.2}", now.margin, now.accuracy));
        bar.inc(1);
    })
    .await?;
    bar.finish_and_clear();

    let after = training::score(&trainer, data).await?;
    service.close(FinishReason::Success).await?;

    let margins: Vec<f64> = steps.iter().map(|step| step.margin).collect();
    screen.line(&terminal::curve("Margin between preferred and rejected answers:", &margins));
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["question", "answer", "before", "after"]);
    let answers = training::PAIRS.iter().flat_map(|[question, preferred, rejected]| {
        [(*question, format!("+{preferred}")), ("", format!("-{rejected}"))]
    });
    for ((question, answer), (before, after)) in answers.zip(before.iter().zip(&after)) {
        table.add_row([question.to_owned(), answer, format!("{before:.1}"), format!("{after:.1}")]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    screen.line(&format!("\nLog-probabilities of preferred (+) and rejected (-) answers:\n{table}\n"));
    let accuracy = steps.last().map_or(0.0, |step| step.accuracy);
    let margin = margins.last().copied().unwrap_or(0.0);
    let followed =
        format!("{:.0} % of the preferences are followed, by a mean margin of {margin:.2}", 100.0 * accuracy);
    if accuracy <= 0.5 || margin < 0.05 {
        return Err(format!("only {followed}; try another --learning-rate").into());
    }
    screen.line(&format!("{followed}."));
    Ok(())
}
