//! Custom losses: the graph on the wire, the builder, the evaluator and its gradients (PROTOCOL 13).

mod building;
mod data;
mod evaluation;
mod gradients;
mod hostile;
mod wire;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tinkex_types::CustomLoss;
use tinkex_types::custom_loss::{
    DenseArray, LossEvaluation, LossExpression, LossGraph, LossGraphError, LossInputs, LossOutput, Rank,
};

use crate::support::{fixture, request_body};

const CREATE: &str = "/api/v1/create_custom_loss";

fn server_side() -> Value {
    fixture(include_str!("../fixtures/custom_loss_server_side.json"))
}

/// The two recorded uploads: the clipped surrogate of many operations, and the negative log-likelihood.
fn recorded(n: usize) -> Value {
    request_body(&server_side(), CREATE, n)
}

fn recorded_graph(n: usize) -> LossGraph {
    serde_json::from_value(recorded(n)["graph"].clone()).unwrap()
}

fn vector(values: &[f64]) -> DenseArray {
    DenseArray::vector(values)
}

fn inputs(arrays: &[(&str, DenseArray)]) -> BTreeMap<String, DenseArray> {
    arrays.iter().map(|(name, array)| ((*name).to_owned(), array.clone())).collect()
}

/// A graph on `logprobs` and `other` of the given nodes; the last one is the loss.
fn graph_of(nodes: &[Value]) -> LossGraph {
    let placeholder =
        |name: &str| json!({"op": "placeholder", "name": name, "target": name, "args": [], "kwargs": {}});
    let mut all = vec![placeholder("logprobs"), placeholder("other")];
    all.extend(nodes.iter().cloned());
    let last = all.last().unwrap()["name"].clone();
    let pair = json!({"tuple": [{"ref": last}, {"dict": {}}]});
    all.push(json!({"op": "output", "name": "output", "target": "output", "args": [pair], "kwargs": {}}));
    serde_json::from_value(json!({"format": 1, "nodes": all})).unwrap()
}

fn function(name: &str, target: &str, args: &Value, kwargs: &Value) -> Value {
    json!({"op": "call_function", "name": name, "target": target, "args": args, "kwargs": kwargs})
}

fn method(name: &str, target: &str, args: &Value, kwargs: &Value) -> Value {
    json!({"op": "call_method", "name": name, "target": target, "args": args, "kwargs": kwargs})
}

/// `name.sum()` under the name `loss`.
fn total(name: &str) -> Value {
    method("loss", "sum", &json!([{"ref": name}]), &json!({}))
}

/// The result and gradient of one operation on `logprobs` and `other`, summed.
fn evaluate_one(
    node: Value,
    logprobs: DenseArray,
    other: DenseArray,
) -> Result<LossEvaluation, LossGraphError> {
    let name = node["name"].as_str().unwrap().to_owned();
    graph_of(&[node, total(&name)]).evaluate(&inputs(&[("logprobs", logprobs), ("other", other)]))
}

/// A loss on `logprobs` and the vector `other`, which is the sum of an expression.
fn summed(expression: impl FnOnce(&LossInputs) -> LossExpression) -> CustomLoss {
    CustomLoss::build("summed", [("other", Rank::Vector)], |x| LossOutput::new(expression(x).sum())).unwrap()
}
