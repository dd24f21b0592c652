//! What putting training on the wire costs: encoding batches and decoding results as protobuf, each beside a plain
//! copy of as many bytes in the same run.
//!
//! Batches are cut into requests as the client cuts them, with the default limits. The last line puts a whole batch into
//! one body of 42 MB, which no request has; there the time is that of the pages such a buffer needs, also for the copy.
//!
//! `cargo run --release -p tinkex-types --example bench_wire` prints a table and fails where a target is missed. A
//! build without optimisation measures nothing worth having, so there the targets are only printed.

#![allow(clippy::print_stdout)] // a program talks to its user

use std::convert::Infallible;
use std::error::Error;
use std::hint::black_box;
use std::ops::Range;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use tinkex_types::{
    ChunkLimits, ClientConfig, Datum, ForwardBackwardBody, ForwardBackwardOutput, Loss, LossFn, chunk_ranges,
    proto,
};

/// Runs before measuring, so that no measured one meets cold code.
const WARM_UP: usize = 3;

/// Measured runs; the table shows their median.
const RUNS: usize = 25;

type AnyError = Box<dyn Error>;

/// The longest time allowed, in milliseconds; none is not judged.
type Target = Option<f64>;

fn main() -> Result<ExitCode, AnyError> {
    let judged = !cfg!(debug_assertions);
    println!("{:<40}{:>10}{:>10}{:>10}{:>12}  target", "", "bytes", "ms", "GB/s", "copy GB/s");
    let limits = ChunkLimits::from(&ClientConfig::default());
    let whole = ChunkLimits { max_len: usize::MAX, max_bytes: u64::MAX };
    let met = [
        encoding(128, 2_048, &limits, Some(5.0))?,
        encoding(512, 4_096, &limits, Some(60.0))?,
        decoding(512, 4_096, Some(4.0))?,
        encoding(512, 4_096, &whole, None)?,
    ];
    let missed = met.contains(&false);
    match (missed, judged) {
        (true, true) => println!("A target was missed."),
        (_, false) => println!("Targets are judged in release builds only."),
        (false, true) => println!("All targets were met; medians of {RUNS} runs."),
    }
    Ok(if missed && judged { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A batch of `datums` examples of `tokens` tokens with three tensors each, to protobuf.
fn encoding(datums: usize, tokens: usize, limits: &ChunkLimits, target: Target) -> Result<bool, AnyError> {
    let data: Vec<_> = (0..datums).map(|n| example(n, tokens)).collect();
    let loss = Loss::from(LossFn::ImportanceSampling);
    let chunks = || chunk_ranges(data.iter().map(Datum::estimated_bytes), limits);
    let encode = |range: Range<usize>| {
        let data = data.get(range).unwrap_or_default();
        ForwardBackwardBody { model_id: "session:train:0", seq_id: 1, data, loss: &loss, forward_only: false }
            .to_protobuf()
    };
    let bodies = chunks().into_iter().map(encode).collect::<Result<Vec<_>, _>>()?;
    let took = median(|| chunks().into_iter().try_for_each(|range| encode(range).map(drop_seen)))?;
    let requests = bodies.len();
    Ok(report(&format!("encode {datums} x {tokens} tokens, {requests} bodies"), &bodies, took, target))
}

fn example(n: usize, tokens: usize) -> Datum {
    let ids = (0..tokens).map(|t| ((n + t) % 100_000) as i32);
    let floats = |scale: f32| (0..tokens).map(move |t| t as f32 * scale);
    Datum::new(ids.clone().collect::<Vec<_>>())
        .target_tokens(ids)
        .weights(floats(0.5))
        .advantages(floats(-0.25))
}

/// The log-probabilities of `datums` examples of `tokens` tokens, from protobuf.
fn decoding(datums: usize, tokens: usize, target: Target) -> Result<bool, AnyError> {
    let data: Vec<u8> = (0..datums * tokens).flat_map(|n| (-(n as f32)).to_le_bytes()).collect();
    let offsets: Vec<u8> = (0..=datums).flat_map(|n| ((n * tokens * 4) as i64).to_le_bytes()).collect();
    let logprobs = proto::BatchedTensor {
        data: data.into(),
        offsets: offsets.into(),
        dtype: proto::DType::DtypeFloat32.into(),
        trailing_shape: Vec::new(),
    };
    let record = proto::ArrayRecord {
        fields: [("logprobs".to_owned(), logprobs)].into(),
        num_datums: datums as i64,
        ..Default::default()
    };
    let message = proto::ForwardBackwardOutput { loss_fn_outputs: vec![record], ..Default::default() };
    let bytes = Bytes::from(message.encode_to_vec());
    let took = median(|| ForwardBackwardOutput::from_protobuf(bytes.clone()))?;
    Ok(report(&format!("decode {datums} x {tokens} logprobs"), &[bytes], took, target))
}

/// One line of the table; true where the target was met or there is none.
fn report(name: &str, pieces: &[Bytes], took: Duration, target: Target) -> bool {
    let Ok(copied) = median(|| {
        pieces.iter().for_each(|piece| drop_seen(black_box(piece).to_vec()));
        Ok::<_, Infallible>(())
    });
    let bytes: usize = pieces.iter().map(Bytes::len).sum();
    let rate = |took: Duration| bytes as f64 / took.as_secs_f64() / 1e9;
    let milliseconds = took.as_secs_f64() * 1e3;
    let verdict = match target {
        None => String::new(),
        Some(target) if milliseconds <= target => format!("{target} ms met"),
        Some(target) => format!("{target} ms MISSED"),
    };
    println!(
        "{name:<40}{bytes:>10}{milliseconds:>10.2}{:>10.2}{:>12.2}  {verdict}",
        rate(took),
        rate(copied)
    );
    target.is_none_or(|target| milliseconds <= target)
}

/// Gives something back that might be looked at, so that making it is not left out.
fn drop_seen<T>(value: T) {
    black_box(value);
}

/// The median time of a run, which includes giving back what it made.
#[allow(clippy::disallowed_methods, reason = "wall time is what is measured")]
fn median<T, E>(run: impl Fn() -> Result<T, E>) -> Result<Duration, E> {
    let mut times = Vec::with_capacity(RUNS);
    for n in 0..WARM_UP + RUNS {
        let start = Instant::now();
        black_box(run()?);
        let took = Instant::now().duration_since(start);
        if n >= WARM_UP {
            times.push(took);
        }
    }
    times.sort_unstable();
    Ok(times.get(RUNS / 2).copied().unwrap_or_default())
}
