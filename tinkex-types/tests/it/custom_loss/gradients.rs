//! Gradients against central finite differences, and PyTorch's choices where a function has a kink.

use proptest::prelude::*;
use serde_json::{Value, json};
use tinkex_types::CustomLoss;
use tinkex_types::custom_loss::{DenseArray, LossGraph, LossInputs, LossOutput, Rank};

use super::{function, graph_of, inputs, method, summed, vector};

/// Compares the gradient with the slope of the loss between two points on either side of each log-probability.
fn check(
    graph: &LossGraph,
    logprobs: &DenseArray,
    others: &[(&str, DenseArray)],
) -> Result<(), TestCaseError> {
    const STEP: f64 = 1e-5;
    let at = |values: Vec<f64>| {
        let moved = match *logprobs.dimensions() {
            [rows, columns] => DenseArray::matrix(rows, columns, values).unwrap(),
            _ => DenseArray::vector(values),
        };
        let all: Vec<_> = std::iter::once(("logprobs", moved)).chain(others.iter().cloned()).collect();
        graph.evaluate(&inputs(&all)).unwrap()
    };
    let gradient = at(logprobs.values().to_vec()).logprobs_gradient;
    prop_assert_eq!(gradient.len(), logprobs.values().len());
    for (i, ours) in gradient.into_iter().enumerate() {
        let shifted = |by: f64| {
            let mut values = logprobs.values().to_vec();
            values[i] += by;
            at(values).loss
        };
        let slope = (shifted(STEP) - shifted(-STEP)) / (2.0 * STEP);
        let ours = f64::from(ours);
        prop_assert!(
            (ours - slope).abs() <= 2e-5 * (1.0 + slope.abs()),
            "element {}: {} is not {}",
            i,
            ours,
            slope
        );
    }
    Ok(())
}

/// Different numbers, none near an integer or a half, so that no kink and no tie is near.
fn apart(count: usize, offset: f64) -> impl Strategy<Value = Vec<f64>> {
    let places: Vec<i32> = (-20..20).collect();
    Just(places).prop_shuffle().prop_map(move |places| {
        places.into_iter().take(count).map(|place| f64::from(place) / 7.0 + offset).collect()
    })
}

fn positive(values: &[f64]) -> Vec<f64> {
    values.iter().map(|v| v.abs() + 0.3).collect()
}

/// A matrix of 2 × 3 log-probabilities and another one.
fn two() -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
    (apart(6, 0.031), apart(6, 0.052))
}

fn matrix(values: &[f64]) -> DenseArray {
    DenseArray::matrix(2, 3, values).unwrap()
}

