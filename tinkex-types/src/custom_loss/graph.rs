//! The traced graph of a loss, as it travels (PROTOCOL 13.3).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::argument::{Argument, NamedArguments};

/// The operations of a loss on tensors, in the order they are to be run (PROTOCOL 13.3).
///
/// Reads and writes the wire's JSON without losing anything, operations this version does not know included.
/// [`evaluate`](Self::evaluate) runs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossGraph {
    /// The version of the encoding: [`LossGraph::FORMAT`].
    pub format: u32,
    /// The nodes; every node refers only to earlier ones.
    pub nodes: Vec<Node>,
}

impl LossGraph {
    /// The version of the encoding that this crate writes.
    pub const FORMAT: u32 = 1;
}

/// One step of a [`LossGraph`] (PROTOCOL 13.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// What kind of step it is.
    pub op: NodeOp,
    /// Its name, unique within the graph; later nodes refer to it.
    pub name: String,
    /// The input's name, the function's qualified name, the method's name, or `output`.
    pub target: String,
    /// Arguments by position.
    #[serde(default)]
    pub args: Vec<Argument>,
    /// Arguments by name.
    #[serde(default)]
    pub kwargs: NamedArguments,
}

/// The kind of a [`Node`] (PROTOCOL 13.3). Valid graphs contain only the four that are named here.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum NodeOp {
    /// An input.
    Placeholder,
    /// A call of a function by its qualified name.
    CallFunction,
    /// A call of a method of the first argument.
    CallMethod,
    /// The returned pair of loss and metrics.
    Output,
    /// Any other text.
    Other(String),
}

impl NodeOp {
    /// The wire text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Placeholder => "placeholder",
            Self::CallFunction => "call_function",
            Self::CallMethod => "call_method",
            Self::Output => "output",
            Self::Other(text) => text,
        }
    }
}

impl From<String> for NodeOp {
    fn from(text: String) -> Self {
        let known = [Self::Placeholder, Self::CallFunction, Self::CallMethod, Self::Output];
        known.into_iter().find(|op| op.as_str() == text).unwrap_or(Self::Other(text))
    }
}

impl From<NodeOp> for String {
    fn from(op: NodeOp) -> Self {
        op.as_str().to_owned()
    }
}

impl fmt::Display for NodeOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
