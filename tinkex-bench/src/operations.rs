//! The pieces of work of the encode and decode paths, by name: timed by the wire part, counted by the instructions part.

use std::convert::Infallible;
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tinkex_client::{ModelInput, SampleRequest, SamplingParams};
use tinkex_types::{
    ChunkLimits, ClientConfig, Datum, ForwardBackwardBody, ForwardBackwardOutput, Loss, LossFn,
    SampleResponse, chunk_ranges, proto,
};

use crate::AnyError;
use crate::server;

/// A piece of work that can be done again and again.
pub(crate) struct Operation {
    /// What it makes or reads: the requests, or the answer.
    pub(crate) pieces: Vec<Bytes>,
    work: Box<dyn Fn() -> Result<(), AnyError>>,
}

impl Operation {
    /// Does it once.
    pub(crate) fn run(&self) -> Result<(), AnyError> {
        (self.work)()
    }
}

/// How a batch is cut into requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// As the client cuts it, with the server's usual limits.
    Usual,
    /// Not at all, into one body.
    Whole,
}

/// An `asample` request as the client writes it, with a prompt of so many tokens (PROTOCOL 15.2).
pub(crate) fn encode_asample(tokens: usize) -> Result<Operation, AnyError> {
    let prompt: Vec<i32> = (0..tokens).map(|i| (i as i32).wrapping_mul(7919) % 150_000).collect();
    let request = SampleRequest::new(ModelInput::from_ints(prompt), SamplingParams::new().max_tokens(32));
    let encode = move || -> Result<Vec<u8>, AnyError> {
        // The room that the client makes beforehand.
        let mut text = Vec::with_capacity(512 + 8 * tokens);
        serde_json::to_writer(&mut text, &black_box(&request).body("session:sample:0", 1))?;
        Ok(text)
    };
    let pieces = vec![encode()?.into()];
    Ok(Operation { pieces, work: Box::new(move || encode().map(seen)) })
}

/// The result of a sample, from protobuf (PROTOCOL 15.6).
pub(crate) fn decode_sample() -> Result<Operation, AnyError> {
    let bytes = Bytes::from(server::result());
    let pieces = vec![bytes.clone()];
    let work = move || Ok(SampleResponse::from_proto(black_box(bytes.clone())).map(seen)?);
    Ok(Operation { pieces, work: Box::new(work) })
}

/// A batch of `datums` examples of `tokens` tokens with three tensors each, to protobuf (PROTOCOL 12).
pub(crate) fn encode_forward_backward(datums: usize, tokens: usize, cut: Cut) -> Result<Operation, AnyError> {
    let limits = match cut {
        Cut::Usual => ChunkLimits::from(&ClientConfig::default()),
        Cut::Whole => ChunkLimits { max_len: usize::MAX, max_bytes: u64::MAX },
    };
    let data: Arc<[Datum]> = (0..datums).map(|n| example(n, tokens)).collect();
    let loss = Loss::from(LossFn::ImportanceSampling);
    let encode = move || -> Result<Vec<Bytes>, AnyError> {
        let encode = |range: Range<usize>| {
            let data = data.get(range).unwrap_or_default();
            let model_id = "session:train:0";
            ForwardBackwardBody { model_id, seq_id: 1, data, loss: &loss, forward_only: false }.to_protobuf()
        };
        let ranges = chunk_ranges(data.iter().map(Datum::estimated_bytes), &limits);
        Ok(ranges.into_iter().map(encode).collect::<Result<_, _>>()?)
    };
    Ok(Operation { pieces: encode()?, work: Box::new(move || encode().map(seen)) })
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
pub(crate) fn decode_forward_backward(datums: usize, tokens: usize) -> Result<Operation, AnyError> {
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
    let pieces = vec![bytes.clone()];
    let work = move || Ok(ForwardBackwardOutput::from_protobuf(black_box(bytes.clone())).map(seen)?);
    Ok(Operation { pieces, work: Box::new(work) })
}

/// A plain copy of pieces: what no encoder can beat.
pub(crate) fn copy(pieces: &[Bytes]) -> impl Fn() -> Result<(), Infallible> {
    || {
        pieces.iter().for_each(|piece| seen(black_box(piece).to_vec()));
        Ok(())
    }
}

/// Gives something back that might be looked at, so that making it is not left out.
fn seen<T>(value: T) {
    black_box(value);
}
