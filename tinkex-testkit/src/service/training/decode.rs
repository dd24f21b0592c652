//! The body of `forward_backward` and `forward`, as protobuf or JSON (PROTOCOL 12.1, 12.2, 18, 23).

use std::collections::BTreeMap;

use prost::Message;
use serde::Deserialize;
use serde_json::Value;
use tinkex_types::{AudioChunk, ModelInput, TensorData, TensorValues, proto};

use super::super::prompt::{Prompt, append_positions, within};
use super::super::refusal::Refusal;
use super::super::routes;
use crate::Received;
use crate::learner::{LearnerDatum, LearnerLoss};
use crate::model::stable_hash;

/// The most elements of one tensor once it is dense.
const MAX_CELLS: usize = 1 << 24;

/// The losses the service computes, besides `custom`.
const LOSSES: &[&str] = &["cross_entropy", "importance_sampling", "ppo", "cispo", "dro", "gspo"];

/// A request for a pass over data.
pub(crate) struct PassRequest {
    pub(crate) model_id: String,
    pub(crate) seq_id: u64,
    pub(crate) loss_fn: String,
    /// A hash of the request that does not depend on the order of maps.
    pub(crate) hash: u64,
    /// What is wrong with the data is not found until the operation's turn.
    pub(crate) batch: Result<Batch, String>,
}

/// Data to pass over, and the loss to compute.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) data: Vec<LearnerDatum>,
    /// Per datum, targets per position where the targets have two dimensions.
    pub(crate) columns: Vec<Option<usize>>,
    pub(crate) loss: BatchLoss,
    pub(crate) forward_only: bool,
}

#[derive(Debug)]
pub(crate) enum BatchLoss {
    Builtin(LearnerLoss),
    /// An uploaded loss, and per datum the tensors it may ask for, dense.
    Custom {
        loss_id: String,
        data: Vec<tinkex_types::Datum>,
    },
}

impl PassRequest {
    pub(crate) fn is_known_loss(&self) -> bool {
        LOSSES.contains(&self.loss_fn.as_str())
    }

    /// Reads a protobuf body.
    pub(crate) fn from_protobuf(request: &Received, limit: usize) -> Result<Self, Refusal> {
        let body = request.decoded_body().map_err(|error| Refusal::new(400, error))?;
        let message = proto::ForwardBackwardRequest::decode(body)
            .map_err(|error| Refusal::new(400, format!("the body is no ForwardBackwardRequest: {error}")))?;
        let hash = stable_hash(&message.encode_to_vec());
        let mut config: BTreeMap<String, Setting> =
            message.loss_fn_config.into_iter().map(|(name, value)| (name, Setting::Number(value))).collect();
        // The newer map has every entry, so what both have is the same.
        config.extend(message.loss_fn_config_v2.into_iter().filter_map(|(name, value)| {
            Some((
                name,
                match value.value? {
                    proto::loss_config_value::Value::Number(number) => Setting::Number(number),
                    proto::loss_config_value::Value::Text(text) => Setting::Text(text),
                },
            ))
        }));
        let data = message.data.into_iter().map(|datum| {
            let tensors = datum.loss_fn_inputs.iter().map(|(name, tensor)| {
                let tensor = TensorData::from_proto(tensor).map_err(|error| format!("{name}: {error}"))?;
                Ok::<_, String>((name.clone(), tensor))
            });
            Ok(Datum {
                tokens: positions(&datum.model_input, limit)?,
                tensors: tensors.collect::<Result<_, _>>()?,
            })
        });
        Ok(Self {
            batch: batch(data, &message.loss_fn, config, message.forward_only),
            model_id: message.model_id,
            seq_id: u64::try_from(message.seq_id).unwrap_or(0),
            loss_fn: message.loss_fn,
            hash,
        })
    }

