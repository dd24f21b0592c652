//! Sums, means, extremes and what is made of them.

use super::Result;
use super::elementwise::chosen;
use crate::custom_loss::array::Shape;
use crate::custom_loss::call::{Call, Dimension, Value, dimension_of};
use crate::custom_loss::error::LossGraphError;
use crate::custom_loss::gradient::{Axes, Rule, Variable};

pub(super) fn apply(name: &str, call: &mut Call<'_>) -> Result<Option<Value>> {
    Ok(Some(match name {
        "sum" => Value::Array(over_axes(call, sum)?),
        "mean" => Value::Array(over_axes(call, mean)?),
        "logsumexp" => Value::Array(over_axes(call, log_sum_exp)?),
        "amin" => {
            Value::Array(over_axes(call, |call, x, axes, keep| extreme(call, x, axes, keep, |a, b| a < b))?)
        }
        "amax" => {
            Value::Array(over_axes(call, |call, x, axes, keep| extreme(call, x, axes, keep, |a, b| a > b))?)
        }
        "min" => min_or_max(call, |a, b| a < b)?,
        "max" => min_or_max(call, |a, b| a > b)?,
        "log_softmax" => Value::Array(log_softmax(call)?),
        "softmax" => {
            let logs = log_softmax(call)?;
            Value::Array(call.tape.elementwise([logs], Rule::Product, |[x]| (x.exp(), [x.exp()]))?)
        }
        "dot" => {
            let operands = [call.array(0, "input")?, call.array(1, "tensor")?];
            let product = call.tape.elementwise(operands, Rule::Product, |[a, b]| (a * b, [b, a]))?;
            Value::Array(sum(call, product, Axes::ALL, false)?)
        }
        _ => return Ok(None),
    }))
}

