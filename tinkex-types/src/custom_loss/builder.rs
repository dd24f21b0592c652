//! Builds a loss graph by running a closure over expressions that record what is done to them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::argument::{Argument, NamedArguments};
use super::expression::{LossCondition, LossExpression, LossOperand};
use super::graph::{LossGraph, Node, NodeOp};
use super::loss::{CustomLoss, check_inputs, check_metric_key, check_name};
use super::naming::NodeNames;
use super::rank::Rank;
use super::request::CustomLossInput;
use super::rules::{LOGPROBS, MAX_NODES};
use crate::InvalidInput;

/// What a loss returns: the loss, to be minimised, and metrics (PROTOCOL 13.3). Each is a scalar.
#[must_use]
#[derive(Debug)]
pub struct LossOutput {
    loss: LossExpression,
    metrics: Vec<(String, LossExpression)>,
}

impl LossOutput {
    /// A loss without metrics.
    pub fn new(loss: LossExpression) -> Self {
        Self { loss, metrics: Vec::new() }
    }

    /// Adds a metric under a key `custom/[a-z0-9_./-]{1,64}:(sum|mean)`. Over datums, `:sum` ones are summed, `:mean`
    /// ones averaged.
    pub fn metric(mut self, key: impl Into<String>, value: LossExpression) -> Self {
        self.metrics.push((key.into(), value));
        self
    }
}

/// The inputs of a loss that is being built.
#[derive(Debug)]
pub struct LossInputs {
    recorder: Rc<Recorder>,
    inputs: BTreeMap<String, LossExpression>,
    logprobs: LossExpression,
}

impl LossInputs {
    /// The log-probabilities of the target tokens, what the loss is differentiated by.
    pub fn logprobs(&self) -> LossExpression {
        self.logprobs.clone()
    }

    /// A declared input. Asking for one that was not declared makes [`CustomLoss::build`] fail.
    pub fn input(&self, name: &str) -> LossExpression {
        self.inputs.get(name).cloned().unwrap_or_else(|| {
            self.recorder.refuse(InvalidInput::new("custom loss inputs", format!("do not contain `{name}`")));
            self.logprobs()
        })
    }

    /// `torch.where`: `a` where the condition holds, `b` elsewhere. No gradient reaches what was not chosen.
    pub fn where_(
        &self,
        condition: &LossCondition,
        a: impl Into<LossOperand>,
        b: impl Into<LossOperand>,
    ) -> LossExpression {
        condition.choose(a.into(), b.into())
    }
}

impl CustomLoss {
    /// Builds a loss on `logprobs` of rank 1, one per target token, and the declared other inputs: keys of
    /// `loss_fn_inputs` that every datum must have at that rank (PROTOCOL 13.3). The closure runs once, at once.
    ///
    /// # Errors
    /// Where a name is not `[a-z_][a-z0-9_]{0,63}`, there are more than 16 inputs with `logprobs` or two of one name,
    /// the closure asks for an input that was not declared or uses an expression of another loss, a metric key is not
    /// `custom/[a-z0-9_./-]{1,64}:(sum|mean)` or given twice, the loss or a metric is not a scalar, the loss does not
    /// depend on `logprobs` in a differentiable way, or there are more than 10,000 nodes.
    pub fn build<N: Into<String>>(
        name: impl Into<String>,
        inputs: impl IntoIterator<Item = (N, Rank)>,
        loss: impl FnOnce(&LossInputs) -> LossOutput,
    ) -> Result<Self, InvalidInput> {
        Self::build_on(Rank::Vector, name.into(), inputs, loss)
    }

