//! How many instructions the encode and decode paths take, and how many allocations a sample makes, counted by valgrind:
//! unlike time, the counts are the same on a busy machine.
//!
//! Each operation runs in a process of its own twice, with different numbers of repetitions. The difference, divided by
//! the difference of the repetitions, is the cost of one; all setup cancels out.

mod canned_transport;
mod valgrind;

use serde::Serialize;
use tinkex_client::{ModelInput, SampleRequest, SamplingParams, ServiceClient, SharedTransport};

use crate::AnyError;
use crate::command_line::Size;
use crate::operations::{self, Cut, Operation};
use canned_transport::CannedTransport;

/// What one operation takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Count {
    pub(crate) operation: String,
    pub(crate) instructions: f64,
    /// Where they are of interest.
    pub(crate) allocations: Option<f64>,
}

/// How the name of the measurements ends where nobody takes them.
pub(crate) const NO_RECORDER: &str = "without a recorder";

/// What there is to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    EncodeAsample(usize),
    DecodeSample,
    EncodeForwardBackward,
    DecodeForwardBackward,
    /// A whole sample through the client with a prompt of so many tokens, over a transport that answers from memory.
    Sample(usize),
    /// A measurement of each metric there is, without a recorder.
    Measurements,
}

impl Counted {
    const ALL: [Self; 10] = [
        Self::EncodeAsample(256),
        Self::EncodeAsample(2_048),
        Self::EncodeAsample(16_384),
        Self::EncodeAsample(32_768),
        Self::DecodeSample,
        Self::EncodeForwardBackward,
        Self::DecodeForwardBackward,
        Self::Sample(256),
        Self::Sample(2_048),
        Self::Measurements,
    ];

    fn name(self) -> String {
        match self {
            Self::EncodeAsample(tokens) => format!("encode asample, {tokens} tokens"),
            Self::DecodeSample => "decode sample, 32 tokens".to_owned(),
            Self::EncodeForwardBackward => "encode forward_backward, 128 x 2048 tokens".to_owned(),
            Self::DecodeForwardBackward => "decode 128 x 2048 logprobs".to_owned(),
            Self::Sample(tokens) => format!("a whole sample in memory, {tokens} tokens"),
            Self::Measurements => {
                format!("{} measurements {NO_RECORDER}", tinkex_metrics::contract::ALL.len())
            }
        }
    }

    /// Whether allocations are of interest: encoding makes one, its result.
    fn allocates(self) -> bool {
        matches!(self, Self::Sample(_) | Self::Measurements)
    }

    /// The repetitions of the two runs.
    fn repetitions(self) -> [usize; 2] {
        match self {
            Self::EncodeForwardBackward | Self::DecodeForwardBackward => [2, 6],
            Self::EncodeAsample(16_384..) => [5, 25],
            _ => [100, 500],
        }
    }
}

/// Counts everything; a sentence that says why not, where there is no callgrind.
pub(crate) fn run(size: Size) -> Result<Result<Vec<Count>, String>, AnyError> {
    if let Err(missing) = valgrind::check() {
        return Ok(Err(missing));
    }
    let counted = match size {
        Size::Smoke => vec![Counted::DecodeSample],
        _ => Counted::ALL.to_vec(),
    };
    let mut counts = Vec::new();
    for counted in counted {
        let operation = counted.name();
        let [few, many] = counted.repetitions();
        let of_one = |count: fn(&str, usize) -> Result<u64, AnyError>| -> Result<f64, AnyError> {
            let difference = count(&operation, many)?.saturating_sub(count(&operation, few)?);
            Ok(difference as f64 / (many - few) as f64)
        };
        let instructions = of_one(valgrind::instructions)?;
        let allocations = counted.allocates().then(|| of_one(valgrind::allocations)).transpose()?;
        counts.push(Count { instructions, allocations, operation });
    }
    Ok(Ok(counts))
}

/// The program that is counted: the operation of that name, repeated.
pub(crate) fn repeat(name: &str, repetitions: usize) -> Result<(), AnyError> {
    let counted = Counted::ALL.into_iter().find(|counted| counted.name() == name);
    let again = |operation: Operation| (0..repetitions).try_for_each(|_| operation.run());
    match counted.ok_or_else(|| format!("unknown operation {name:?}"))? {
        Counted::EncodeAsample(tokens) => again(operations::encode_asample(tokens)?),
        Counted::DecodeSample => again(operations::decode_sample()?),
        Counted::EncodeForwardBackward => again(operations::encode_forward_backward(128, 2_048, Cut::Usual)?),
        Counted::DecodeForwardBackward => again(operations::decode_forward_backward(128, 2_048)?),
        Counted::Sample(tokens) => {
            // One thread, so that every run takes the same way.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(sample(tokens, repetitions))
        }
        Counted::Measurements => {
            (0..repetitions).for_each(|_| tinkex_metrics::contract::measure_each());
            Ok(())
        }
    }
}

async fn sample(tokens: usize, repetitions: usize) -> Result<(), AnyError> {
    let transport = SharedTransport::new(CannedTransport::new());
    let service =
        ServiceClient::builder().api_key("tml-bench").base_url("http://memory.test").transport(transport);
    let service = service.build().await?;
    let sampler = service.sampling_client().base_model("Qwen/Qwen3-8B").create().await?;
    let prompt: Vec<i32> = (0..tokens as i32).collect();
    for _ in 0..repetitions {
        let params = SamplingParams::new().max_tokens(32);
        sampler.sample(SampleRequest::new(ModelInput::from_ints(prompt.clone()), params)).await?;
    }
    Ok(())
}
