//! Reinforcement learning: the model samples, a program scores the samples, and the good ones become more likely.
//!
//! The reward is the share of vowels: of no use, but anyone can check it. `cargo run -p tinkex-client --example rl` needs no key: it
//! trains on an embedded server. `--url URL`, with the key in `TINKER_API_KEY`, trains on a real one; `--model NAME`
//! picks the base model. The loop is in `training.rs`.

#![allow(clippy::print_stdout, reason = "this program talks to a person")]

#[path = "../terminal/mod.rs"]
mod terminal;
mod training;

use std::process::ExitCode;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use terminal::{Connection, Failure, Screen};
use tinkex_client::{FinishReason, ModelInput, SampleRequest, SamplingParams, Tokenizer, TrainingClient};
use tinkex_testkit::FakeServer;

#[tokio::main]
async fn main() -> ExitCode {
    terminal::run("cargo run -p tinkex-client --example rl --", &FakeServer::new(), rl).await
}

async fn rl(connection: &Connection, screen: &Screen) -> Result<(), Failure> {
    let tokenizer = connection.tokenizer.as_ref();
    let service = connection.service().await?;
    let trainer =
        service.lora_training_client(&connection.model).rank(training::RANK).seed(1).create().await?;
    let before = answers(&trainer, tokenizer).await?;

    let learning_rate = connection.learning_rate(training::learning_rate);
    let bar = screen.bar(training::STEPS);
    let rewards = training::train(&trainer, tokenizer, learning_rate, |reward| {
        bar.set_message(format!("mean reward {reward:.2}"));
        bar.inc(1);
    })
    .await?;
    bar.finish_and_clear();

    let after = answers(&trainer, tokenizer).await?;
    service.close(FinishReason::Success).await?;

    screen.line(&terminal::curve("Mean reward, the share of vowels:", &rewards));
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["prompt", "answer before", "reward", "answer after", "reward"]);
    for ((prompt, before), after) in training::PROMPTS.iter().zip(&before).zip(&after) {
        let reward = |answer: &str| format!("{:.2}", training::reward(answer));
        // Quoted, since a model may well answer with control characters.
        let quoted = |answer: &str| format!("{answer:?}");
        table.add_row([quoted(prompt), quoted(before), reward(before), quoted(after), reward(after)]);
    }
    screen.line(&format!("\n{table}\n"));
    // Rewards are noisy from step to step, so compare means over a quarter of the run.
    let quarter = rewards.len() / 4;
    let mean = |rewards: &[f64]| rewards.iter().sum::<f64>() / rewards.len() as f64;
    let (first, last) = (mean(&rewards[..quarter]), mean(&rewards[rewards.len() - quarter..]));
    if last <= first {
        return Err(format!("the mean reward did not rise: {first:.2} at first, {last:.2} at last; try another --learning-rate").into());
    }
    screen.line(&format!("The mean reward rose from {first:.2} to {last:.2}."));
    Ok(())
}

/// An answer to each prompt, as the trainer's weights are now.
async fn answers(trainer: &TrainingClient, tokenizer: &dyn Tokenizer) -> Result<Vec<String>, Failure> {
    let sampler = trainer.save_weights_and_get_sampling_client().await?;
    let mut answers = Vec::new();
    for prompt in training::PROMPTS {
        let params = SamplingParams::new().max_tokens(20).seed(7);
        let prompt = ModelInput::from_text(prompt, tokenizer)?;
        let reply = sampler.sample(SampleRequest::new(prompt, params)).await?;
        answers.push(tokenizer.decode(&reply.sequences[0].tokens)?);
    }
    Ok(answers)
}
