//! The result of a forward or forward/backward pass, from protobuf and from JSON (PROTOCOL 12.6, 19.3, 23).

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::{DecodeError, Metrics, TensorData, TensorValues, lenient, proto, repeated, tensor};

const SUBJECT: &str = "forward/backward output";

/// Examples without any output, beyond which a result is not believed.
const MAX_EMPTY_OUTPUTS: u64 = 65_536;

/// The most trailing dimensions of an output, beyond which a result is not believed.
const MAX_TRAILING_DIMENSIONS: usize = 8;

/// The result of a forward or forward/backward pass (PROTOCOL 12.6, 19.3).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ForwardBackwardOutput {
    /// What kind of outputs these are, in the server's words.
    pub loss_fn_output_type: String,
    /// One per example, in order.
    pub loss_fn_outputs: Vec<LossFnOutput>,
    /// What the server measured, by name: `name:reduction`.
    pub metrics: Metrics,
}

impl ForwardBackwardOutput {
    /// The metric of that name, where it is a number.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.number(name)
    }

    /// The loss, `loss:sum`, summed over the batch.
    pub fn loss(&self) -> Option<f64> {
        self.metric("loss:sum")
    }

    /// Reads the protobuf form (PROTOCOL 19.3).
    ///
    /// # Errors
    /// Where the bytes are not a `ForwardBackwardOutput`, or its tensors do not hold what they say.
    pub fn from_protobuf(bytes: Bytes) -> Result<Self, DecodeError> {
        repeated::check(SUBJECT, &bytes, 2)?;
        let message =
            proto::ForwardBackwardOutput::decode(bytes).map_err(|e| DecodeError::new(SUBJECT, e))?;
        let sent = message.loss_fn_output_type;
        let loss_fn_output_type = if message.loss_fn_outputs.is_empty() {
            if sent.is_empty() { "ArrayRecord".to_owned() } else { sent }
        } else {
            sent.rsplit(':').next().unwrap_or_default().to_owned()
        };
        Ok(Self {
            loss_fn_output_type,
            loss_fn_outputs: outputs(&message.loss_fn_outputs)?,
            metrics: message.metrics.into(),
        })
    }

    /// Reads the JSON form. Missing and null members are allowed everywhere.
    ///
    /// # Errors
    /// Where the text is not JSON or not such a result.
    pub fn from_json(text: &[u8]) -> Result<Self, DecodeError> {
        #[derive(Deserialize)]
        struct Json {
            #[serde(default, deserialize_with = "lenient::or_default")]
            loss_fn_output_type: String,
            #[serde(default)]
            loss_fn_outputs: Option<Vec<LossFnOutput>>,
            #[serde(default)]
            metrics: Metrics,
        }
        let json: Json = serde_json::from_slice(text).map_err(|e| DecodeError::of_json(SUBJECT, &e))?;
        Ok(Self {
            loss_fn_output_type: json.loss_fn_output_type,
            loss_fn_outputs: json.loss_fn_outputs.unwrap_or_default(),
            metrics: json.metrics,
        })
    }

    /// The result of a batch from those of its chunks, in order (PROTOCOL 12.6): the outputs one after the other, the
    /// type of the first, and the metrics reduced as their names say. A metric that not all chunks have, or whose
    /// reduction is not known, is dropped, also where there is only one chunk.
    ///
    /// # Errors
    /// Where a metric has no reduction in its name, is a mean over no outputs, or a hash that is not finite.
    pub fn combine(chunks: Vec<Self>) -> Result<Self, DecodeError> {
        let counted: Vec<_> =
            chunks.iter().map(|chunk| (&chunk.metrics, chunk.loss_fn_outputs.len())).collect();
        let metrics = Metrics::combine(&counted)?;
        let mut chunks = chunks.into_iter();
        let mut combined = chunks.next().unwrap_or_default();
        combined.metrics = metrics;
        for chunk in chunks {
            combined.loss_fn_outputs.extend(chunk.loss_fn_outputs);
        }
        Ok(combined)
    }
}

/// What the loss function gives back for one example: tensors by name (PROTOCOL 19.3).
#[derive(Clone, Default, PartialEq)]
pub struct LossFnOutput {
    // Sorted by name. Names are shared by the examples of a result.
    tensors: Vec<(Arc<str>, TensorData)>,
}

impl LossFnOutput {
    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&TensorData> {
        let at = self.tensors.binary_search_by(|(other, _)| (**other).cmp(name)).ok()?;
        self.tensors.get(at).map(|(_, tensor)| tensor)
    }

    /// The log-probabilities (natural log) of the target tokens, one per position.
    pub fn logprobs(&self) -> Option<&[f32]> {
        self.get("logprobs")?.as_float32()
    }

    /// The tensors with their names, in order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TensorData)> {
        self.tensors.iter().map(|(name, tensor)| (&**name, tensor))
    }

    /// How many tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// True where there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }
}

impl<K: Into<Arc<str>>> FromIterator<(K, TensorData)> for LossFnOutput {
    fn from_iter<I: IntoIterator<Item = (K, TensorData)>>(tensors: I) -> Self {
        let sorted: std::collections::BTreeMap<Arc<str>, TensorData> =
            tensors.into_iter().map(|(name, tensor)| (name.into(), tensor)).collect();
        Self { tensors: sorted.into_iter().collect() }
    }
}