/// The loss `Σ y²` of some operation `y`.
fn squared(nodes: Vec<Value>) -> LossGraph {
    let mut nodes = nodes;
    nodes.push(function("square", "torch.square", &json!([{"ref": "y"}]), &json!({})));
    nodes.push(method("loss", "sum", &json!([{"ref": "square"}]), &json!({})));
    graph_of(&nodes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn of_functions_of_one_number((x, y) in two()) {
        for target in [
            "neg", "pos", "exp", "exp2", "expm1", "square", "reciprocal", "abs", "sign", "floor", "ceil", "trunc",
            "round", "sin", "cos", "tanh", "sigmoid", "log_sigmoid", "softplus", "relu", "float", "clone", "flatten",
            "t", "squeeze",
        ] {
            let graph = squared(vec![method("y", target, &json!([{"ref": "logprobs"}]), &json!({}))]);
            check(&graph, &matrix(&x), &[("other", matrix(&y))])?;
        }
        for target in ["log", "log2", "log10", "log1p", "sqrt", "rsqrt"] {
            let graph = squared(vec![method("y", target, &json!([{"ref": "logprobs"}]), &json!({}))]);
            check(&graph, &matrix(&positive(&x)), &[("other", matrix(&y))])?;
        }
    }

    /// In both places, against a scalar, a row, a column and a matrix, and against itself.
    #[test]
    fn of_functions_of_two_numbers((x, y) in two()) {
        let column = DenseArray::matrix(2, 1, &y[..2]).unwrap();
        let others = [DenseArray::scalar(y[0]), vector(&y[..3]), column, matrix(&y)];
        for target in ["add", "sub", "rsub", "mul", "truediv", "minimum", "maximum", "logaddexp", "min", "max"] {
            for (a, b) in [("logprobs", "other"), ("other", "logprobs"), ("logprobs", "logprobs")] {
                // Equal operands are a tie everywhere, and a quotient of equals is flat.
                let node = method("y", target, &json!([{"ref": a}, {"ref": b}]), &json!({}));
                let graph = squared(vec![node]);
                for other in &others {
                    check(&graph, &matrix(&x), &[("other", other.clone())])?;
                }
            }
        }
        for (a, b) in [("logprobs", "other"), ("other", "logprobs"), ("logprobs", "logprobs")] {
            let node = function("y", "operator.pow", &json!([{"ref": a}, {"ref": b}]), &json!({}));
            let (x, y) = (positive(&x), positive(&y));
            check(&squared(vec![node]), &matrix(&x), &[("other", matrix(&y))])?;
        }
        for exponent in [-1.0, 0.0, 1.0, 2.0, 3.0] {
            let node = function("y", "torch.pow", &json!([{"ref": "logprobs"}, exponent]), &json!({}));
            check(&squared(vec![node]), &matrix(&x), &[("other", matrix(&y))])?;
        }
        let node = function("y", "operator.mod", &json!([{"ref": "logprobs"}, 3.0]), &json!({}));
        check(&squared(vec![node]), &matrix(&x), &[("other", matrix(&y))])?;
    }

    #[test]
    fn of_choices((x, y) in two()) {
        for (target, args, kwargs) in [
            ("clamp", json!([{"ref": "logprobs"}, -1, 1.5]), json!({})),
            ("clamp", json!([{"ref": "logprobs"}]), json!({"min": {"ref": "other"}})),
            ("clamp", json!([{"ref": "other"}, {"ref": "logprobs"}, 0.7]), json!({})),
            ("clamp", json!([{"ref": "other"}, -0.7, {"ref": "logprobs"}]), json!({})),
            ("where", json!([{"ref": "mask"}, {"ref": "logprobs"}, {"ref": "other"}]), json!({})),
            ("where", json!([{"ref": "mask"}, 2, {"ref": "logprobs"}]), json!({})),
            ("masked_fill", json!([{"ref": "logprobs"}, {"ref": "mask"}, 0.5]), json!({})),
        ] {
            let mask = function("mask", "operator.gt", &json!([{"ref": "other"}, 0]), &json!({}));
            let node = function("y", &format!("torch.{target}"), &args, &kwargs);
            check(&squared(vec![mask, node]), &matrix(&x), &[("other", matrix(&y))])?;
        }
    }

    #[test]
    fn of_reductions((x, y) in two()) {
        for target in ["sum", "mean", "amin", "amax", "logsumexp", "softmax", "log_softmax"] {
            for dim in [json!(0), json!(-1), json!([0, 1])] {
                let node = method("y", target, &json!([{"ref": "logprobs"}, dim]), &json!({}));
                check(&squared(vec![node]), &matrix(&x), &[("other", matrix(&y))])?;
            }
        }
        for target in ["min", "max"] {
            let node = method("y", target, &json!([{"ref": "logprobs"}]), &json!({}));
            check(&squared(vec![node]), &matrix(&x), &[("other", matrix(&y))])?;
            for dim in [0, 1] {
                let best = method("best", target, &json!([{"ref": "logprobs"}]), &json!({"dim": dim, "keepdim": true}));
                let node = function("y", "operator.getitem", &json!([{"ref": "best"}, 0]), &json!({}));
                check(&squared(vec![best, node]), &matrix(&x), &[("other", matrix(&y))])?;
            }
        }
        let node = function("y", "torch.dot", &json!([{"ref": "logprobs"}, {"ref": "logprobs"}]), &json!({}));
        check(&squared(vec![node]), &vector(&x), &[("other", vector(&y))])?;
    }

    #[test]
    fn of_indices((x, y) in two()) {
        for index in [
            json!(1),
            json!({"tuple": [{"ellipsis": true}, {"slice": [null, -1, null]}]}),
            json!({"tuple": [{"slice": [null, null, null]}, 2]}),
            json!({"tuple": [-1, null, {"slice": [0, 3, 2]}]}),
        ] {
            let node = function("y", "operator.getitem", &json!([{"ref": "logprobs"}, index]), &json!({}));
            check(&squared(vec![node]), &matrix(&x), &[("other", matrix(&y))])?;
        }
        for (target, argument) in [("unsqueeze", json!(0)), ("reshape", json!([3, 2])), ("view", json!(-1))] {
            let node = method("y", target, &json!([{"ref": "logprobs"}, argument]), &json!({}));
            check(&squared(vec![node]), &vector(&x), &[("other", vector(&y))])?;
        }
    }

    /// The losses people write: every operation of the builder is in one of them.
    #[test]
    fn of_whole_losses((x, y) in two(), weights in apart(6, 0.077)) {
        type LossFunction = fn(&LossInputs) -> LossOutput;
        let losses: [(&str, LossFunction); 6] = [
            ("weighted_nll", |x| LossOutput::new(-(x.logprobs() * x.input("weights")).sum() / x.input("weights").abs().sum())),
            ("dpo", |x| {
                let margin = ((x.logprobs() - x.input("other")) * x.input("weights")).sum();
                LossOutput::new(-(0.1 * margin).log_sigmoid())
            }),
            ("ppo", |x| {
                let ratio = (x.logprobs() - x.input("other")).exp();
                let clipped = ratio.clamp(0.8, 1.2);
                let objective = (&ratio * x.input("weights")).minimum(clipped * x.input("weights"));
                LossOutput::new(-objective.mean()).metric("custom/ratio:mean", ratio.mean())
            }),
            ("kl", |x| {
                let log_ratio = x.input("other") - x.logprobs();
                let k3 = log_ratio.exp() - 1 - &log_ratio;
                let k1 = x.logprobs() * x.logprobs();
                LossOutput::new((k3.softplus() + k1.tanh()).mean())
            }),
            ("huber", |x| {
                let error = x.logprobs() - x.input("other");
                let near = error.abs().lt(1);
                let loss = x.where_(&near, 0.5 * error.pow(2.0), error.abs() - 0.5);
                LossOutput::new((loss * x.input("weights")).sum())
            }),
            ("mixed", |x| {
                let p = x.logprobs().sigmoid();
                let entropy = -(&p * p.log() + (1 - &p) * (1.0 - &p).log());
                let hinge = (x.input("other") - x.logprobs()).relu().maximum(x.logprobs().full_like(0.21));
                let count = x.logprobs().ge(x.input("other")).to_float() + x.logprobs().le(2.0).to_float();
                LossOutput::new((entropy.sqrt() + hinge / 3 + count * p).sum())
            }),
        ];
        for (name, loss) in losses {
            let loss = CustomLoss::build(name, [("other", Rank::Vector), ("weights", Rank::Vector)], loss).unwrap();
            check(loss.graph(), &vector(&x), &[("other", vector(&y)), ("weights", vector(&weights))])?;
        }
    }
}

fn gradient(loss: &CustomLoss, logprobs: &[f64], other: &[f64]) -> Vec<f32> {
    let arrays = inputs(&[("logprobs", vector(logprobs)), ("other", vector(other))]);
    loss.graph().evaluate(&arrays).unwrap().logprobs_gradient
}

/// At kinks and ties, PyTorch's choices.
#[test]
fn at_kinks() {
    let x = [-2.0, -1.0, 0.0, 1.0, 2.0];
    let zeros = [0.0; 5];
    for (loss, other, expected) in [
        (summed(|x| x.logprobs().clamp(-1.0, 1.0)), zeros, [0.0, 1.0, 1.0, 1.0, 0.0]),
        (summed(|x| x.logprobs().abs()), zeros, [-1.0, -1.0, 0.0, 1.0, 1.0]),
        (summed(|x| x.logprobs().relu()), zeros, [0.0, 0.0, 0.0, 1.0, 1.0]),
        (summed(|x| x.logprobs().minimum(x.input("other"))), zeros, [1.0, 1.0, 0.5, 0.0, 0.0]),
        (summed(|x| x.input("other").maximum(x.logprobs())), zeros, [0.0, 0.0, 0.5, 1.0, 1.0]),
        (summed(|x| x.logprobs() * x.logprobs().detach()), zeros, [-2.0, -1.0, 0.0, 1.0, 2.0]),
        (
            summed(|x| {
                let mask = x.input("other").gt(0);
                x.where_(&mask, x.logprobs(), 3.0 * x.logprobs())
            }),
            [1.0, 0.0, 1.0, 0.0, -1.0],
            [1.0, 3.0, 1.0, 3.0, 3.0],
        ),
        (summed(|x| x.logprobs().pow(0.0)), zeros, [0.0; 5]),
    ] {
        assert_eq!(gradient(&loss, &x, &other), expected);
    }
    // Of equal extremes, `max()` shares the gradient and `max(dim)` gives it to the first.
    let max = squared(vec![method("y", "max", &json!([{"ref": "logprobs"}]), &json!({}))]);
    let arrays = inputs(&[("logprobs", vector(&[1.0, 3.0, 3.0])), ("other", vector(&[]))]);
    assert_eq!(max.evaluate(&arrays).unwrap().logprobs_gradient, [0.0, 3.0, 3.0]);
    let first = squared(vec![
        method("best", "max", &json!([{"ref": "logprobs"}, 0]), &json!({})),
        function("y", "operator.getitem", &json!([{"ref": "best"}, 0]), &json!({})),
    ]);
    assert_eq!(first.evaluate(&arrays).unwrap().logprobs_gradient, [0.0, 6.0, 0.0]);
}

/// What was not chosen passes no gradient back, whatever it was: an infinite slope behind a mask does not become NaN
/// by the choice itself, but does by a product, as in PyTorch.
#[test]
fn masks_stop_infinite_slopes() {
    let chosen = summed(|x| {
        let mask = x.input("other").gt(0);
        (x.where_(&mask, x.logprobs(), 0.0)).sqrt()
    });
    let slopes = gradient(&chosen, &[4.0, 4.0], &[1.0, 0.0]);
    assert_eq!(
        slopes,
        [0.25, 0.0],
        "the slope of sqrt at 0 is infinite, and the 0 was not the log-probability"
    );
    let product = summed(|x| (x.logprobs() * x.input("other")).sqrt());
    let slopes = gradient(&product, &[4.0, 4.0], &[1.0, 0.0]);
    assert_eq!(slopes[0], 0.25);
    assert!(slopes[1].is_nan());
}
