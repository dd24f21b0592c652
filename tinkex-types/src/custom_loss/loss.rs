//! A custom loss: name, inputs and graph, checked against the local rules (PROTOCOL 13.3).

use std::collections::HashSet;

use super::evaluate::returned_pair;
use super::graph::{LossGraph, Node, NodeOp};
use super::rank::Rank;
use super::request::CustomLossInput;
use super::rules::{LOGPROBS, MAX_INPUTS, MAX_NODES, is_metric_key, is_name};
use crate::InvalidInput;

/// A loss that a server can run, and that this crate can evaluate locally (PROTOCOL 13.3).
///
/// Made with [`CustomLoss::build`] from a closure, or with [`CustomLoss::new`] from a graph that was traced elsewhere.
/// What it holds keeps the rules of PROTOCOL 13.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomLoss {
    name: String,
    inputs: Vec<CustomLossInput>,
    graph: LossGraph,
}

impl CustomLoss {
    /// A loss of a graph that was made elsewhere.
    ///
    /// # Errors
    /// Where a name is not `[a-z_][a-z0-9_]{0,63}`, the first input is not `logprobs` of rank 1 or 2, there are more
    /// than 16 inputs or two of one name, the graph's inputs are not these in this order, two nodes have one name, the
    /// last node is not an output of a loss and a dict of metrics, or a metric key is not
    /// `custom/[a-z0-9_./-]{1,64}:(sum|mean)`. What the nodes call is not checked: servers have their own lists.
    pub fn new(
        name: impl Into<String>,
        inputs: impl Into<Vec<CustomLossInput>>,
        graph: LossGraph,
    ) -> Result<Self, InvalidInput> {
        let loss = Self { name: name.into(), inputs: inputs.into(), graph };
        check_name(&loss.name)?;
        check_inputs(&loss.inputs)?;
        loss.check_graph()?;
        Ok(loss)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The inputs, `logprobs` first.
    pub fn inputs(&self) -> &[CustomLossInput] {
        &self.inputs
    }

    /// The operations.
    pub fn graph(&self) -> &LossGraph {
        &self.graph
    }

    /// A text that is equal for losses that compute the same in the same way from the same inputs, whatever their
    /// names: a session creates each of them once (PROTOCOL 13.3). Never sent.
    pub fn key(&self) -> String {
        format!("{:?}{:?}", self.inputs, self.graph)
    }

    fn check_graph(&self) -> Result<(), InvalidInput> {
        let refuse = |problem: String| Err(InvalidInput::new("custom loss graph", problem));
        let nodes = &self.graph.nodes;
        if self.graph.format != LossGraph::FORMAT {
            return refuse(format!("must be of format {}, not {}", LossGraph::FORMAT, self.graph.format));
        }
        if nodes.len() > MAX_NODES {
            return refuse(format!("must have at most {MAX_NODES} nodes, not {}", nodes.len()));
        }
        let placeholders = nodes.iter().filter(|node| node.op == NodeOp::Placeholder);
        if !placeholders.map(|node| &node.target).eq(self.inputs.iter().map(|input| &input.name)) {
            return refuse("must have the declared inputs, in their order".to_owned());
        }
        let mut names = HashSet::new();
        if let Some(node) = nodes.iter().find(|node| !names.insert(&node.name)) {
            return refuse(format!("must not have two nodes named `{}`", node.name));
        }
        if let Some(node) = nodes.iter().find(|node| matches!(node.op, NodeOp::Other(_))) {
            return refuse(format!("must not have a node of kind {}", node.op));
        }
        match nodes.split_last() {
            Some((last, before))
                if last.op == NodeOp::Output && !before.iter().any(|n| n.op == NodeOp::Output) =>
            {
                check_output(last)
            }
            _ => refuse("must end with its one output".to_owned()),
        }
    }
}

pub(super) fn check_name(name: &str) -> Result<(), InvalidInput> {
    if is_name(name) {
        return Ok(());
    }
    Err(InvalidInput::new("custom loss name", format!("must be like [a-z_][a-z0-9_]{{0,63}}, not {name:?}")))
}

pub(super) fn check_inputs(inputs: &[CustomLossInput]) -> Result<(), InvalidInput> {
    let refuse = |problem: String| Err(InvalidInput::new("custom loss inputs", problem));
    if !inputs.first().is_some_and(|first| first.name == LOGPROBS && first.rank != Rank::Scalar) {
        return refuse(format!("must begin with `{LOGPROBS}` of rank 1 or 2"));
    }
    if inputs.len() > MAX_INPUTS {
        return refuse(format!("must be at most {MAX_INPUTS} with `{LOGPROBS}`, not {}", inputs.len()));
    }
    let mut names = HashSet::new();
    for CustomLossInput { name, .. } in inputs {
        if !is_name(name) {
            return refuse(format!("must have names like [a-z_][a-z0-9_]{{0,63}}, not {name:?}"));
        }
        if !names.insert(name) {
            return refuse(format!("must not contain `{name}` twice"));
        }
    }
    Ok(())
}

pub(super) fn check_metric_key(key: &str) -> Result<(), InvalidInput> {
    if is_metric_key(key) {
        return Ok(());
    }
    let problem = format!("must have keys like custom/[a-z0-9_./-]{{1,64}}:(sum|mean), not {key:?}");
    Err(InvalidInput::new("custom loss metrics", problem))
}

fn check_output(output: &Node) -> Result<(), InvalidInput> {
    let Some((_, metrics)) = returned_pair(output) else {
        return Err(InvalidInput::new("custom loss graph", "must return a loss and a dict of metrics"));
    };
    let mut keys = HashSet::new();
    for (key, _) in metrics.iter() {
        check_metric_key(key)?;
        if !keys.insert(key) {
            return Err(InvalidInput::new("custom loss metrics", format!("must not contain `{key}` twice")));
        }
    }
    Ok(())
}