impl fmt::Debug for LossFnOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for LossFnOutput {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for LossFnOutput {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tensors = std::collections::BTreeMap::<String, Option<TensorData>>::deserialize(deserializer)?;
        Ok(tensors.into_iter().filter_map(|(name, tensor)| Some((name, tensor?))).collect())
    }
}

/// The outputs of all examples. Each record holds those of a run of examples.
fn outputs(records: &[proto::ArrayRecord]) -> Result<Vec<LossFnOutput>, DecodeError> {
    let stated = records.iter().try_fold(0u64, |sum, record| {
        let datums = u64::try_from(record.num_datums).map_err(|e| DecodeError::new("number of datums", e))?;
        Ok(sum.saturating_add(datums))
    })?;
    let mut outputs = Vec::new();
    let mut empty = 0u64;
    for record in records {
        let mut fields = Vec::with_capacity(record.fields.len());
        for (name, field) in &record.fields {
            if let Some(field) = Field::new(field)? {
                fields.push((Arc::<str>::from(name.as_str()), field));
            }
        }
        let first = fields.first().map_or(0, |(_, field)| field.datums() as u64);
        let datums = if stated == 0 { first } else { record.num_datums as u64 };
        if let Some((name, field)) = fields.iter().find(|(_, field)| field.datums() as u64 != datums) {
            let detail = format!("`{name}` has {} datums, its record {datums}", field.datums());
            return Err(DecodeError::new(SUBJECT, detail));
        }
        if fields.is_empty() {
            empty = empty.saturating_add(datums);
            if empty > MAX_EMPTY_OUTPUTS {
                return Err(DecodeError::new(SUBJECT, format!("{empty} datums have no output")));
            }
        }
        outputs.reserve(datums as usize);
        for index in 0..datums as usize {
            let mut tensors = Vec::with_capacity(fields.len());
            for (name, field) in &fields {
                tensors.push((Arc::clone(name), field.tensor(index)?));
            }
            outputs.push(LossFnOutput { tensors });
        }
    }
    Ok(outputs)
}

/// One output of a run of examples, its tensors end to end.
struct Field<'a> {
    data: &'a [u8],
    offsets: &'a [[u8; 8]],
    dtype: proto::DType,
    trailing: Vec<u64>,
    /// Elements per step of the first dimension.
    row: u64,
}

impl<'a> Field<'a> {
    /// None where the field is blank, as a server may leave it that does not want to send it.
    fn new(field: &'a proto::BatchedTensor) -> Result<Option<Self>, DecodeError> {
        const SUBJECT: &str = "batched tensor";
        if field.offsets.is_empty() && field.data.is_empty() {
            return Ok(None);
        }
        let (offsets, rest) = field.offsets.as_chunks::<8>();
        if offsets.is_empty() || !rest.is_empty() {
            let detail = format!("{} bytes of offsets are not whole int64 values", field.offsets.len());
            return Err(DecodeError::new(SUBJECT, detail));
        }
        if field.dtype() == proto::DType::DtypeUnspecified {
            return Err(DecodeError::new(SUBJECT, format!("dtype {} is not known", field.dtype)));
        }
        if field.trailing_shape.len() > MAX_TRAILING_DIMENSIONS {
            let detail = format!("{} trailing dimensions", field.trailing_shape.len());
            return Err(DecodeError::new(SUBJECT, detail));
        }
        let trailing = field.trailing_shape.iter().map(|n| u64::try_from(*n));
        let trailing =
            trailing.collect::<Result<Vec<_>, _>>().map_err(|e| DecodeError::new("trailing shape", e))?;
        let row = trailing.iter().try_fold(1u64, |product, n| product.checked_mul(*n));
        let row = row.ok_or_else(|| DecodeError::new(SUBJECT, format!("trailing shape {trailing:?}")))?;
        Ok(Some(Self { data: &field.data, offsets, dtype: field.dtype(), trailing, row }))
    }

    fn datums(&self) -> usize {
        self.offsets.len() - 1
    }

    fn tensor(&self, index: usize) -> Result<TensorData, DecodeError> {
        let payload = self.payload(index).ok_or_else(|| {
            let detail =
                format!("the offsets of datum {index} do not lie in order in {} bytes", self.data.len());
            DecodeError::new("batched tensor", detail)
        })?;
        let values = match self.dtype {
            proto::DType::DtypeInt64 => TensorValues::Int64(tensor::elements(payload, i64::from_le_bytes)?),
            proto::DType::DtypeInt32 => {
                TensorValues::Int64(tensor::elements(payload, |b| i64::from(i32::from_le_bytes(b)))?)
            }
            proto::DType::DtypeBfloat16 => {
                TensorValues::Float32(tensor::elements(payload, tensor::widen_bfloat16)?)
            }
            _ => TensorValues::Float32(tensor::elements(payload, f32::from_le_bytes)?),
        };
        let count = values.len() as u64;
        let rows = count.checked_div(self.row).unwrap_or(0);
        if rows * self.row != count {
            let detail = format!("{count} values do not fill rows of shape {:?}", self.trailing);
            return Err(DecodeError::new("batched tensor", detail));
        }
        let shape = std::iter::once(rows).chain(self.trailing.iter().copied()).collect();
        Ok(TensorData::of_parts(values, shape))
    }

    /// The bytes of one example. Offsets that only ever grow cannot name a byte twice.
    fn payload(&self, index: usize) -> Option<&'a [u8]> {
        let offset = |at: usize| usize::try_from(i64::from_le_bytes(*self.offsets.get(at)?)).ok();
        self.data.get(offset(index)?..offset(index + 1)?)
    }
}
