//! The local evaluator: runs a loss graph on one datum and differentiates it.

use std::collections::{BTreeMap, HashMap};

use super::argument::Argument;
use super::array::{DenseArray, Shape};
use super::call::{Call, Value};
use super::error::{LossGraphError, LossGraphErrorKind};
use super::gradient::{Tape, Variable};
use super::graph::{LossGraph, Node, NodeOp};
use super::operations;
use super::rules::{LOGPROBS, MAX_NODES};

/// How deep tuples and lists of arguments may nest.
const MAX_DEPTH: usize = 16;

/// What a loss graph says about one datum (PROTOCOL 13.3).
#[derive(Clone, Debug, PartialEq)]
pub struct LossEvaluation {
    /// The loss.
    pub loss: f64,
    /// The metrics by key, such as `custom/ratio:mean`.
    pub metrics: BTreeMap<String, f64>,
    /// The derivative of the loss with respect to each element of `logprobs`, row-major.
    pub logprobs_gradient: Vec<f32>,
}

impl LossGraph {
    /// Runs the graph on the inputs of one datum, by their names, `logprobs` among them (PROTOCOL 13.3).
    ///
    /// Computes in float64 and differentiates as PyTorch does: `clamp` passes the gradient within its bounds and on
    /// them, ties of `minimum` and `maximum` share it, `abs` and `relu` have none at 0, `detach` stops it.
    ///
    /// # Errors
    /// Where the graph is malformed, calls something this evaluator does not know, has shapes that do not fit, needs an
    /// input that is not there, is larger than 10,000 nodes or needs too much memory, or where the loss does not depend
    /// on `logprobs`. No graph makes it panic.
    pub fn evaluate(&self, inputs: &BTreeMap<String, DenseArray>) -> Result<LossEvaluation, LossGraphError> {
        if self.format != Self::FORMAT {
            return Err(LossGraphError::unsupported(format!("graph format {} is not known", self.format)));
        }
        if self.nodes.len() > MAX_NODES {
            let detail = format!("the graph has {} nodes, more than {MAX_NODES}", self.nodes.len());
            return Err(LossGraphError::limit(detail));
        }
        let mut run = Run { inputs, tape: Tape::default(), values: HashMap::new(), logprobs: None };
        for node in &self.nodes {
            if node.op == NodeOp::Output {
                return run.output(node).map_err(|e| e.at(node));
            }
            let value = run.step(node).map_err(|e| e.at(node))?;
            if run.values.insert(&node.name, value).is_some() {
                return Err(LossGraphError::malformed("an earlier node has the same name").at(node));
            }
        }
        Err(LossGraphError::malformed("the graph has no output"))
    }
}

struct Run<'a> {
    inputs: &'a BTreeMap<String, DenseArray>,
    tape: Tape,
    values: HashMap<&'a str, Value>,
    logprobs: Option<Variable>,
}

impl<'a> Run<'a> {
    fn step(&mut self, node: &'a Node) -> Result<Value, LossGraphError> {
        let method = match &node.op {
            NodeOp::Placeholder => return self.placeholder(&node.target),
            NodeOp::CallFunction => false,
            NodeOp::CallMethod => true,
            op => return Err(LossGraphError::malformed(format!("a loss has no node of kind {op}"))),
        };
        let positional = node.args.iter().map(|a| self.resolve(a, 0)).collect::<Result<_, _>>()?;
        let named = node.kwargs.iter().map(|(name, a)| Ok((name, self.resolve(a, 0)?)));
        let named = named.collect::<Result<_, LossGraphError>>()?;
        let mut call = Call::new(positional, named, method, &mut self.tape);
        let value = operations::apply(&node.target, &mut call)?;
        call.finish()?;
        Ok(value)
    }

    fn placeholder(&mut self, name: &str) -> Result<Value, LossGraphError> {
        let missing = || LossGraphError::input(format!("there is no input `{name}`"));
        let array = self.inputs.get(name).ok_or_else(missing)?.clone();
        let is_logprobs = name == LOGPROBS;
        if is_logprobs && self.logprobs.is_some() {
            return Err(LossGraphError::malformed(format!("`{LOGPROBS}` is an input twice")));
        }
        let variable = self.tape.input(array, is_logprobs)?;
        if is_logprobs {
            self.logprobs = Some(variable);
        }
        Ok(Value::Array(variable))
    }