    /// [`build`](Self::build) for `logprobs` of rank 2: k target tokens at every position.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_on_matrix<N: Into<String>>(
        name: impl Into<String>,
        inputs: impl IntoIterator<Item = (N, Rank)>,
        loss: impl FnOnce(&LossInputs) -> LossOutput,
    ) -> Result<Self, InvalidInput> {
        Self::build_on(Rank::Matrix, name.into(), inputs, loss)
    }

    fn build_on<N: Into<String>>(
        logprobs: Rank,
        name: String,
        inputs: impl IntoIterator<Item = (N, Rank)>,
        loss: impl FnOnce(&LossInputs) -> LossOutput,
    ) -> Result<Self, InvalidInput> {
        check_name(&name)?;
        let others = inputs.into_iter().map(|(name, rank)| CustomLossInput { name: name.into(), rank });
        let first = CustomLossInput { name: LOGPROBS.to_owned(), rank: logprobs };
        let inputs: Vec<CustomLossInput> = std::iter::once(first).chain(others).collect();
        check_inputs(&inputs)?;
        let recorder = Rc::new(Recorder::default());
        let expressions = inputs.iter().map(|input| (input.name.clone(), recorder.placeholder(input)));
        let expressions: BTreeMap<_, _> = expressions.collect();
        let Some(logprobs) = expressions.get(LOGPROBS).cloned() else {
            return Err(InvalidInput::new("custom loss inputs", "must begin with `logprobs`"));
        };
        let inputs_of_closure = LossInputs { recorder: Rc::clone(&recorder), inputs: expressions, logprobs };
        let output = loss(&inputs_of_closure);
        let nodes = recorder.finish(output)?;
        Self::new(name, inputs, LossGraph { format: LossGraph::FORMAT, nodes })
    }
}

/// Collects the nodes of one graph, and the first thing that was wrong.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    state: RefCell<Recording>,
}

#[derive(Debug, Default)]
struct Recording {
    nodes: Vec<Node>,
    names: NodeNames,
    problem: Option<InvalidInput>,
}

impl Recorder {
    /// Remembers why the graph cannot be made; the first reason counts.
    pub(super) fn refuse(&self, problem: InvalidInput) {
        self.state.borrow_mut().problem.get_or_insert(problem);
    }

    /// Adds a node and gives its name, made of `word`.
    pub(super) fn record(&self, op: NodeOp, word: &str, target: &str, args: Vec<Argument>) -> String {
        let mut state = self.state.borrow_mut();
        if state.nodes.len() >= MAX_NODES {
            let problem = format!("must have at most {MAX_NODES} nodes");
            state.problem.get_or_insert(InvalidInput::new("custom loss graph", problem));
            return String::new();
        }
        let name = state.names.create(word);
        let kwargs = NamedArguments::default();
        state.nodes.push(Node { op, name: name.clone(), target: target.to_owned(), args, kwargs });
        name
    }

    fn placeholder(self: &Rc<Self>, input: &CustomLossInput) -> LossExpression {
        let name = self.record(NodeOp::Placeholder, &input.name, &input.name, Vec::new());
        LossExpression::new(Rc::clone(self), name, input.rank, input.name == LOGPROBS)
    }

    fn finish(self: &Rc<Self>, output: LossOutput) -> Result<Vec<Node>, InvalidInput> {
        let LossOutput { loss, metrics } = output;
        for (key, value) in
            std::iter::once(("the loss", &loss)).chain(metrics.iter().map(|(k, v)| (k.as_str(), v)))
        {
            if value.rank() != Rank::Scalar {
                let problem = format!("must return scalars: {key} has rank {}", value.rank());
                self.refuse(InvalidInput::new("custom loss", problem));
            }
        }
        if !loss.is_differentiable() {
            let problem = "must depend on `logprobs` in a differentiable way";
            self.refuse(InvalidInput::new("custom loss", problem));
        }
        let returned = loss.reference(self);
        let mut members = Vec::with_capacity(metrics.len());
        for (key, value) in metrics {
            check_metric_key(&key)?;
            members.push((key, value.reference(self)));
        }
        let pair = Argument::Tuple(vec![returned, Argument::Dict(members.into_iter().collect())]);
        self.record(NodeOp::Output, "output", "output", vec![pair]);
        let state = self.state.take();
        match state.problem {
            Some(problem) => Err(problem),
            None => Ok(state.nodes),
        }
    }
}
