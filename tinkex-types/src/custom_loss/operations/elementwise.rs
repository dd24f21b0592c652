//! Arithmetic and the functions of one or two numbers, element by element.

use super::Result;
use crate::custom_loss::call::{Call, Value};
use crate::custom_loss::error::LossGraphError;
use crate::custom_loss::gradient::Rule;

/// A function of one number: value and derivative.
type Unary = fn(f64) -> (f64, f64);

/// A function of two numbers: value and both derivatives.
type Binary = fn(f64, f64) -> (f64, [f64; 2]);

pub(super) fn apply(name: &str, call: &mut Call<'_>) -> Result<Option<Value>> {
    if let Some((f, rule)) = unary(name) {
        let x = call.array(0, "input")?;
        let result = call.tape.elementwise([x], rule, |[x]| {
            let (value, slope) = f(x);
            (value, [slope])
        })?;
        return Ok(Some(Value::Array(result)));
    }
    if let Some((f, rule)) = binary(name) {
        let operands = [call.array(0, "input")?, call.array(1, "other")?];
        let result = call.tape.elementwise(operands, rule, |[a, b]| f(a, b))?;
        return Ok(Some(Value::Array(result)));
    }
    Ok(match name {
        "pow" | "float_power" => Some(power(call)?),
        "rsub" => {
            let operands = [call.array(0, "input")?, call.array(1, "other")?];
            let result = call.tape.elementwise(operands, Rule::Product, |[a, b]| (b - a, [-1.0, 1.0]))?;
            Some(Value::Array(result))
        }
        "softplus" => Some(softplus(call)?),
        _ => None,
    })
}

fn unary(name: &str) -> Option<(Unary, Rule)> {
    let f: Unary = match name {
        "neg" | "negative" => |x| (-x, -1.0),
        "pos" | "positive" => |x| (x, 1.0),
        "exp" => |x| same_slope(x.exp(), 1.0),
        "exp2" => |x| same_slope(x.exp2(), std::f64::consts::LN_2),
        "expm1" => |x| (x.exp_m1(), x.exp()),
        "log" => |x| (x.ln(), x.recip()),
        "log2" => |x| (x.log2(), (x * std::f64::consts::LN_2).recip()),
        "log10" => |x| (x.log10(), (x * std::f64::consts::LN_10).recip()),
        "log1p" => |x| (x.ln_1p(), (1.0 + x).recip()),
        "sqrt" => |x| (x.sqrt(), 0.5 / x.sqrt()),
        "rsqrt" => |x| (x.sqrt().recip(), -0.5 * x.sqrt().recip() / x),
        "square" => |x| (x * x, 2.0 * x),
        "reciprocal" => |x| (x.recip(), -x.recip() * x.recip()),
        "abs" | "absolute" => |x| (x.abs(), sign(x)),
        "sign" | "sgn" => |x| (sign(x), 0.0),
        "floor" => |x| (x.floor(), 0.0),
        "ceil" => |x| (x.ceil(), 0.0),
        "trunc" => |x| (x.trunc(), 0.0),
        "round" => |x| (x.round_ties_even(), 0.0),
        "sin" => |x| (x.sin(), x.cos()),
        "cos" => |x| (x.cos(), -x.sin()),
        "tanh" => |x| (x.tanh(), 1.0 - x.tanh() * x.tanh()),
        "sigmoid" | "expit" => |x| (sigmoid(x), sigmoid(x) * sigmoid(-x)),
        "log_sigmoid" | "logsigmoid" => |x| (x.min(0.0) - (-x.abs()).exp().ln_1p(), sigmoid(-x)),
        "relu" => return Some((|x| if x > 0.0 || x.is_nan() { (x, 1.0) } else { (0.0, 0.0) }, Rule::Choice)),
        _ => return None,
    };
    Some((f, Rule::Product))
}

fn binary(name: &str) -> Option<(Binary, Rule)> {
    let f: Binary = match name {
        "add" => |a, b| (a + b, [1.0, 1.0]),
        "sub" | "subtract" => |a, b| (a - b, [1.0, -1.0]),
        "mul" | "multiply" => |a, b| (a * b, [b, a]),
        "truediv" | "div" | "divide" | "true_divide" => |a, b| (a / b, [b.recip(), -(a / b) / b]),
        "floordiv" | "floor_divide" => |a, b| ((a / b).floor(), [0.0, 0.0]),
        "mod" | "remainder" => |a, b| (a - b * (a / b).floor(), [1.0, -(a / b).floor()]),
        "logaddexp" => |a, b| {
            let high = a.max(b);
            // Equal infinities would make a NaN of the difference.
            let low_part = if a == b { std::f64::consts::LN_2 } else { (-(a - b).abs()).exp().ln_1p() };
            (high + low_part, [sigmoid(a - b), sigmoid(b - a)])
        },
        "minimum" => return Some((|a, b| chosen(a, b, a < b), Rule::Choice)),
        "maximum" => return Some((|a, b| chosen(a, b, a > b), Rule::Choice)),
        _ => return None,
    };
    Some((f, Rule::Product))
}

/// A function that is its own derivative but for a factor.
fn same_slope(value: f64, factor: f64) -> (f64, f64) {
    (value, value * factor)
}

/// The first number where `first`, else the second; equal ones share the gradient and NaN wins over any number.
pub(super) fn chosen(a: f64, b: f64, first: bool) -> (f64, [f64; 2]) {
    if a.is_nan() || b.is_nan() {
        (f64::NAN, [1.0, 1.0])
    } else if a == b {
        (a, [0.5, 0.5])
    } else if first {
        (a, [1.0, 0.0])
    } else {
        (b, [0.0, 1.0])
    }
}

/// -1, 0 or 1; NaN of NaN.
fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

/// The logistic function, without overflow at either end.
fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { (1.0 + (-x).exp()).recip() } else { x.exp() / (1.0 + x.exp()) }
}

/// PyTorch leaves out the factors that are 0 for the whole of the gradient, so that 0 to the power of 0 has none.
fn power(call: &mut Call<'_>) -> Result<Value> {
    let operands = [call.array(0, "input")?, call.array(1, "exponent")?];
    let result = call.tape.elementwise(operands, Rule::Product, |[base, exponent]| {
        let value = base.powf(exponent);
        let by_base = if exponent == 0.0 { 0.0 } else { exponent * base.powf(exponent - 1.0) };
        let by_exponent = if base == 0.0 && exponent >= 0.0 { 0.0 } else { value * base.ln() };
        (value, [by_base, by_exponent])
    })?;
    Ok(Value::Array(result))
}

/// `log(1 + exp(beta x)) / beta`, and `x` itself where `beta x` is above the threshold.
fn softplus(call: &mut Call<'_>) -> Result<Value> {
    let x = call.array(0, "input")?;
    let (beta, threshold) = (call.number_or(1, "beta", 1.0)?, call.number_or(2, "threshold", 20.0)?);
    if beta == 0.0 {
        return Err(LossGraphError::argument("`beta` must not be 0"));
    }
    let result = call.tape.elementwise([x], Rule::Product, |[x]| match beta * x {
        scaled if scaled > threshold => (x, [1.0]),
        scaled => (scaled.exp().ln_1p() / beta, [sigmoid(scaled)]),
    })?;
    Ok(Value::Array(result))
}