    fn resolve(&self, argument: &Argument, depth: usize) -> Result<Value, LossGraphError> {
        if depth > MAX_DEPTH {
            return Err(LossGraphError::limit(format!("arguments nest deeper than {MAX_DEPTH}")));
        }
        Ok(match argument {
            Argument::Null => Value::Nothing,
            Argument::Bool(value) => Value::Bool(*value),
            Argument::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
            Argument::NonFinite(number) => Value::Number((*number).into()),
            Argument::Text(text) => Value::Text(text.as_str().into()),
            Argument::List(items) | Argument::Tuple(items) => {
                let items = items.iter().map(|item| self.resolve(item, depth + 1));
                Value::Sequence(items.collect::<Result<_, _>>()?)
            }
            Argument::Slice(bounds) => {
                let [start, stop, step] = bounds.as_ref();
                let bound = |argument| self.resolve(argument, depth + 1);
                Value::Slice([bound(start)?, bound(stop)?, bound(step)?].into())
            }
            Argument::Ellipsis => Value::Ellipsis,
            Argument::DType(name) => Value::DType(name.as_str().into()),
            Argument::Device(_) | Argument::Layout(_) | Argument::MemoryFormat(_) => Value::Placement,
            Argument::Reference(name) => match self.values.get(name.as_str()) {
                Some(value) => value.clone(),
                None => return Err(LossGraphError::malformed(format!("no earlier node is named `{name}`"))),
            },
            Argument::Dict(_) => {
                return Err(LossGraphError::unsupported("a dict is not supported as an argument"));
            }
            Argument::Other { form, .. } => {
                return Err(LossGraphError::unsupported(format!("argument form `{form}` is not known")));
            }
        })
    }

    fn output(self, node: &Node) -> Result<LossEvaluation, LossGraphError> {
        let (loss, metrics) = returned_pair(node).ok_or_else(|| {
            LossGraphError::malformed("a loss returns a pair: the loss and a dict of metrics")
        })?;
        let loss = match self.resolve(loss, 0)? {
            Value::Array(variable) => variable,
            other => {
                return Err(LossGraphError::malformed(format!("the loss is {}, not a tensor", other.kind())));
            }
        };
        let shape = self.tape.shape(loss)?;
        if shape != Shape::SCALAR {
            return Err(LossGraphError::shape(format!("the loss must be a scalar, not of shape {shape}")));
        }
        let metrics = metrics.iter().map(|(key, argument)| Ok((key.to_owned(), self.metric(key, argument)?)));
        let metrics = metrics.collect::<Result<_, LossGraphError>>()?;
        let gradient =
            self.logprobs.and_then(|logprobs| self.tape.gradient(loss, logprobs)).ok_or_else(|| {
                let detail = format!("the loss does not depend on `{LOGPROBS}` in a differentiable way");
                LossGraphError::new(LossGraphErrorKind::NoGradient, detail)
            })?;
        Ok(LossEvaluation {
            loss: self.tape.value(loss)?.values().first().copied().unwrap_or(f64::NAN),
            metrics,
            logprobs_gradient: gradient.into_iter().map(|v| v as f32).collect(),
        })
    }

    fn metric(&self, key: &str, argument: &Argument) -> Result<f64, LossGraphError> {
        match self.resolve(argument, 0)? {
            Value::Number(number) => Ok(number),
            Value::Array(variable) => {
                let array = self.tape.value(variable)?;
                let scalar = array.values().first().filter(|_| array.shape() == Shape::SCALAR);
                scalar.copied().ok_or_else(|| {
                    LossGraphError::shape(format!(
                        "metric `{key}` must be a scalar, not of shape {}",
                        array.shape()
                    ))
                })
            }
            other => {
                Err(LossGraphError::malformed(format!("metric `{key}` is {}, not a tensor", other.kind())))
            }
        }
    }
}

/// The loss and the metrics that an output node returns, where it has that form.
pub(super) fn returned_pair(node: &Node) -> Option<(&Argument, &super::argument::NamedArguments)> {
    match node.args.as_slice() {
        [Argument::Tuple(pair)] => match pair.as_slice() {
            [loss, Argument::Dict(metrics)] => Some((loss, metrics)),
            _ => None,
        },
        _ => None,
    }
}
