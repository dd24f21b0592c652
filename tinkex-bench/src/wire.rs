//! What putting requests on the wire and reading results costs in time, each beside a plain copy of as many bytes in
//! the same run.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::AnyError;
use crate::command_line::Size;
use crate::operations::{self, Cut, Operation};

/// Runs before measuring, so that no measured one meets cold code.
const WARM_UP: usize = 3;

/// What one piece of work took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Timing {
    pub(crate) name: String,
    pub(crate) bytes: usize,
    /// The median, which includes giving back what it made.
    pub(crate) milliseconds: f64,
    /// The same for a copy of the bytes.
    pub(crate) copy_milliseconds: f64,
    /// The longest time allowed; none is not judged.
    pub(crate) target_milliseconds: Option<f64>,
}

/// The name of the piece of work that has a target of its own in the issue.
pub(crate) const LONG_PROMPT: &str = "encode asample, 32768 tokens";

/// Times everything.
pub(crate) fn run(size: Size) -> Result<Vec<Timing>, AnyError> {
    let runs = if size == Size::Smoke { 3 } else { 51 };
    let mut timings = Vec::new();
    let mut time = |name: &str, operation: &Operation, target_milliseconds| -> Result<(), AnyError> {
        let bytes = operation.pieces.iter().map(bytes::Bytes::len).sum();
        let milliseconds = median(runs, || operation.run())?;
        let copy_milliseconds = median(runs, operations::copy(&operation.pieces))?;
        let name = name.to_owned();
        timings.push(Timing { name, bytes, milliseconds, copy_milliseconds, target_milliseconds });
        Ok(())
    };
    for tokens in [256, 2_048, 16_384] {
        time(&format!("encode asample, {tokens} tokens"), &operations::encode_asample(tokens)?, None)?;
    }
    time(LONG_PROMPT, &operations::encode_asample(32_768)?, Some(0.5))?;
    time("decode sample, 32 tokens", &operations::decode_sample()?, None)?;
    if size != Size::Smoke {
        let encode = operations::encode_forward_backward;
        time("encode forward_backward, 128 x 2048 tokens", &encode(128, 2_048, Cut::Usual)?, Some(5.0))?;
        time("encode forward_backward, 512 x 4096 tokens", &encode(512, 4_096, Cut::Usual)?, Some(60.0))?;
        // No request is as long; there the time is that of the pages such a buffer needs, also for the copy.
        time("the same in one body", &encode(512, 4_096, Cut::Whole)?, None)?;
    }
    time("decode 512 x 4096 logprobs", &operations::decode_forward_backward(512, 4_096)?, Some(4.0))?;
    Ok(timings)
}

/// The median time of a run, in milliseconds.
fn median<E>(runs: usize, run: impl Fn() -> Result<(), E>) -> Result<f64, E> {
    let mut times = Vec::with_capacity(runs);
    for n in 0..WARM_UP + runs {
        let start = Instant::now();
        run()?;
        let took: Duration = start.elapsed();
        if n >= WARM_UP {
            times.push(took);
        }
    }
    times.sort_unstable();
    Ok(times.get(runs / 2).copied().unwrap_or_default().as_secs_f64() * 1e3)
}