    /// Reads a JSON body.
    pub(crate) fn from_json(request: &Received, forward_only: bool, limit: usize) -> Result<Self, Refusal> {
        let body: JsonPass = routes::body(request)?;
        let hash = routes::json_hash(request, &[]);
        let input = if forward_only { body.forward_input } else { body.forward_backward_input };
        let input = input.ok_or_else(|| {
            let name = if forward_only { "forward_input" } else { "forward_backward_input" };
            Refusal::new(422, format!("{name}: field required"))
        })?;
        let config = input.loss_fn_config.unwrap_or_default().into_iter();
        let config = config.filter_map(|(name, value)| Some((name, Setting::of_json(&value)?))).collect();
        let data = input.data.into_iter().map(|datum| {
            let tokens =
                datum.model_input.into_tokens(limit).map_err(|refusal| refusal.detail().to_owned())?;
            Ok(Datum { tokens, tensors: datum.loss_fn_inputs })
        });
        Ok(Self {
            batch: batch(data, &input.loss_fn, config, forward_only),
            model_id: body.model_id,
            seq_id: body.seq_id,
            loss_fn: input.loss_fn,
            hash,
        })
    }
}

#[derive(Deserialize)]
struct JsonPass {
    model_id: String,
    seq_id: u64,
    forward_backward_input: Option<JsonInput>,
    forward_input: Option<JsonInput>,
}

#[derive(Deserialize)]
struct JsonInput {
    data: Vec<JsonDatum>,
    loss_fn: String,
    loss_fn_config: Option<BTreeMap<String, Value>>,
}

#[derive(Deserialize)]
struct JsonDatum {
    model_input: Prompt,
    loss_fn_inputs: BTreeMap<String, TensorData>,
}

/// One entry of the configuration of a loss.
enum Setting {
    Number(f64),
    Text(String),
}

impl Setting {
    fn of_json(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => number.as_f64().map(Self::Number),
            Value::Bool(value) => Some(Self::Number(f64::from(u8::from(*value)))),
            Value::String(text) => Some(Self::Text(text.clone())),
            _ => None,
        }
    }
}

/// One datum, of either encoding.
struct Datum {
    tokens: Vec<i32>,
    tensors: BTreeMap<String, TensorData>,
}

fn positions(chunks: &[proto::Chunk], limit: usize) -> Result<Vec<i32>, String> {
    let mut tokens = Vec::new();
    for chunk in chunks {
        match &chunk.chunk {
            Some(proto::chunk::Chunk::EncodedText(text)) => {
                let (cells, rest) = text.tokens.as_chunks::<4>();
                if !rest.is_empty() {
                    return Err(format!("tokens of {} bytes", text.tokens.len()));
                }
                tokens.extend(cells.iter().map(|cell| i32::from_le_bytes(*cell)));
            }
            Some(proto::chunk::Chunk::Image(image)) => {
                append_positions(&mut tokens, image.expected_tokens.unwrap_or(1).into())?;
            }
            Some(proto::chunk::Chunk::Dmel(sound)) => {
                let positions = AudioChunk { dmel: sound.dmel.clone() }.token_count().unwrap_or(1);
                append_positions(&mut tokens, i64::try_from(positions).unwrap_or(i64::MAX))?;
            }
            None => return Err("a chunk is neither text nor picture nor sound".into()),
        }
        within(limit, &tokens)?;
    }
    Ok(tokens)
}

fn batch(
    data: impl Iterator<Item = Result<Datum, String>>,
    loss_fn: &str,
    mut config: BTreeMap<String, Setting>,
    forward_only: bool,
) -> Result<Batch, String> {
    let is_custom = loss_fn == "custom";
    let (mut read, mut columns, mut tensors) = (Vec::new(), Vec::new(), Vec::new());
    for (index, datum) in data.enumerate() {
        let (datum, width, given) =
            datum.and_then(learner_datum).map_err(|problem| format!("datum {index}: {problem}"))?;
        read.push(datum);
        columns.push(width);
        if is_custom {
            let mut inputs = tinkex_types::Datum::new(ModelInput::default());
            inputs.loss_fn_inputs = given;
            tensors.push(inputs);
        }
    }
    let loss = if is_custom {
        match config.remove("loss_id") {
            Some(Setting::Text(loss_id)) => BatchLoss::Custom { loss_id, data: tensors },
            _ => return Err("loss_fn custom needs the text loss_id in its configuration".into()),
        }
    } else {
        let numbers = config.into_iter().filter_map(|(name, setting)| match setting {
            Setting::Number(number) => Some((name, number)),
            Setting::Text(_) => None,
        });
        BatchLoss::Builtin(LearnerLoss { name: loss_fn.to_owned(), numbers: numbers.collect() })
    };
    Ok(Batch { data: read, columns, loss, forward_only })
}

