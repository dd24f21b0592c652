//! Changes of element type and place, and `detach`. Only types of whole numbers and of truth change a value.

use super::Result;
use crate::custom_loss::call::{Call, Value, wrong};
use crate::custom_loss::error::LossGraphError;
use crate::custom_loss::gradient::Variable;

/// The element types that the evaluator tells apart.
#[derive(Clone, Copy)]
enum ElementType {
    Float,
    Integer,
    Boolean,
}

impl ElementType {
    fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "float" | "double" | "half" | "float16" | "float32" | "float64" | "bfloat16" => Self::Float,
            "int" | "long" | "short" | "int8" | "int16" | "int32" | "int64" | "uint8" => Self::Integer,
            "bool" => Self::Boolean,
            _ => return None,
        })
    }
}

pub(super) fn apply(name: &str, call: &mut Call<'_>) -> Result<Option<Value>> {
    let result = match name {
        "detach" => {
            let x = call.array(0, "input")?;
            call.tape.detach(x)?
        }
        "contiguous" | "clone" | "cpu" => call.array(0, "input")?,
        // The methods `float()`, `long()`, … ; as functions of a module they would be something else.
        method if call.is_method() && ElementType::of_name(method).is_some() => {
            let x = call.array(0, "input")?;
            convert(call, x, ElementType::of_name(method))?
        }
        "type_as" => {
            let x = call.array(0, "input")?;
            call.array(1, "other")?;
            x
        }
        "to" | "type" => {
            let x = call.array(0, "input")?;
            let target = call.optional(1, "dtype").or_else(|| call.optional(1, "device"));
            // `to(device, dtype)` has the type second.
            let element_type = match (target, call.optional(2, "dtype")) {
                (Some(Value::DType(name)), _) | (_, Some(Value::DType(name))) => Some(known(&name)?),
                (None | Some(Value::Placement | Value::Text(_) | Value::Array(_)), _) => None,
                (Some(other), _) => return Err(wrong("dtype", "an element type or a device", &other)),
            };
            convert(call, x, element_type)?
        }
        _ => return Ok(None),
    };
    Ok(Some(Value::Array(result)))
}

fn known(name: &str) -> Result<ElementType> {
    ElementType::of_name(name)
        .ok_or_else(|| LossGraphError::unsupported(format!("element type `{name}` is not supported")))
}

fn convert(call: &mut Call<'_>, x: Variable, element_type: Option<ElementType>) -> Result<Variable> {
    match element_type {
        None | Some(ElementType::Float) => Ok(x),
        Some(ElementType::Integer) => call.tape.without_derivative([x], |[x]| x.trunc()),
        Some(ElementType::Boolean) => call.tape.without_derivative([x], |[x]| f64::from(u8::from(x != 0.0))),
    }
}
