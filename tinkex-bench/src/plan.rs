//! What is run: the cells of each size, and who runs them how often.

use crate::AnyError;
use crate::cell::{Cell, Load, Polling};
use crate::command_line::{Options, Size};
use crate::contender::{Contender, Python};
use crate::laboratory::Laboratory;
use crate::pinning::Pinning;
use crate::rounds::Rounds;
use crate::terminal;

/// The most samples in flight that the Python SDK is asked for: beyond, a run takes minutes.
const MOST_FOR_PYTHON: usize = 400;

/// A cell, and who does it how often.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Task {
    pub(crate) cell: Cell,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) rounds: usize,
}

/// Runs what the options say.
pub(crate) fn run(options: &Options) -> Result<(), AnyError> {
    let pinning = Pinning::find();
    let python = Python::find(options.python.as_deref());
    if let Err(missing) = &python {
        println!("the Python SDK is left out: {missing}");
    }
    let mut laboratory = Laboratory::open(pinning, python.ok())?;
    let sampling = measure(&mut laboratory, &sampling(options))?;
    println!("{}", terminal::sampling(&sampling));
    Ok(())
}

fn measure(laboratory: &mut Laboratory, tasks: &[Task]) -> Result<Vec<Rounds>, AnyError> {
    let mut measured = Vec::new();
    for (number, task) in tasks.iter().enumerate() {
        println!("{}/{}: {}", number + 1, tasks.len(), task.cell);
        measured.push(Rounds::run(laboratory, task)?);
    }
    Ok(measured)
}

/// Samples as fast as they go.
pub(crate) fn sampling(options: &Options) -> Vec<Task> {
    let (prompts, in_flight, rounds): (&[usize], &[usize], usize) = match options.size {
        Size::Smoke => (&[256], &[4], 2),
        Size::Quick => (&[2_048], &[64], 3),
        Size::Usual => (&[256, 2_048, 16_384], &[1, 64, 400], 10),
        Size::Full => (&[256, 2_048, 16_384], &[1, 64, 400, 4_000, 10_000], 10),
    };
    let only =
        |chosen: Option<usize>, usual: &[usize]| chosen.map_or_else(|| usual.to_vec(), |one| vec![one]);
    let mut tasks = Vec::new();
    for polling in [Polling::PerRequest, Polling::Session] {
        for &prompt_tokens in &only(options.prompt_tokens, prompts) {
            for &in_flight in &only(options.in_flight, in_flight) {
                let measured =
                    options.samples.unwrap_or_else(|| samples(options.size, prompt_tokens, in_flight));
                let load = Load::Samples { warm_up: measured / 5, measured };
                let cell = Cell { prompt_tokens, in_flight, reply_ms: 0, polling, load };
                let all = Contender::ALL.into_iter();
                let contenders =
                    all.filter(|who| *who != Contender::Python || in_flight <= MOST_FOR_PYTHON).collect();
                tasks.push(Task { cell, contenders, rounds: options.rounds.unwrap_or(rounds) });
            }
        }
    }
    tasks
}

/// About a second's worth.
fn samples(size: Size, prompt_tokens: usize, in_flight: usize) -> usize {
    if size == Size::Smoke {
        return 40;
    }
    let by_prompt = if prompt_tokens > 4_096 { 2_500 } else { 10_000 };
    let by_latency = if in_flight == 1 { 4_000 } else { usize::MAX };
    by_prompt.min(by_latency).max(2 * in_flight)
}