type ReadDatum = (LearnerDatum, Option<usize>, BTreeMap<String, TensorData>);

fn learner_datum(datum: Datum) -> Result<ReadDatum, String> {
    let mut dense = BTreeMap::new();
    for (name, tensor) in datum.tensors {
        let tensor = to_dense(&tensor).map_err(|problem| format!("{name} {problem}"))?;
        dense.insert(name, tensor);
    }
    let targets = dense.get("target_tokens").ok_or("target_tokens is missing")?;
    let values = targets.as_int64().ok_or("target_tokens must be int64")?;
    let columns = match targets.shape() {
        None | Some([] | [_]) => None,
        Some([_, columns]) => Some(*columns as usize),
        Some(shape) => return Err(format!("target_tokens has {} dimensions", shape.len())),
    };
    let inputs = dense.iter().filter(|(name, _)| *name != "target_tokens").map(|(name, tensor)| {
        let values = match tensor.values() {
            TensorValues::Float32(values) => values.to_vec(),
            TensorValues::Int64(values) => values.iter().map(|value| *value as f32).collect(),
        };
        (name.clone(), values)
    });
    let datum = LearnerDatum {
        tokens: datum.tokens,
        targets: values.to_vec(),
        width: columns.unwrap_or(1),
        inputs: inputs.collect(),
    };
    Ok((datum, columns, dense))
}

/// The dense form, with shape and values checked against each other.
fn to_dense(tensor: &TensorData) -> Result<TensorData, String> {
    let stored = match tensor.values() {
        TensorValues::Float32(values) => values.len(),
        TensorValues::Int64(values) => values.len(),
    };
    let shape = match tensor.shape() {
        Some(shape) => shape.to_vec(),
        None => vec![stored as u64],
    };
    let cells = shape.iter().try_fold(1u64, |product, n| product.checked_mul(*n));
    let cells = cells
        .filter(|cells| *cells <= MAX_CELLS as u64)
        .ok_or_else(|| format!("of shape {shape:?} is too large"))? as usize;
    let Some(csr) = tensor.csr() else {
        if cells != stored {
            return Err(format!("of shape {shape:?} has {stored} values"));
        }
        return Ok(tensor.clone());
    };
    let [rows, columns] = shape[..] else { return Err("is sparse and has no two dimensions".into()) };
    let places = places(&csr.crow, &csr.col, stored, rows as usize, columns as usize)
        .ok_or("has sparse indices that do not fit its shape")?;
    let dense = match tensor.values() {
        TensorValues::Float32(values) => {
            let mut dense = vec![0.0; cells];
            places.iter().zip(values.iter()).for_each(|(place, value)| dense[*place] = *value);
            TensorData::float32(dense, &shape)
        }
        TensorValues::Int64(values) => {
            let mut dense = vec![0; cells];
            places.iter().zip(values.iter()).for_each(|(place, value)| dense[*place] = *value);
            TensorData::int64(dense, &shape)
        }
    };
    dense.map_err(|error| error.to_string())
}

/// Where each stored value of a CSR tensor belongs; none where the indices do not fit.
fn places(crow: &[i64], col: &[i64], stored: usize, rows: usize, columns: usize) -> Option<Vec<usize>> {
    let fits = crow.len() == rows.checked_add(1)? && col.len() == stored && crow.is_sorted();
    if !fits || crow.first() != Some(&0) || crow.last() != Some(&i64::try_from(stored).ok()?) {
        return None;
    }
    let mut places = Vec::with_capacity(stored);
    for (row, bounds) in crow.windows(2).enumerate() {
        for column in col.get(usize::try_from(bounds[0]).ok()?..usize::try_from(bounds[1]).ok()?)? {
            let column = usize::try_from(*column).ok().filter(|column| *column < columns)?;
            places.push(row * columns + column);
        }
    }
    Some(places)
}
