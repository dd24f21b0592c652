//! What is run: the cells of each size, and who runs them how often.

use crate::cell::{Cell, Load, Polling};
use crate::command_line::{Options, Size};
use crate::contender::Contender;

/// The most samples in flight that the Python SDK is asked for: beyond, a run takes minutes.
pub(crate) const MOST_FOR_PYTHON: usize = 400;

/// A cell, and who does it how often.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Task {
    pub(crate) cell: Cell,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) rounds: usize,
}

/// Samples as fast as they go.
pub(crate) fn sampling(options: &Options) -> Vec<Task> {
    let (prompts, in_flight, rounds): (&[usize], &[usize], usize) = match options.size {
        Size::Smoke => (&[256], &[4], 2),
        Size::Quick => (&[2_048], &[64], 3),
        Size::Usual => (&[256, 2_048, 16_384], &[1, 64, 400], 10),
        Size::Full => (&[256, 2_048, 16_384], &[1, 64, 400, 4_000, 10_000], 10),
    };
    as_fast_as_they_go(options, prompts, in_flight, rounds, |in_flight| {
        let all = Contender::SIDE_BY_SIDE.into_iter();
        all.filter(|who| *who != Contender::Python || in_flight <= MOST_FOR_PYTHON).collect()
    })
}

/// What recording metrics costs: the client with and without a recorder.
pub(crate) fn metrics(options: &Options) -> Vec<Task> {
    let (prompts, in_flight, rounds): (&[usize], &[usize], usize) = match options.size {
        Size::Smoke => (&[256], &[4], 1),
        Size::Quick => (&[256], &[64], 3),
        Size::Usual | Size::Full => (&[256, 2_048], &[1, 64], 10),
    };
    as_fast_as_they_go(options, prompts, in_flight, rounds, |_| vec![Contender::Tinkex, Contender::Measured])
}

/// A cell for each prompt, number in flight and way of polling, with a server that answers at once.
fn as_fast_as_they_go(
    options: &Options,
    prompts: &[usize],
    in_flight: &[usize],
    rounds: usize,
    contenders: impl Fn(usize) -> Vec<Contender>,
) -> Vec<Task> {
    let mut tasks = Vec::new();
    for polling in [Polling::PerRequest, Polling::Session] {
        for &prompt_tokens in &only(options.prompt_tokens, prompts) {
            for &in_flight in &only(options.in_flight, in_flight) {
                let measured =
                    options.samples.unwrap_or_else(|| samples(options.size, prompt_tokens, in_flight));
                let load = Load::Samples { warm_up: measured / 5, measured };
                let http = options.http;
                let cell = Cell { prompt_tokens, in_flight, reply_ms: 0, polling, load, http };
                let rounds = options.rounds.unwrap_or(rounds);
                tasks.push(Task { cell, contenders: contenders(in_flight), rounds });
            }
        }
    }
    tasks
}

/// Thousands of samples that take 5 s, begun evenly and at once.
pub(crate) fn inflight(options: &Options) -> Vec<Task> {
    let (prompts, in_flight, seconds, rounds): (&[usize], &[usize], u64, usize) = match options.size {
        Size::Smoke => (&[256], &[20], 1, 1),
        Size::Quick => (&[256], &[4_000], 12, 1),
        Size::Usual => (&[256], &[4_000, 10_000], 25, 1),
        Size::Full => (&[256, 2_048], &[1_000, 4_000, 10_000], 40, 3),
    };
    let reply_ms = if options.size == Size::Smoke { 200 } else { 5_000 };
    let mut tasks = Vec::new();
    for polling in [Polling::PerRequest, Polling::Session] {
        for &prompt_tokens in &only(options.prompt_tokens, prompts) {
            for &in_flight in &only(options.in_flight, in_flight) {
                let evenly = Load::Steady { measured_ms: seconds * 1_000 };
                let at_once = Load::Samples { warm_up: 0, measured: in_flight };
                for load in [evenly, at_once] {
                    let http = options.http;
                    let cell = Cell { prompt_tokens, in_flight, reply_ms, polling, load, http };
                    let contenders = vec![Contender::Tinkex, Contender::Bare];
                    tasks.push(Task { cell, contenders, rounds: options.rounds.unwrap_or(rounds) });
                }
            }
        }
    }
    tasks
}

/// What the person chose, or else what is usual.
fn only(chosen: Option<usize>, usual: &[usize]) -> Vec<usize> {
    chosen.map_or_else(|| usual.to_vec(), |one| vec![one])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_plan_has_what_the_targets_need() {
        let options = Options::default();
        let sampling = sampling(&options);
        assert!(sampling.iter().all(|task| task.rounds >= 10));
        for prompt_tokens in [256, 2_048, 16_384] {
            assert!(sampling.iter().any(|task| task.cell.prompt_tokens == prompt_tokens));
        }
        for in_flight in [4_000, 10_000] {
            assert!(inflight(&options).iter().any(|task| task.cell.in_flight == in_flight));
        }
    }

    #[test]
    fn the_full_plan_goes_from_1_to_10000_in_flight_and_spares_the_python_sdk_the_most() {
        let tasks = sampling(&Options { size: Size::Full, ..Options::default() });
        for polling in [Polling::PerRequest, Polling::Session] {
            for in_flight in [1, 10_000] {
                let wanted = |task: &&Task| task.cell.in_flight == in_flight && task.cell.polling == polling;
                assert_eq!(tasks.iter().filter(wanted).count(), 3);
            }
        }
        for task in tasks {
            let python = task.contenders.contains(&Contender::Python);
            assert_eq!(python, task.cell.in_flight <= MOST_FOR_PYTHON, "{}", task.cell);
        }
    }

    #[test]
    fn what_the_person_chooses_replaces_the_grid() {
        let options =
            Options { in_flight: Some(7), prompt_tokens: Some(9), rounds: Some(2), ..Options::default() };
        let tasks = sampling(&options);
        assert_eq!(tasks.len(), 2);
        assert!(tasks.iter().all(|task| task.cell.in_flight == 7 && task.cell.prompt_tokens == 9));
        assert!(tasks.iter().all(|task| task.rounds == 2));
    }
}