/// A reduction over the axes that argument `dim` names, over all where it names none.
fn over_axes(
    call: &mut Call<'_>,
    reduce: impl Fn(&mut Call<'_>, Variable, Axes, bool) -> Result<Variable>,
) -> Result<Variable> {
    let x = call.array(0, "input")?;
    let shape = call.tape.shape(x)?;
    let axes = call.axes(1, shape)?.unwrap_or(Axes::ALL);
    let keep = call.flag(2, "keepdim")?;
    reduce(call, x, axes, keep)
}

/// The shape that remains; reduced dimensions stay as 1 where `keep`.
fn remaining(shape: Shape, axes: Axes, keep: bool) -> Result<Shape> {
    let all = [(shape.rows(), axes.rows), (shape.columns(), axes.columns)];
    let dimensions = &all[2 - shape.rank().dimensions()..];
    let kept = dimensions.iter().filter_map(|(n, reduced)| match (reduced, keep) {
        (false, _) => Some(*n),
        (true, true) => Some(1),
        (true, false) => None,
    });
    let kept: Vec<usize> = kept.collect();
    Shape::of_dimensions(&kept).ok_or_else(|| LossGraphError::shape(format!("{shape} cannot be reduced")))
}

fn sum(call: &mut Call<'_>, x: Variable, axes: Axes, keep: bool) -> Result<Variable> {
    let array = call.tape.value(x)?;
    let shape = array.shape();
    let mut sums = vec![0.0; axes.outputs(shape)];
    for (value, target) in array.values().iter().zip(axes.targets(shape)) {
        sums[target] += value;
    }
    call.tape.reduced(x, axes, remaining(shape, axes, keep)?, sums, None)
}

fn mean(call: &mut Call<'_>, x: Variable, axes: Axes, keep: bool) -> Result<Variable> {
    let shape = call.tape.shape(x)?;
    let reduced = |axis: bool, n: usize| if axis { n } else { 1 };
    let count = (reduced(axes.rows, shape.rows()) * reduced(axes.columns, shape.columns())) as f64;
    let sum = sum(call, x, axes, keep)?;
    call.tape.elementwise([sum], Rule::Product, |[x]| (x / count, [1.0 / count]))
}

/// The smallest or largest elements; equal ones share the gradient evenly.
fn extreme(
    call: &mut Call<'_>,
    x: Variable,
    axes: Axes,
    keep: bool,
    better: fn(f64, f64) -> bool,
) -> Result<Variable> {
    let array = call.tape.value(x)?;
    let shape = array.shape();
    let best = best(array.values(), axes, shape, better)?;
    let is_best = |value: f64, best: f64| value == best || (value.is_nan() && best.is_nan());
    let mut ties = vec![0.0; best.len()];
    for (value, target) in array.values().iter().zip(axes.targets(shape)) {
        ties[target] += f64::from(u8::from(is_best(*value, best[target])));
    }
    let share =
        |(value, target): (&f64, usize)| if is_best(*value, best[target]) { 1.0 / ties[target] } else { 0.0 };
    let shares = array.values().iter().zip(axes.targets(shape)).map(share).collect();
    call.tape.reduced(x, axes, remaining(shape, axes, keep)?, best, Some(shares))
}

/// The best element for each result; NaN wins over any number.
fn best(values: &[f64], axes: Axes, shape: Shape, better: fn(f64, f64) -> bool) -> Result<Vec<f64>> {
    let mut best: Vec<Option<f64>> = vec![None; axes.outputs(shape)];
    for (value, target) in values.iter().zip(axes.targets(shape)) {
        best[target] =
            Some(best[target].map_or(*value, |known| chosen(*value, known, better(*value, known)).0));
    }
    let empty = || LossGraphError::shape(format!("shape {shape} has no elements to choose from"));
    best.into_iter().map(|found| found.ok_or_else(empty)).collect()
}

/// All forms of `min` and `max`: of all elements, of two tensors, along one dimension (values and places).
fn min_or_max(call: &mut Call<'_>, better: fn(f64, f64) -> bool) -> Result<Value> {
    let x = call.array(0, "input")?;
    let second = call.optional(1, "other");
    if let Some(Value::Array(other)) = second {
        let operands = [x, other];
        let result = call.tape.elementwise(operands, Rule::Choice, |[a, b]| chosen(a, b, better(a, b)))?;
        return Ok(Value::Array(result));
    }
    let Some(dimension) = second.or_else(|| call.optional(1, "dim")) else {
        return Ok(Value::Array(extreme(call, x, Axes::ALL, false, better)?));
    };
    let dimension = call.as_integer(&dimension, "dim")?;
    let keep = call.flag(2, "keepdim")?;
    along(call, x, dimension, keep, better)
}

/// The best elements along a dimension and their places; the first of equal ones gets the whole gradient.
fn along(
    call: &mut Call<'_>,
    x: Variable,
    dimension: i64,
    keep: bool,
    better: fn(f64, f64) -> bool,
) -> Result<Value> {
    let array = call.tape.value(x)?.clone();
    let shape = array.shape();
    let rows = dimension_of(dimension, shape)? == Some(Dimension::Rows);
    let axes = Axes { rows, columns: !rows };
    let best = best(array.values(), axes, shape, better)?;
    let mut sources: Vec<Option<usize>> = vec![None; best.len()];
    for (place, (value, target)) in array.values().iter().zip(axes.targets(shape)).enumerate() {
        if *value == best[target] || value.is_nan() {
            sources[target].get_or_insert(place);
        }
    }
    let sources: Vec<usize> = sources.into_iter().flatten().collect();
    let columns = shape.columns().max(1);
    let places =
        sources.iter().map(|place| (if rows { place / columns } else { place % columns }) as f64).collect();
    let result = remaining(shape, axes, keep)?;
    let values = call.tape.copied(x, result, sources)?;
    let places = call.tape.input(crate::custom_loss::DenseArray::of_shape(result, places), false)?;
    Ok(Value::Sequence([Value::Array(values), Value::Array(places)].into()))
}

/// `log(sum(exp(x)))`, from the largest element so that nothing overflows.
fn log_sum_exp(call: &mut Call<'_>, x: Variable, axes: Axes, keep: bool) -> Result<Variable> {
    let array = call.tape.value(x)?.clone();
    let shape = array.shape();
    let targets = || array.values().iter().zip(axes.targets(shape));
    let mut largest = vec![f64::NEG_INFINITY; axes.outputs(shape)];
    for (value, target) in targets() {
        largest[target] = largest[target].max(*value);
    }
    // Infinities would make a NaN of the difference.
    let base: Vec<f64> = largest.iter().map(|v| if v.is_finite() { *v } else { 0.0 }).collect();
    let mut sums = vec![0.0; base.len()];
    for (value, target) in targets() {
        sums[target] += (value - base[target]).exp();
    }
    let results: Vec<f64> = sums.iter().zip(&base).map(|(sum, base)| sum.ln() + base).collect();
    let shares = targets().map(|(value, target)| (value - results[target]).exp()).collect();
    call.tape.reduced(x, axes, remaining(shape, axes, keep)?, results, Some(shares))
}

fn log_softmax(call: &mut Call<'_>) -> Result<Variable> {
    let x = call.array(0, "input")?;
    let shape = call.tape.shape(x)?;
    let axes = call.axes(1, shape)?.ok_or_else(|| LossGraphError::argument("needs argument `dim`"))?;
    let total = log_sum_exp(call, x, axes, true)?;
    call.tape.elementwise([x, total], Rule::Product, |[x, total]| (x - total, [1.0, -1.0]))
}
