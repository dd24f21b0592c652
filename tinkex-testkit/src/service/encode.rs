//! The wire forms of a sample result: protobuf (PROTOCOL 18, 19.1) and JSON (PROTOCOL 23).

use bytes::Bytes;
use serde_json::{Value, json};
use tinkex_types::proto;

use super::PromptLogprobShape;
use super::work::{SampleResult, SampleWork};
use crate::model::{Finish, Generation, PromptScores, TargetCells};

/// The logprob of a cell that is not there; its token is 0.
const NO_CELL: f32 = -99_999.0;

pub(crate) fn protobuf(
    work: &SampleWork,
    sequences: &[Generation],
    scores: &PromptScores,
) -> proto::SampleResponse {
    let rows = work.prompt.len().saturating_sub(1);
    let draws = (work.ask.draws > 0).then(|| {
        let cells = || scores.draws.iter().flatten();
        let shape = [rows, work.ask.draws];
        proto::PromptAltTokens {
            tokens: Some(dense(proto::DType::DtypeInt32, int32s(cells().map(|(token, _)| *token)), shape)),
            logprobs: Some(dense(
                proto::DType::DtypeFloat32,
                float32s(cells().map(|(_, logprob)| *logprob)),
                shape,
            )),
        }
    });
    proto::SampleResponse {
        sequences: sequences.iter().map(|sequence| sampled(sequence, work.plan.alternatives)).collect(),
        prompt_logprobs: work.ask.logprobs.then(|| {
            float32s(prompt_logprobs(work, scores).into_iter().map(|value| value.unwrap_or(f32::NAN)))
        }),
        topk_prompt_logprobs: (work.ask.top > 0)
            .then(|| topk(work.ask.top, scores.top.iter().map(Option::as_deref))),
        prompt_cache_hit_tokens: 0,
        target_prompt_logprobs: work.ask.targets.as_ref().map(|targets| {
            let (rows, columns) = targets.shape();
            let values = float32s(scores.targets.iter().copied());
            match targets.cells() {
                TargetCells::Dense(_) => dense(proto::DType::DtypeFloat32, values, [rows, columns]),
                TargetCells::Csr { crow, columns: cols, .. } => proto::Tensor {
                    dtype: proto::DType::DtypeFloat32.into(),
                    shape: vec![rows as i64, columns as i64],
                    encoding: Some(proto::tensor::Encoding::SparseCsr(proto::SparseCsr {
                        values,
                        crow_indices: int64s(crow),
                        col_indices: int64s(cols),
                    })),
                },
            }
        }),
        prompt_alt_tokens: draws,
    }
}

fn sampled(sequence: &Generation, alternatives: usize) -> proto::SampledSequence {
    let stop_reason = match sequence.finish {
        Finish::Stop => proto::StopReason::Stop,
        Finish::Length => proto::StopReason::Length,
    };
    proto::SampledSequence {
        stop_reason: stop_reason.into(),
        tokens: int32s(sequence.tokens.iter().copied()),
        logprobs: Some(float32s(sequence.logprobs.iter().copied())),
        topk_sampled_logprobs: (alternatives > 0)
            .then(|| topk(alternatives, sequence.alternatives.iter().map(|row| Some(row.as_slice())))),
    }
}

/// Rows of `k` cells; a missing row is made of missing cells.
fn topk<'a>(k: usize, rows: impl ExactSizeIterator<Item = Option<&'a [(i32, f32)]>>) -> proto::TopkLogprobs {
    let length = rows.len();
    let mut cells = Vec::with_capacity(length * k);
    for row in rows {
        let row = row.unwrap_or_default();
        cells.extend((0..k).map(|column| row.get(column).copied().unwrap_or((0, NO_CELL))));
    }
    proto::TopkLogprobs {
        token_ids: int32s(cells.iter().map(|(token, _)| *token)),
        logprobs: float32s(cells.iter().map(|(_, logprob)| *logprob)),
        k: k as u32,
        length: length as u32,
    }
}

fn dense(dtype: proto::DType, bytes: Bytes, shape: [usize; 2]) -> proto::Tensor {
    proto::Tensor {
        dtype: dtype.into(),
        shape: shape.map(|n| n as i64).to_vec(),
        encoding: Some(proto::tensor::Encoding::Dense(bytes)),
    }
}

fn int32s(values: impl Iterator<Item = i32>) -> Bytes {
    values.flat_map(i32::to_le_bytes).collect::<Vec<u8>>().into()
}

fn float32s(values: impl Iterator<Item = f32>) -> Bytes {
    values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>().into()
}

fn int64s(values: &[i64]) -> Bytes {
    values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()
}

/// Prompt logprobs in the form of the dialect.
fn prompt_logprobs(work: &SampleWork, scores: &PromptScores) -> Vec<Option<f32>> {
    let mut values = scores.logprobs.clone();
    match work.shape {
        PromptLogprobShape::LeadingNull => {}
        PromptLogprobShape::Shorter => {
            values.drain(..1.min(values.len()));
        }
        PromptLogprobShape::LeadingZero => values.iter_mut().take(1).for_each(|first| *first = Some(0.0)),
    }
    values
}

pub(crate) fn json(work: &SampleWork, result: &SampleResult) -> Value {
    let scores = &result.scores;
    let sequences = result.sequences.iter().map(|sequence| {
        let mut value = json!({
            "stop_reason": sequence.finish.as_str(),
            "tokens": sequence.tokens,
            "logprobs": sequence.logprobs,
        });
        if work.plan.alternatives > 0 {
            value["topk_logprobs"] = json!(sequence.alternatives);
        }
        value
    });
    let mut body = json!({ "type": "sample", "sequences": sequences.collect::<Vec<_>>() });
    if work.ask.logprobs {
        body["prompt_logprobs"] = json!(prompt_logprobs(work, scores));
    }
    if work.ask.top > 0 {
        body["topk_prompt_logprobs"] = json!(scores.top);
    }
    if let Some(targets) = &work.ask.targets {
        let (rows, columns) = targets.shape();
        let mut tensor = json!({ "dtype": "float32", "shape": [rows, columns], "data": scores.targets });
        if let TargetCells::Csr { crow, columns, .. } = targets.cells() {
            tensor["sparse_crow_indices"] = json!(crow);
            tensor["sparse_col_indices"] = json!(columns);
        }
        body["target_prompt_logprobs"] = tensor;
    }
    if work.ask.draws > 0 {
        let shape = [work.prompt.len().saturating_sub(1), work.ask.draws];
        let cells = || scores.draws.iter().flatten();
        let tokens: Vec<i32> = cells().map(|(token, _)| *token).collect();
        let logprobs: Vec<f32> = cells().map(|(_, logprob)| *logprob).collect();
        body["prompt_alt_tokens"] = json!({
            "tokens": { "dtype": "int64", "shape": shape, "data": tokens },
            "logprobs": { "dtype": "float32", "shape": shape, "data": logprobs },
        });
    }
    body
}
