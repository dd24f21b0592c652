//! Trains what a file says and prints the losses: one side of a comparison with another client of the same server.
//!
//! `training_reference JOB --url URL`, with the key in `TINKER_API_KEY`. `JOB` is a JSON file:
//!
//! ```json
//! {
//!   "base_model": "Qwen/Qwen3-8B", "rank": 8, "seed": 1, "steps": 20, "learning_rate": 0.05,
//!   "data": [{"tokens": [72, 101], "target_tokens": [101, 121], "weights": [1.0, 1.0]}]
//! }
//! ```
//!
//! All steps are cross-entropy with Adam and are sent without waiting in between. One line of JSON comes out: `losses`,
//! the loss before each step and, last, after the final one, and `logprobs`, those of every target after the final step,
//! one list per datum.

#![allow(clippy::print_stdout, reason = "the numbers on standard output are this program's interface")]

use std::error::Error;

use serde::Deserialize;
use tinkex_client::{AdamParams, Datum, FinishReason, ForwardBackwardOutput, LossFn, ServiceClient};

const USAGE: &str = "usage: training_reference JOB --url URL";

#[derive(Deserialize)]
struct Job {
    base_model: String,
    rank: u32,
    seed: u64,
    steps: usize,
    learning_rate: f64,
    data: Vec<Lesson>,
}

#[derive(Deserialize)]
struct Lesson {
    tokens: Vec<i32>,
    target_tokens: Vec<i64>,
    weights: Vec<f32>,
}

impl From<Lesson> for Datum {
    fn from(lesson: Lesson) -> Self {
        Datum::new(lesson.tokens).target_tokens(lesson.target_tokens).weights(lesson.weights)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [file, flag, url] = words.as_slice() else { return Err(USAGE.into()) };
    if flag != "--url" {
        return Err(USAGE.into());
    }
    let job: Job = serde_json::from_slice(&std::fs::read(file)?)?;
    let data: Vec<Datum> = job.data.into_iter().map(Datum::from).collect();

    let service = ServiceClient::builder().from_env().base_url(url).build().await?;
    let client = service.lora_training_client(&job.base_model).rank(job.rank).seed(job.seed).create().await?;
    let mut passes = Vec::with_capacity(job.steps);
    let mut steps = Vec::with_capacity(job.steps);
    for _ in 0..job.steps {
        passes.push(client.forward_backward(data.clone(), LossFn::CrossEntropy));
        steps.push(client.optim_step(AdamParams::new(job.learning_rate)));
    }
    let last = client.forward(data, LossFn::CrossEntropy);

    let mut losses = Vec::with_capacity(job.steps + 1);
    for (pass, step) in passes.into_iter().zip(steps) {
        losses.push(loss(&pass.await?)?);
        step.await?;
    }
    let last = last.await?;
    losses.push(loss(&last)?);
    let logprobs: Vec<_> = last.loss_fn_outputs.iter().map(|output| output.logprobs()).collect();
    println!("{}", serde_json::json!({ "losses": losses, "logprobs": logprobs }));
    service.close(FinishReason::Success).await?;
    Ok(())
}

fn loss(output: &ForwardBackwardOutput) -> Result<f64, &'static str> {
    output.loss().ok_or("the server told no loss")
}
