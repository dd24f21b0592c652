//! The builder against the recorded graphs, and every local rule of PROTOCOL 13.3.

use serde_json::{Value, json};
use tinkex_types::custom_loss::{CustomLoss, CustomLossInput, LossExpression, LossInputs, LossOutput, Rank};
use tinkex_types::{CreateCustomLossRequest, InvalidInput};

use super::{recorded, recorded_graph, summed};
use crate::support::fixture;

fn nodes(loss: &CustomLoss) -> Vec<Value> {
    serde_json::to_value(loss.graph()).unwrap()["nodes"].as_array().unwrap().clone()
}

fn neg_ll(name: &str) -> CustomLoss {
    CustomLoss::build(name, [("weights", Rank::Vector)], |x| {
        let loss = -(x.logprobs() * x.input("weights")).sum();
        let tokens = x.input("weights").sum();
        LossOutput::new(loss.clone()).metric("custom/neg_ll:sum", loss).metric("custom/tok:mean", tokens)
    })
    .unwrap()
}

/// The recorded negative log-likelihood, node for node and byte for byte.
#[test]
fn a_whole_recorded_upload_is_built() {
    let request = CreateCustomLossRequest::new("s-0001", 1, &neg_ll("neg_ll"));
    let text = super::server_side()["exchanges"][1]["request"]["body_text"].clone();
    assert_eq!(serde_json::to_string(&request).unwrap(), text.as_str().unwrap());
}

