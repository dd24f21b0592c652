//! Supervised fine-tuning: a model learns a short text by heart, and recites it.
//!
//! `cargo run -p tinkex-client --example sft` needs no key: it trains on an embedded server. `--url URL`, with the key in
//! `TINKER_API_KEY`, trains on a real one; `--model NAME` picks the base model. The loop is in `training.rs`.

#![allow(clippy::print_stdout, reason = "this program talks to a person")]

#[path = "../terminal/mod.rs"]
mod terminal;
mod training;

use std::process::ExitCode;

use comfy_table::{ContentArrangement, Table};
use terminal::{Connection, Failure, Screen};
use tinkex_client::FinishReason;
use tinkex_testkit::FakeServer;

#[tokio::main]
async fn main() -> ExitCode {
    terminal::run("cargo run -p tinkex-client --example sft --", &FakeServer::new(), sft).await
}

async fn sft(connection: &Connection, screen: &Screen) -> Result<(), Failure> {
    let tokenizer = connection.tokenizer.as_ref();
    let service = connection.service().await?;
    let trainer =
        service.lora_training_client(&connection.model).rank(training::RANK).seed(1).create().await?;
    let before = training::recite(&trainer.save_weights_and_get_sampling_client().await?, tokenizer).await?;

    let example = training::example(tokenizer)?;
    let learning_rate = connection.learning_rate(training::learning_rate);
    let bar = screen.bar(training::STEPS);
    let losses = training::train(&trainer, &example, learning_rate, |loss| {
        bar.set_message(format!("loss {loss:.3} per character"));
        bar.inc(1);
    })
    .await?;
    bar.finish_and_clear();

    // The sampler keeps the weights of this moment, whatever the trainer does next.
    let sampler = trainer.save_weights_and_get_sampling_client().await?;
    let after = training::recite(&sampler, tokenizer).await?;
    service.close(FinishReason::Success).await?;

    screen.line(&terminal::curve("Loss per character of the text:", &losses));
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(78);
    table.add_row(["asked", training::PROMPT]);
    table.add_row(["taught", training::TEXT]);
    table.add_row(["before", &before]);
    table.add_row(["after", &after]);
    screen.line(&format!("\n{table}"));
    if after != training::TEXT {
        let (first, last) = (losses.first().unwrap_or(&0.0), losses.last().unwrap_or(&0.0));
        return Err(
            format!("the text was not learned by heart; the loss went from {first:.3} to {last:.3}; try another --learning-rate").into()
        );
    }
    screen.line("The text was learned by heart.");
    Ok(())
}
