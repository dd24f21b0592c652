//! Changes of shape and questions about it.

use super::Result;
use crate::custom_loss::array::Shape;
use crate::custom_loss::call::{Call, Value, wrong};
use crate::custom_loss::error::LossGraphError;
use crate::custom_loss::gradient::Variable;

pub(super) fn apply(name: &str, call: &mut Call<'_>) -> Result<Option<Value>> {
    let array = |call: &mut Call<'_>| call.array(0, "input");
    let result = match name {
        "unsqueeze" => {
            let x = array(call)?;
            let mut dimensions = call.tape.shape(x)?.dimensions();
            let at = call.required(1, "dim")?;
            let at = position(call.as_integer(&at, "dim")?, dimensions.len() + 1)?;
            dimensions.insert(at, 1);
            reshaped(call, x, &dimensions)?
        }
        "squeeze" => {
            let x = array(call)?;
            let mut dimensions = call.tape.shape(x)?.dimensions();
            match call.optional(1, "dim") {
                None => dimensions.retain(|n| *n != 1),
                Some(at) => {
                    let at = position(call.as_integer(&at, "dim")?, dimensions.len().max(1))?;
                    if dimensions.get(at) == Some(&1) {
                        dimensions.remove(at);
                    }
                }
            }
            reshaped(call, x, &dimensions)?
        }
        "flatten" | "ravel" => {
            let x = array(call)?;
            let elements = call.tape.shape(x)?.elements();
            reshaped(call, x, &[elements])?
        }
        "reshape" | "view" => reshape(call)?,
        "t" => {
            let x = array(call)?;
            transposed(call, x)?
        }
        "numel" | "size" | "dim" | "getattr" => return question(name, call).map(Some),
        _ => return Ok(None),
    };
    Ok(Some(Value::Array(result)))
}

/// The index of a dimension, from the end where it is negative.
fn position(dimension: i64, count: usize) -> Result<usize> {
    let from_start = if dimension < 0 { dimension + count as i64 } else { dimension };
    usize::try_from(from_start)
        .ok()
        .filter(|i| *i < count)
        .ok_or_else(|| LossGraphError::shape(format!("there is no dimension {dimension}")))
}

fn reshaped(call: &mut Call<'_>, x: Variable, dimensions: &[usize]) -> Result<Variable> {
    let elements = call.tape.shape(x)?.elements();
    let shape =
        Shape::of_dimensions(dimensions).filter(|shape| shape.elements() == elements).ok_or_else(|| {
            LossGraphError::shape(format!("{elements} elements cannot be of shape {dimensions:?}"))
        })?;
    call.tape.copied(x, shape, (0..elements).collect())
}

/// The dimensions in a sequence or as single arguments, one of them -1 where it is to be worked out.
fn reshape(call: &mut Call<'_>) -> Result<Variable> {
    let x = call.array(0, "input")?;
    let elements = call.tape.shape(x)?.elements();
    let mut wanted = call.integers(1, "shape")?.unwrap_or_default();
    if let Some(second) = call.optional(2, "shape") {
        wanted.push(call.as_integer(&second, "shape")?);
    }
    let known = wanted
        .iter()
        .filter(|n| **n >= 0)
        .try_fold(1usize, |product, n| usize::try_from(*n).ok().and_then(|n| product.checked_mul(n)));
    let known = known.ok_or_else(|| LossGraphError::limit("the shape is too large"))?;
    let open = wanted.iter().filter(|n| **n < 0).count();
    if open > 1 || wanted.iter().any(|n| *n < -1) {
        return Err(LossGraphError::shape(format!("{wanted:?} is not a shape")));
    }
    let fill = elements.checked_div(known).unwrap_or(0);
    let dimensions: Vec<usize> = wanted.iter().map(|n| usize::try_from(*n).unwrap_or(fill)).collect();
    reshaped(call, x, &dimensions)
}

fn transposed(call: &mut Call<'_>, x: Variable) -> Result<Variable> {
    let shape = call.tape.shape(x)?;
    let dimensions: Vec<usize> = shape.dimensions().into_iter().rev().collect();
    let [columns, rows] = dimensions.as_slice() else { return Ok(x) };
    let (columns, rows) = (*columns, *rows);
    let result =
        Shape::of_dimensions(&dimensions).ok_or_else(|| LossGraphError::shape("cannot be transposed"))?;
    let sources = (0..shape.elements()).map(|i| i % rows * columns + i / rows).collect();
    call.tape.copied(x, result, sources)
}

/// The number of elements or of dimensions, or the dimensions themselves.
fn question(name: &str, call: &mut Call<'_>) -> Result<Value> {
    let x = call.array(0, "input")?;
    let shape = call.tape.shape(x)?;
    let number = |n: usize| Value::Number(n as f64);
    let dimensions = shape.dimensions();
    let name = match (name, call.optional(1, if name == "getattr" { "name" } else { "dim" })) {
        ("getattr", Some(Value::Text(attribute))) => attribute.to_string(),
        ("getattr", other) => return Err(wrong("name", "text", &other.unwrap_or(Value::Nothing))),
        ("size", Some(at)) => {
            let at = position(call.as_integer(&at, "dim")?, dimensions.len())?;
            return Ok(number(dimensions.get(at).copied().unwrap_or(0)));
        }
        (name, None) => name.to_owned(),
        (_, Some(other)) => return Err(wrong("dim", "left out", &other)),
    };
    match name.as_str() {
        "numel" => Ok(number(shape.elements())),
        "dim" | "ndim" => Ok(number(dimensions.len())),
        "size" | "shape" => Ok(Value::Sequence(dimensions.into_iter().map(number).collect())),
        "T" => transposed(call, x).map(Value::Array),
        other => Err(LossGraphError::unsupported(format!("attribute `{other}` is not supported"))),
    }
}
