//! Tensor expressions of a loss that is being built: operators and methods that record graph nodes.

use std::ops::{Add, Div, Mul, Neg, Sub};
use std::rc::Rc;

use super::argument::Argument;
use super::builder::Recorder;
use super::graph::NodeOp;
use super::rank::Rank;
use crate::InvalidInput;

/// A tensor of a loss that is being built with [`CustomLoss::build`](super::CustomLoss::build).
///
/// Every operation adds a node to the graph at once, so expressions that are used twice are computed once. Shapes
/// broadcast as PyTorch's do. The operators `+ - * /` and unary `-` take expressions, references to them and numbers on
/// both sides.
#[must_use]
#[derive(Clone, Debug)]
pub struct LossExpression {
    recorder: Rc<Recorder>,
    node: String,
    rank: Rank,
    differentiable: bool,
}

/// A tensor of truth values, made by a comparison. Choose with it by
/// [`LossInputs::where_`](super::LossInputs::where_), or count with it after [`to_float`](Self::to_float).
#[must_use]
#[derive(Clone, Debug)]
pub struct LossCondition(LossExpression);

/// An expression or a number, where an operation takes either.
#[derive(Clone, Debug)]
pub enum LossOperand {
    /// A tensor.
    Expression(LossExpression),
    /// A number, whole or not, as it is to be written into the graph.
    Number(Argument),
}

impl From<LossExpression> for LossOperand {
    fn from(expression: LossExpression) -> Self {
        Self::Expression(expression)
    }
}

impl From<&LossExpression> for LossOperand {
    fn from(expression: &LossExpression) -> Self {
        Self::Expression(expression.clone())
    }
}

impl From<f64> for LossOperand {
    fn from(number: f64) -> Self {
        Self::Number(number.into())
    }
}

impl From<i32> for LossOperand {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

impl LossOperand {
    fn rank(&self) -> Rank {
        match self {
            Self::Expression(expression) => expression.rank,
            Self::Number(_) => Rank::Scalar,
        }
    }

    fn is_differentiable(&self) -> bool {
        matches!(self, Self::Expression(expression) if expression.differentiable)
    }

    fn argument(&self, recorder: &Rc<Recorder>) -> Argument {
        match self {
            Self::Expression(expression) => expression.reference(recorder),
            Self::Number(number) => number.clone(),
        }
    }
}

impl LossExpression {
    pub(super) fn new(recorder: Rc<Recorder>, node: String, rank: Rank, differentiable: bool) -> Self {
        Self { recorder, node, rank, differentiable }
    }

    /// The number of dimensions.
    pub fn rank(&self) -> Rank {
        self.rank
    }

    pub(super) fn is_differentiable(&self) -> bool {
        self.differentiable
    }

    /// The reference to this node in arguments of nodes of the same graph.
    pub(super) fn reference(&self, recorder: &Rc<Recorder>) -> Argument {
        if !Rc::ptr_eq(&self.recorder, recorder) {
            recorder.refuse(InvalidInput::new("custom loss", "must not use expressions of another loss"));
        }
        Argument::Reference(self.node.clone())
    }

    fn call(&self, op: NodeOp, target: &str, args: Vec<Argument>, rank: Rank, differentiable: bool) -> Self {
        let word = target.rsplit_once('.').map_or(target, |(_, word)| word);
        let node = self.recorder.record(op, word, target, args);
        Self { recorder: Rc::clone(&self.recorder), node, rank, differentiable }
    }

    fn argument(&self) -> Argument {
        self.reference(&self.recorder)
    }

    /// A function of this tensor and constants, element by element.
    fn map(&self, target: &str, constants: impl IntoIterator<Item = Argument>) -> Self {
        let args = std::iter::once(self.argument()).chain(constants).collect();
        self.call(NodeOp::CallFunction, target, args, self.rank, self.differentiable)
    }

    fn method(&self, target: &str, constants: impl IntoIterator<Item = Argument>, rank: Rank) -> Self {
        let args = std::iter::once(self.argument()).chain(constants).collect();
        self.call(NodeOp::CallMethod, target, args, rank, self.differentiable)
    }

    /// A function of this tensor and another or a number.
    fn with(&self, target: &str, other: &LossOperand) -> Self {
        let args = vec![self.argument(), other.argument(&self.recorder)];
        let differentiable = self.differentiable || other.is_differentiable();
        self.call(NodeOp::CallFunction, target, args, self.rank.max(other.rank()), differentiable)
    }

    fn after(&self, target: &str, number: Argument) -> Self {
        self.call(NodeOp::CallFunction, target, vec![number, self.argument()], self.rank, self.differentiable)
    }

    fn compare(&self, target: &str, other: impl Into<LossOperand>) -> LossCondition {
        LossCondition(Self { differentiable: false, ..self.with(target, &other.into()) })
    }

    /// e to the power of each element.
    pub fn exp(&self) -> Self {
        self.map("torch.exp", [])
    }

    /// The natural logarithm.
    pub fn log(&self) -> Self {
        self.map("torch.log", [])
    }

    /// The square root.
    pub fn sqrt(&self) -> Self {
        self.map("torch.sqrt", [])
    }

    /// The absolute value; its gradient at 0 is 0.
    pub fn abs(&self) -> Self {
        self.map("torch.abs", [])
    }

