//! Operations that choose between values: clamping, `where`, masks.

use super::Result;
use crate::custom_loss::call::{Call, Value};
use crate::custom_loss::error::LossGraphError;
use crate::custom_loss::gradient::{Rule, Variable};

pub(super) fn apply(name: &str, call: &mut Call<'_>) -> Result<Option<Value>> {
    let result = match name {
        "clamp" | "clip" => {
            let x = call.array(0, "input")?;
            let (min, max) = (call.optional_array(1, "min")?, call.optional_array(2, "max")?);
            if min.is_none() && max.is_none() {
                return Err(LossGraphError::argument("needs `min` or `max`"));
            }
            clamp(call, x, min, max)?
        }
        "clamp_min" => {
            let (x, min) = (call.array(0, "input")?, call.array(1, "min")?);
            clamp(call, x, Some(min), None)?
        }
        "clamp_max" => {
            let (x, max) = (call.array(0, "input")?, call.array(1, "max")?);
            clamp(call, x, None, Some(max))?
        }
        "where" => {
            let [first, second, third] = if call.is_method() {
                ["input", "condition", "other"]
            } else {
                ["condition", "input", "other"]
            };
            let (a, b, c) = (call.array(0, first)?, call.array(1, second)?, call.array(2, third)?);
            if call.is_method() { choose(call, b, a, c)? } else { choose(call, a, b, c)? }
        }
        "masked_fill" => {
            let (x, mask) = (call.array(0, "input")?, call.array(1, "mask")?);
            let value = call.array(2, "value")?;
            choose(call, mask, value, x)?
        }
        _ => return Ok(None),
    };
    Ok(Some(Value::Array(result)))
}

/// A bound that is missing never binds; where the lower one is above the upper one, the upper one wins.
fn clamp(call: &mut Call<'_>, x: Variable, min: Option<Variable>, max: Option<Variable>) -> Result<Variable> {
    let min = bound(call, min, f64::NEG_INFINITY)?;
    let max = bound(call, max, f64::INFINITY)?;
    call.tape.elementwise([x, min, max], Rule::Choice, |[x, min, max]| {
        if x.is_nan() || min.is_nan() || max.is_nan() {
            (f64::NAN, [0.0; 3])
        } else if x > max || min > max {
            (max, [0.0, 0.0, 1.0])
        } else if x < min {
            (min, [0.0, 1.0, 0.0])
        } else {
            (x, [1.0, 0.0, 0.0])
        }
    })
}

fn bound(call: &mut Call<'_>, bound: Option<Variable>, missing: f64) -> Result<Variable> {
    match bound {
        Some(bound) => Ok(bound),
        None => call.tape.constant(missing),
    }
}

fn choose(call: &mut Call<'_>, condition: Variable, a: Variable, b: Variable) -> Result<Variable> {
    call.tape.elementwise([condition, a, b], Rule::Choice, |[condition, a, b]| {
        if condition != 0.0 { (a, [0.0, 1.0, 0.0]) } else { (b, [0.0, 0.0, 1.0]) }
    })
}
