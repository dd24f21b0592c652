//! The result of a forward or forward/backward pass and its wire forms (PROTOCOL 18, 19.3, 23).

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::Bytes;
use prost::Message;
use serde_json::{Value, json};
use tinkex_types::proto;

/// The type of the output, as the protobuf form names it; the JSON form has what is after the colon.
const OUTPUT_TYPE: &str = "tinker:TorchLossReturn";
const TYPE_TAG: &str = "TorchLossReturn";

/// Per datum the logprobs of its targets, and the metrics of all.
#[derive(Debug)]
pub(crate) struct LossOutput {
    pub(crate) data: Vec<DatumOutput>,
    pub(crate) metrics: BTreeMap<String, f64>,
    protobuf: OnceLock<Bytes>,
}

/// The logprobs of one datum, in the shape of its targets.
#[derive(Debug)]
pub(crate) struct DatumOutput {
    pub(crate) logprobs: Vec<f32>,
    /// Targets per position, where the targets have two dimensions.
    pub(crate) columns: Option<usize>,
}

impl LossOutput {
    pub(crate) fn new(data: Vec<DatumOutput>, metrics: BTreeMap<String, f64>) -> Self {
        Self { data, metrics, protobuf: OnceLock::new() }
    }

    /// The protobuf form, made once. Neighbouring datums of equal width share a record.
    pub(crate) fn protobuf(&self) -> &Bytes {
        self.protobuf.get_or_init(|| {
            let records = self.data.chunk_by(|a, b| a.columns == b.columns).map(record);
            proto::ForwardBackwardOutput {
                loss_fn_output_type: OUTPUT_TYPE.into(),
                loss_fn_outputs: records.collect(),
                metrics: self.metrics.clone(),
            }
            .encode_to_vec()
            .into()
        })
    }

    /// Bytes of the logprobs and of their protobuf form.
    pub(crate) fn held_bytes(&self) -> usize {
        2 * self.data.iter().map(|datum| size_of_val(datum.logprobs.as_slice())).sum::<usize>()
    }

    pub(crate) fn to_json(&self) -> Value {
        let outputs = self.data.iter().map(|datum| {
            let shape = match datum.columns {
                None => vec![datum.logprobs.len()],
                Some(columns) => vec![datum.logprobs.len().checked_div(columns).unwrap_or(0), columns],
            };
            json!({ "logprobs": { "data": datum.logprobs, "dtype": "float32", "shape": shape } })
        });
        json!({
            "loss_fn_output_type": TYPE_TAG,
            "loss_fn_outputs": outputs.collect::<Vec<_>>(),
            "metrics": self.metrics,
        })
    }
}

fn record(data: &[DatumOutput]) -> proto::ArrayRecord {
    let values = data.iter().flat_map(|datum| &datum.logprobs).flat_map(|value| value.to_le_bytes());
    let mut end = 0i64;
    let ends = data.iter().map(|datum| {
        end += size_of_val(datum.logprobs.as_slice()) as i64;
        end
    });
    let offsets = std::iter::once(0).chain(ends).flat_map(i64::to_le_bytes);
    let tensor = proto::BatchedTensor {
        data: values.collect(),
        offsets: offsets.collect(),
        dtype: proto::DType::DtypeFloat32.into(),
        trailing_shape: data
            .first()
            .and_then(|datum| datum.columns)
            .map(|columns| columns as i64)
            .into_iter()
            .collect(),
    };
    proto::ArrayRecord {
        type_tag: TYPE_TAG.into(),
        fields: BTreeMap::from([("logprobs".to_owned(), tensor)]),
        num_datums: data.len() as i64,
    }
}