    /// Each element to the power of `exponent`.
    pub fn pow(&self, exponent: f64) -> Self {
        self.map("torch.pow", [exponent.into()])
    }

    /// `1 / (1 + exp(-x))`.
    pub fn sigmoid(&self) -> Self {
        self.map("torch.sigmoid", [])
    }

    /// `log(sigmoid(x))`, without loss of precision.
    pub fn log_sigmoid(&self) -> Self {
        self.map("torch._C._nn.log_sigmoid", [])
    }

    /// `log(1 + exp(x))`, without overflow.
    pub fn softplus(&self) -> Self {
        self.map("torch._C._nn.softplus", [])
    }

    /// The hyperbolic tangent.
    pub fn tanh(&self) -> Self {
        self.map("torch.tanh", [])
    }

    /// `max(x, 0)`; its gradient at 0 is 0.
    pub fn relu(&self) -> Self {
        self.map("torch.relu", [])
    }

    /// Each element moved into `min ..= max`. The gradient passes within the bounds and on them.
    pub fn clamp(&self, min: f64, max: f64) -> Self {
        self.map("torch.clamp", [min.into(), max.into()])
    }

    /// The lesser of the two, element by element; ties share the gradient.
    pub fn minimum(&self, other: impl Into<LossExpression>) -> Self {
        self.with("torch.minimum", &other.into().into())
    }

    /// The greater of the two, element by element; ties share the gradient.
    pub fn maximum(&self, other: impl Into<LossExpression>) -> Self {
        self.with("torch.maximum", &other.into().into())
    }

    /// Where this is greater.
    pub fn gt(&self, other: impl Into<LossOperand>) -> LossCondition {
        self.compare("operator.gt", other)
    }

    /// Where this is greater or equal.
    pub fn ge(&self, other: impl Into<LossOperand>) -> LossCondition {
        self.compare("operator.ge", other)
    }

    /// Where this is less.
    pub fn lt(&self, other: impl Into<LossOperand>) -> LossCondition {
        self.compare("operator.lt", other)
    }

    /// Where this is less or equal.
    pub fn le(&self, other: impl Into<LossOperand>) -> LossCondition {
        self.compare("operator.le", other)
    }

    /// The sum of all elements, a scalar.
    pub fn sum(&self) -> Self {
        self.method("sum", [], Rank::Scalar)
    }

    /// The mean of all elements, a scalar.
    pub fn mean(&self) -> Self {
        self.method("mean", [], Rank::Scalar)
    }

    /// The same values, through which no gradient passes.
    pub fn detach(&self) -> Self {
        Self { differentiable: false, ..self.method("detach", [], self.rank) }
    }

    /// A constant in the shape of this tensor.
    pub fn full_like(&self, value: f64) -> Self {
        Self { differentiable: false, ..self.map("torch.full_like", [value.into()]) }
    }
}

impl From<&LossExpression> for LossExpression {
    fn from(expression: &LossExpression) -> Self {
        expression.clone()
    }
}

impl LossCondition {
    /// 1 where the condition holds, 0 elsewhere, as float32: for means and products.
    pub fn to_float(&self) -> LossExpression {
        self.0.method("to", [Argument::DType("float32".to_owned())], self.0.rank)
    }

    pub(super) fn choose(&self, a: LossOperand, b: LossOperand) -> LossExpression {
        let recorder = &self.0.recorder;
        let args = vec![self.0.argument(), a.argument(recorder), b.argument(recorder)];
        let rank = self.0.rank.max(a.rank()).max(b.rank());
        let differentiable = a.is_differentiable() || b.is_differentiable();
        self.0.call(NodeOp::CallFunction, "torch.where", args, rank, differentiable)
    }
}

/// An operator in all its forms: expressions, references to them and numbers on both sides.
macro_rules! operator {
    ($operator:ident, $method:ident, $target:literal) => {
        impl<R: Into<LossOperand>> $operator<R> for LossExpression {
            type Output = LossExpression;

            fn $method(self, other: R) -> LossExpression {
                self.with($target, &other.into())
            }
        }

        impl<R: Into<LossOperand>> $operator<R> for &LossExpression {
            type Output = LossExpression;

            fn $method(self, other: R) -> LossExpression {
                self.with($target, &other.into())
            }
        }

        operator!($operator, $method, $target, f64, LossExpression);
        operator!($operator, $method, $target, f64, &LossExpression);
        operator!($operator, $method, $target, i32, LossExpression);
        operator!($operator, $method, $target, i32, &LossExpression);
    };
    ($operator:ident, $method:ident, $target:literal, $number:ty, $expression:ty) => {
        impl $operator<$expression> for $number {
            type Output = LossExpression;

            fn $method(self, other: $expression) -> LossExpression {
                other.after($target, self.into())
            }
        }
    };
}

operator!(Add, add, "operator.add");
operator!(Sub, sub, "operator.sub");
operator!(Mul, mul, "operator.mul");
operator!(Div, div, "operator.truediv");

impl Neg for LossExpression {
    type Output = Self;

    fn neg(self) -> Self {
        self.map("operator.neg", [])
    }
}

impl Neg for &LossExpression {
    type Output = LossExpression;

    fn neg(self) -> LossExpression {
        self.map("operator.neg", [])
    }
}
