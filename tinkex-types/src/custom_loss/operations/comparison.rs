//! Comparisons and logic: results are 1 and 0 and have no derivative.

use super::Result;
use crate::custom_loss::call::{Call, Value};

type Test = fn(f64) -> bool;
type Comparison = fn(f64, f64) -> bool;

pub(super) fn apply(name: &str, call: &mut Call<'_>) -> Result<Option<Value>> {
    if let Some(test) = test(name) {
        let x = call.array(0, "input")?;
        let result = call.tape.without_derivative([x], |[x]| truth(test(x)))?;
        return Ok(Some(Value::Array(result)));
    }
    if let Some(compare) = comparison(name) {
        let operands = [call.array(0, "input")?, call.array(1, "other")?];
        let result = call.tape.without_derivative(operands, |[a, b]| truth(compare(a, b)))?;
        return Ok(Some(Value::Array(result)));
    }
    Ok(None)
}

fn truth(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn test(name: &str) -> Option<Test> {
    Some(match name {
        "logical_not" | "invert" | "not_" => |x| x == 0.0,
        "isnan" => f64::is_nan,
        "isinf" => f64::is_infinite,
        "isfinite" => f64::is_finite,
        _ => return None,
    })
}

fn comparison(name: &str) -> Option<Comparison> {
    Some(match name {
        "gt" | "greater" => |a, b| a > b,
        "ge" | "greater_equal" => |a, b| a >= b,
        "lt" | "less" => |a, b| a < b,
        "le" | "less_equal" => |a, b| a <= b,
        "eq" => |a, b| a == b,
        "ne" | "not_equal" => |a, b| a != b,
        "logical_and" | "and_" => |a, b| a != 0.0 && b != 0.0,
        "logical_or" | "or_" => |a, b| a != 0.0 || b != 0.0,
        "logical_xor" | "xor" => |a, b| (a != 0.0) != (b != 0.0),
        _ => return None,
    })
}
