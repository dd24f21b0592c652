//! `getitem`: integers, slices, ellipses and new axes.

use super::Result;
use crate::custom_loss::array::Shape;
use crate::custom_loss::call::{Call, Value, wrong};
use crate::custom_loss::error::LossGraphError;
use crate::custom_loss::gradient::Variable;

pub(super) fn apply(name: &str, call: &mut Call<'_>) -> Result<Option<Value>> {
    if name != "getitem" {
        return Ok(None);
    }
    let subject = call.required(0, "a")?;
    let index = call.required(1, "b").ok();
    match subject {
        Value::Array(array) => index_array(call, array, index.unwrap_or(Value::Nothing)).map(Some),
        Value::Sequence(items) => {
            let index = index.ok_or_else(|| LossGraphError::argument("needs an index"))?;
            index_sequence(call, &items, &index).map(Some)
        }
        other => Err(wrong("a", "a tensor or a sequence", &other)),
    }
}

fn index_sequence(call: &Call<'_>, items: &[Value], index: &Value) -> Result<Value> {
    let index = call.as_integer(index, "b")?;
    match items.get(wrapped(index, items.len())?) {
        // Sequences within sequences could grow without end from node to node.
        Some(Value::Sequence(_)) | None => Err(LossGraphError::unsupported("a sequence within a sequence")),
        Some(item) => Ok(item.clone()),
    }
}

/// An index from the start, within bounds.
fn wrapped(index: i64, length: usize) -> Result<usize> {
    let from_start = if index < 0 { index + length as i64 } else { index };
    usize::try_from(from_start)
        .ok()
        .filter(|i| *i < length)
        .ok_or_else(|| LossGraphError::shape(format!("index {index} is outside of length {length}")))
}

/// The places taken from one dimension.
struct Taken {
    start: usize,
    step: usize,
    count: usize,
}

fn index_array(call: &mut Call<'_>, array: Variable, index: Value) -> Result<Value> {
    let shape = call.tape.shape(array)?;
    let items: Vec<Value> = match index {
        Value::Sequence(items) => items.to_vec(),
        one => vec![one],
    };
    let rank = shape.rank().dimensions();
    let indexed = items.iter().filter(|item| !matches!(item, Value::Ellipsis | Value::Nothing)).count();
    let ellipses = items.iter().filter(|item| matches!(item, Value::Ellipsis)).count();
    if indexed > rank || ellipses > 1 {
        return Err(LossGraphError::shape(format!("too many indices for shape {shape}")));
    }
    let lengths = shape.dimensions();
    let whole = |length: usize| Taken { start: 0, step: 1, count: length };
    let (mut taken, mut result) = (Vec::new(), Vec::new());
    let trailing_ellipsis = if ellipses == 0 { Some(Value::Ellipsis) } else { None };
    for item in items.iter().chain(&trailing_ellipsis) {
        let length = lengths.get(taken.len()).copied();
        match (item, length) {
            (Value::Nothing, _) => result.push(1),
            (Value::Ellipsis, _) => {
                for length in lengths.iter().skip(taken.len()).take(rank - indexed) {
                    result.push(*length);
                    taken.push(whole(*length));
                }
            }
            (Value::Slice(bounds), Some(length)) => {
                let part = slice(call, bounds, length)?;
                result.push(part.count);
                taken.push(part);
            }
            (Value::Number(_) | Value::Array(_), Some(length)) => {
                let start = wrapped(call.as_integer(item, "index")?, length)?;
                taken.push(Taken { start, step: 1, count: 1 });
            }
            (other, _) => {
                return Err(LossGraphError::unsupported(format!(
                    "an index that is {} is not supported",
                    other.kind()
                )));
            }
        }
    }
    let result = Shape::of_dimensions(&result)
        .ok_or_else(|| LossGraphError::shape("results of more than two dimensions are not supported"))?;
    let sources = sources(&taken, shape.columns(), result.elements());
    Ok(Value::Array(call.tape.copied(array, result, sources)?))
}

/// Python's rules for slices, but that the step must be positive, as for tensors.
fn slice(call: &Call<'_>, bounds: &[Value; 3], length: usize) -> Result<Taken> {
    let length = length as i64;
    let bound = |value: &Value, default: i64| match value {
        Value::Nothing => Ok(default),
        value => {
            let index = call.as_integer(value, "index")?;
            Ok::<_, LossGraphError>(if index < 0 { index + length } else { index }.clamp(0, length))
        }
    };
    let [start, stop, step] = bounds;
    let (start, stop) = (bound(start, 0)?, bound(stop, length)?);
    let step = match step {
        Value::Nothing => 1,
        value => call.as_integer(value, "step")?,
    };
    if step < 1 {
        return Err(LossGraphError::argument(format!("a slice's step must be positive, not {step}")));
    }
    let count = if stop > start { (stop - start - 1) / step + 1 } else { 0 };
    Ok(Taken { start: start as usize, step: step as usize, count: count as usize })
}

/// The places of the taken elements in row-major order.
fn sources(taken: &[Taken], columns: usize, count: usize) -> Vec<usize> {
    if count == 0 {
        return Vec::new();
    }
    let places = |part: &Taken| {
        let (start, step) = (part.start, part.step);
        (0..part.count).map(move |i| start + i * step)
    };
    match taken {
        [] => vec![0],
        [row, column] => places(row).flat_map(|r| places(column).map(move |c| r * columns + c)).collect(),
        [column, ..] => places(column).collect(),
    }
}