/// The part of the recorded clipped surrogate that the builder has operations for.
#[test]
fn recorded_nodes_are_built() {
    let loss = CustomLoss::build("clip_loss", [("old", Rank::Vector), ("adv", Rank::Vector)], |x| {
        let (old, adv) = (x.input("old"), x.input("adv"));
        let ratio = (x.logprobs() - old).exp();
        let clipped = ratio.clamp(0.8, 1.2);
        let positive = adv.gt(0);
        let pessimistic = (&ratio * &adv).minimum(clipped * &adv);
        let chosen = x.where_(&positive, pessimistic, &ratio * &adv);
        LossOutput::new(chosen.sum()).metric("custom/zero:sum", 0.0 * chosen.sum())
    })
    .unwrap();
    let recorded = recorded(0);
    let ours = nodes(&loss);
    let shared = recorded["graph"]["nodes"].as_array().unwrap().iter().take(12);
    assert_eq!(ours[..12].iter().collect::<Vec<_>>(), shared.collect::<Vec<_>>());
    assert_eq!(serde_json::to_value(loss.inputs()).unwrap(), recorded["inputs"]);
    // A number on the left stays on the left; `sum` is never a name of its own.
    let names: Vec<_> = ours[12..].iter().map(|n| n["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["sum_1", "sum_2", "mul_3", "output"]);
    assert_eq!(ours[14]["args"], json!([0.0, {"ref": "sum_2"}]));
}

/// Every operation writes the target, name and arguments that the tracer writes.
#[test]
fn every_operation_is_traced() {
    type Operation = fn(&LossInputs) -> LossExpression;
    let cases: [(Operation, &str, &str, Value); 27] = [
        (
            |x| x.logprobs() + x.input("other"),
            "operator.add",
            "add",
            json!([{"ref": "logprobs"}, {"ref": "other"}]),
        ),
        (|x| &x.logprobs() - 1, "operator.sub", "sub", json!([{"ref": "logprobs"}, 1])),
        (|x| 2.5 * &x.logprobs(), "operator.mul", "mul", json!([2.5, {"ref": "logprobs"}])),
        (|x| 1 / x.logprobs(), "operator.truediv", "truediv", json!([1, {"ref": "logprobs"}])),
        (|x| -&x.logprobs(), "operator.neg", "neg", json!([{"ref": "logprobs"}])),
        (|x| x.logprobs().exp(), "torch.exp", "exp", json!([{"ref": "logprobs"}])),
        (|x| x.logprobs().log(), "torch.log", "log", json!([{"ref": "logprobs"}])),
        (|x| x.logprobs().sqrt(), "torch.sqrt", "sqrt", json!([{"ref": "logprobs"}])),
        (|x| x.logprobs().abs(), "torch.abs", "abs_1", json!([{"ref": "logprobs"}])),
        (|x| x.logprobs().pow(2.0), "torch.pow", "pow_1", json!([{"ref": "logprobs"}, 2.0])),
        (|x| x.logprobs().sigmoid(), "torch.sigmoid", "sigmoid", json!([{"ref": "logprobs"}])),
        (
            |x| x.logprobs().log_sigmoid(),
            "torch._C._nn.log_sigmoid",
            "log_sigmoid",
            json!([{"ref": "logprobs"}]),
        ),
        (|x| x.logprobs().softplus(), "torch._C._nn.softplus", "softplus", json!([{"ref": "logprobs"}])),
        (|x| x.logprobs().tanh(), "torch.tanh", "tanh", json!([{"ref": "logprobs"}])),
        (|x| x.logprobs().relu(), "torch.relu", "relu", json!([{"ref": "logprobs"}])),
        (
            |x| x.logprobs().clamp(f64::NEG_INFINITY, 1.0),
            "torch.clamp",
            "clamp",
            json!([{"ref": "logprobs"}, {"float": "-inf"}, 1.0]),
        ),
        (
            |x| x.logprobs().minimum(x.input("other")),
            "torch.minimum",
            "minimum",
            json!([{"ref": "logprobs"}, {"ref": "other"}]),
        ),
        (
            |x| x.logprobs().maximum(x.input("other")),
            "torch.maximum",
            "maximum",
            json!([{"ref": "logprobs"}, {"ref": "other"}]),
        ),
        (
            |x| x.logprobs().gt(0).to_float() + x.logprobs(),
            "operator.gt",
            "gt",
            json!([{"ref": "logprobs"}, 0]),
        ),
        (
            |x| x.logprobs().ge(0.5).to_float() + x.logprobs(),
            "operator.ge",
            "ge",
            json!([{"ref": "logprobs"}, 0.5]),
        ),
        (
            |x| x.logprobs().lt(x.input("other")).to_float() + x.logprobs(),
            "operator.lt",
            "lt",
            json!([{"ref": "logprobs"}, {"ref": "other"}]),
        ),
        (
            |x| x.logprobs().le(0).to_float() + x.logprobs(),
            "operator.le",
            "le",
            json!([{"ref": "logprobs"}, 0]),
        ),
        (|x| x.logprobs().mean(), "mean", "mean", json!([{"ref": "logprobs"}])),
        (|x| x.logprobs().sum(), "sum", "sum_1", json!([{"ref": "logprobs"}])),
        (|x| x.logprobs().detach() * x.logprobs(), "detach", "detach", json!([{"ref": "logprobs"}])),
        (
            |x| x.logprobs().full_like(0.5) * x.logprobs(),
            "torch.full_like",
            "full_like",
            json!([{"ref": "logprobs"}, 0.5]),
        ),
        (
            |x| {
                let condition = x.input("other").gt(0);
                x.where_(&condition, x.logprobs(), 0)
            },
            "torch.where",
            "where",
            json!([{"ref": "gt"}, {"ref": "logprobs"}, 0]),
        ),
    ];
    for (operation, target, name, args) in cases {
        let all = nodes(&summed(operation));
        let node = all.iter().find(|node| node["target"] == target).unwrap();
        assert_eq!(
            (&node["name"], &node["args"], &node["kwargs"]),
            (&json!(name), &args, &json!({})),
            "{target}"
        );
        let kind = if target.contains('.') { "call_function" } else { "call_method" };
        assert_eq!(node["op"], kind, "{target}");
    }
    let all = nodes(&summed(|x| x.logprobs().gt(0).to_float() * x.logprobs()));
    assert_eq!(
        all[3],
        json!({"op": "call_method", "name": "to", "target": "to", "args": [{"ref": "gt"}, {"dtype": "float32"}], "kwargs": {}})
    );
}

/// Names as the tracer makes them: counted, never a word of Python's own, never one that an input has.
#[test]
fn names_are_the_tracers() {
    let inputs =
        [("sum", Rank::Vector), ("mul_1", Rank::Vector), ("lambda", Rank::Scalar), ("exp", Rank::Vector)];
    let loss = CustomLoss::build("f", inputs, |x| {
        let product = x.logprobs() * x.input("sum") * x.input("mul_1") * x.input("lambda");
        LossOutput::new(product.exp().sum())
    })
    .unwrap();
    let all = nodes(&loss);
    let names: Vec<_> = all.iter().map(|n| n["name"].as_str().unwrap()).collect();
    let expected = [
        "logprobs", "sum_1", "mul_1", "lambda_1", "exp", "mul", "mul_2", "mul_3", "exp_1", "sum_2", "output",
    ];
    assert_eq!(names, expected);
    assert_eq!(all[1]["target"], "sum", "an input keeps its own name as target");
    let largest = format!("exp_{}", u64::MAX);
    let loss = CustomLoss::build("f", [(largest.as_str(), Rank::Vector)], |x| {
        LossOutput::new(x.logprobs().exp().exp().sum())
    })
    .unwrap();
    let names: Vec<_> = loss.graph().nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["logprobs", largest.as_str(), "exp", "exp_0", "sum_1", "output"]);
}

/// [custom_loss]: equal graphs on equal inputs have one key, whatever the name; anything else has another.
#[test]
fn keys_tell_losses_apart() {
    let vectors = fixture(include_str!("../../fixtures/custom_loss.json"));
    let names: Vec<_> = neg_ll("a").inputs()[1..].iter().map(|i| json!(i.name)).collect();
    assert_eq!(json!(names), vectors["handle_key"]["input_names"]);
    assert_eq!(neg_ll("a").key(), neg_ll("b").key());
    let traced = CustomLoss::new("c", neg_ll("a").inputs(), recorded_graph(1)).unwrap();
    assert_eq!(neg_ll("a").key(), traced.key());
    let of_rank = |rank| {
        CustomLoss::build("f", [("w", rank)], |x| LossOutput::new((x.logprobs() * x.input("w")).sum()))
            .unwrap()
    };
    let keys = [
        of_rank(Rank::Scalar).key(),
        of_rank(Rank::Vector).key(),
        summed(|x| x.logprobs()).key(),
        summed(|x| x.logprobs() * 1).key(),
        summed(|x| x.logprobs() * 1.0).key(),
        neg_ll("a").key(),
    ];
    for (i, key) in keys.iter().enumerate() {
        assert!(!keys[..i].contains(key), "key {i}");
    }
}

#[test]
fn log_probabilities_may_be_a_matrix() {
    let loss = CustomLoss::build_on_matrix("f", [("w", Rank::Vector)], |x| {
        let weighted = x.logprobs() * x.input("w");
        assert_eq!(
            (x.logprobs().rank(), weighted.rank(), weighted.mean().rank()),
            (Rank::Matrix, Rank::Matrix, Rank::Scalar)
        );
        LossOutput::new(weighted.sum())
    })
    .unwrap();
    let first = CustomLossInput { name: "logprobs".to_owned(), rank: Rank::Matrix };
    assert_eq!(loss.inputs()[0], first);
}

#[track_caller]
fn assert_refused(result: Result<CustomLoss, InvalidInput>, expected: &str) {
    let message = result.unwrap_err().to_string();
    assert!(message.contains(expected), "{message:?} should say {expected:?}");
}

const NONE: [(&str, Rank); 0] = [];

fn likelihood(x: &LossInputs) -> LossOutput {
    LossOutput::new(-x.logprobs().sum())
}

/// PROTOCOL 13.3: names are `[a-z_][a-z0-9_]{0,63}`, of losses and inputs; at most 16 inputs, all different.
#[test]
fn names_and_inputs_are_checked() {
    let long = "a".repeat(64);
    let too_long = "a".repeat(65);
    for good in ["f", "_", "_9", "clip_loss_2", long.as_str()] {
        assert!(CustomLoss::build(good, NONE, likelihood).is_ok(), "{good}");
        assert!(CustomLoss::build("f", [(good, Rank::Scalar)], likelihood).is_ok(), "{good}");
    }
    for bad in ["", "9a", "Clip", "clip-loss", "clip loss", "müll", too_long.as_str()] {
        assert_refused(CustomLoss::build(bad, NONE, likelihood), "custom loss name");
        assert_refused(CustomLoss::build("f", [(bad, Rank::Vector)], likelihood), "custom loss inputs");
    }
    let many = |n: usize| (0..n).map(|i| (format!("i{i}"), Rank::Vector));
    assert!(CustomLoss::build("f", many(15), likelihood).is_ok());
    assert_refused(CustomLoss::build("f", many(16), likelihood), "at most 16");
    let twice = [("w", Rank::Vector), ("w", Rank::Scalar)];
    assert_refused(CustomLoss::build("f", twice, likelihood), "`w` twice");
    assert_refused(CustomLoss::build("f", [("logprobs", Rank::Vector)], likelihood), "`logprobs` twice");
}

/// PROTOCOL 13.3: metric keys are `custom/[a-z0-9_./-]{1,64}:(sum|mean)`, each once.
#[test]
fn metric_keys_are_checked() {
    let with = |keys: &[&str]| {
        CustomLoss::build("f", NONE, |x| {
            keys.iter().fold(likelihood(x), |output, key| output.metric(*key, x.logprobs().mean()))
        })
    };
    let longest = format!("custom/{}:mean", "a".repeat(64));
    for good in ["custom/a:sum", "custom/kl/v1.2-b_c:mean", longest.as_str()] {
        assert!(with(&[good]).is_ok(), "{good}");
    }
    let too_long = format!("custom/{}:mean", "a".repeat(65));
    for bad in [
        "a:sum",
        "custom/a",
        "custom/a:max",
        "custom/:sum",
        "custom/A:sum",
        "custom/a b:sum",
        too_long.as_str(),
    ] {
        assert_refused(with(&[bad]), "must have keys like");
    }
    assert_refused(with(&["custom/a:sum", "custom/a:sum"]), "`custom/a:sum` twice");
    assert!(with(&["custom/a:sum", "custom/a:mean"]).is_ok());
}

/// The loss and the metrics are scalars, made of this loss's inputs, and the loss can be differentiated.
#[test]
fn what_is_returned_is_checked() {
    let build = |output: fn(&LossInputs) -> LossOutput| CustomLoss::build("f", [("w", Rank::Vector)], output);
    assert_refused(build(|x| LossOutput::new(x.logprobs())), "the loss has rank 1");
    assert_refused(build(|x| likelihood(x).metric("custom/m:sum", x.logprobs())), "custom/m:sum has rank 1");
    assert_refused(build(|x| LossOutput::new((x.logprobs() * x.input("v")).sum())), "do not contain `v`");
    let constants: [fn(&LossInputs) -> LossOutput; 4] = [
        |x| LossOutput::new(x.input("w").sum()),
        |x| LossOutput::new(x.logprobs().detach().sum()),
        |x| LossOutput::new(x.logprobs().gt(0).to_float().sum()),
        |x| LossOutput::new(x.logprobs().full_like(1.0).sum()),
    ];
    for constant in constants {
        assert_refused(build(constant), "must depend on `logprobs`");
    }
    let mut kept = None;
    build_and_keep(&mut kept);
    let foreign = kept.unwrap();
    assert_refused(
        CustomLoss::build("f", NONE, |x| LossOutput::new((x.logprobs() * &foreign).sum())),
        "expressions of another loss",
    );
    assert_refused(
        CustomLoss::build("f", NONE, |_| LossOutput::new(foreign.sum())),
        "expressions of another loss",
    );
}

fn build_and_keep(kept: &mut Option<LossExpression>) {
    CustomLoss::build("f", NONE, |x| {
        *kept = Some(x.logprobs());
        likelihood(x)
    })
    .unwrap();
}

#[test]
fn graphs_have_a_limit() {
    let of_nodes = |nodes: usize| {
        CustomLoss::build("f", NONE, |x| {
            // One for the input, the sum and the output each.
            LossOutput::new((3..nodes).fold(x.logprobs(), |sum, _| sum + 1).sum())
        })
    };
    assert_eq!(of_nodes(10_000).unwrap().graph().nodes.len(), 10_000);
    assert_refused(of_nodes(10_001), "10000 nodes");
}
