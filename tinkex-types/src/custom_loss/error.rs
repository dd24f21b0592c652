//! Why a loss graph could not be evaluated.

use std::fmt;

use super::graph::Node;

/// What kind of thing went wrong in a loss graph (PROTOCOL 13.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LossGraphErrorKind {
    /// A node calls something that this evaluator does not know. A server may.
    Unsupported,
    /// The graph is not one: names that are not unique, references to nowhere, no output.
    Malformed,
    /// A call has an argument of the wrong type or value, or one that it does not take.
    Argument,
    /// Shapes that do not fit each other or the operation.
    Shape,
    /// An input is missing or is not of the declared rank.
    Input,
    /// The graph or its intermediate results are larger than allowed.
    Limit,
    /// The loss does not depend on `logprobs` in a differentiable way.
    NoGradient,
}

/// Which datum, which node and why: a loss graph that could not be evaluated (PROTOCOL 13.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossGraphError {
    kind: LossGraphErrorKind,
    detail: String,
    datum: Option<usize>,
    node: Option<(String, String)>,
}

impl LossGraphError {
    pub(super) fn new(kind: LossGraphErrorKind, detail: impl fmt::Display) -> Self {
        Self { kind, detail: detail.to_string(), datum: None, node: None }
    }

    pub(super) fn unsupported(detail: impl fmt::Display) -> Self {
        Self::new(LossGraphErrorKind::Unsupported, detail)
    }

    pub(super) fn malformed(detail: impl fmt::Display) -> Self {
        Self::new(LossGraphErrorKind::Malformed, detail)
    }

    pub(super) fn argument(detail: impl fmt::Display) -> Self {
        Self::new(LossGraphErrorKind::Argument, detail)
    }

    pub(super) fn shape(detail: impl fmt::Display) -> Self {
        Self::new(LossGraphErrorKind::Shape, detail)
    }

    pub(super) fn input(detail: impl fmt::Display) -> Self {
        Self::new(LossGraphErrorKind::Input, detail)
    }

    pub(super) fn limit(detail: impl fmt::Display) -> Self {
        Self::new(LossGraphErrorKind::Limit, detail)
    }

    pub(super) fn at(self, node: &Node) -> Self {
        Self { node: Some((node.name.clone(), node.target.clone())), ..self }
    }

    pub(super) fn of_datum(self, index: usize) -> Self {
        Self { datum: Some(index), ..self }
    }

    /// What kind of problem it is.
    pub fn kind(&self) -> LossGraphErrorKind {
        self.kind
    }

    /// The index of the datum, where the problem arose with one of several.
    pub fn datum(&self) -> Option<usize> {
        self.datum
    }

    /// The name of the node, where the problem arose in one.
    pub fn node(&self) -> Option<&str> {
        self.node.as_ref().map(|(name, _)| name.as_str())
    }

    /// What that node calls.
    pub fn target(&self) -> Option<&str> {
        self.node.as_ref().map(|(_, target)| target.as_str())
    }
}

impl fmt::Display for LossGraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("custom loss: ")?;
        if let Some(datum) = self.datum {
            write!(f, "datum {datum}: ")?;
        }
        if let Some((name, target)) = &self.node {
            write!(f, "node `{name}` ({target}): ")?;
        }
        f.write_str(&self.detail)
    }
}

impl std::error::Error for LossGraphError {}
