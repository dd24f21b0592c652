//! Reverse-mode differentiation: a tape of arrays that remembers how each depends on the ones before it.

use std::rc::Rc;

use super::array::{DenseArray, MAX_ELEMENTS, Shape};
use super::error::LossGraphError;

/// The most float64 one evaluation may hold in values and derivatives, 256 MiB; gradients take at most as much again.
const MAX_TAPE: usize = 1 << 25;

/// An array on a [`Tape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Variable(usize);

/// Which dimensions a reduction removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axes {
    pub(super) rows: bool,
    pub(super) columns: bool,
}

impl Axes {
    pub(super) const ALL: Self = Self { rows: true, columns: true };

    /// The (row, column) counts that remain.
    fn remaining(self, shape: Shape) -> (usize, usize) {
        let keep = |reduced: bool, n: usize| if reduced { 1 } else { n };
        (keep(self.rows, shape.rows()), keep(self.columns, shape.columns()))
    }

    /// For every element of `shape`, in order, the place of the element it is reduced into.
    pub(super) fn targets(self, shape: Shape) -> impl Iterator<Item = usize> {
        let (_, columns) = self.remaining(shape);
        let by_row = if self.rows { 0 } else { columns };
        let by_column = if self.columns { 0 } else { 1 };
        shape.walk((by_row, by_column))
    }

    /// The number of elements that remain.
    pub(super) fn outputs(self, shape: Shape) -> usize {
        let (rows, columns) = self.remaining(shape);
        rows * columns
    }
}

/// How the derivatives of an elementwise operation meet the gradient from above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// By multiplication, so that infinities and NaN spread as in any arithmetic.
    Product,
    /// By choice: where the derivative is 0, nothing passes, whatever comes from above.
    Choice,
}

/// How the gradient of an array becomes that of one it was made from.
enum Pullback {
    /// Elementwise with broadcasting; one derivative per element of the result.
    Elementwise { derivatives: Vec<f64>, rule: Rule },
    /// Every element of the result was copied from the one at this place.
    Copied { sources: Vec<usize> },
    /// Elements were reduced over axes; one derivative per element of the origin, all 1 where there are none.
    Reduced { axes: Axes, derivatives: Option<Vec<f64>> },
}

struct Entry {
    value: Rc<DenseArray>,
    differentiable: bool,
    pullbacks: Vec<(Variable, Pullback)>,
}

/// All arrays of one evaluation, in the order they were made.
#[derive(Default)]
pub(super) struct Tape {
    entries: Vec<Entry>,
    elements: usize,
}

impl Tape {
    /// An array that depends on nothing; `differentiable` where its gradient is wanted.
    pub(super) fn input(
        &mut self,
        value: DenseArray,
        differentiable: bool,
    ) -> Result<Variable, LossGraphError> {
        self.reserve(value.shape(), 1)?;
        Ok(self.push(Rc::new(value), differentiable, Vec::new()))
    }

    /// A number as an array of rank 0.
    pub(super) fn constant(&mut self, value: f64) -> Result<Variable, LossGraphError> {
        self.input(DenseArray::scalar(value), false)
    }

    /// The same values, through which no gradient passes.
    pub(super) fn detach(&mut self, variable: Variable) -> Result<Variable, LossGraphError> {
        let value = Rc::clone(self.value(variable)?);
        Ok(self.push(value, false, Vec::new()))
    }

    pub(super) fn value(&self, variable: Variable) -> Result<&Rc<DenseArray>, LossGraphError> {
        Ok(&self.entry(variable)?.value)
    }

    pub(super) fn shape(&self, variable: Variable) -> Result<Shape, LossGraphError> {
        Ok(self.value(variable)?.shape())
    }

    /// An elementwise operation on arrays that are broadcast together. `f` gives the value and the derivative with
    /// respect to each operand.
    pub(super) fn elementwise<const N: usize>(
        &mut self,
        operands: [Variable; N],
        rule: Rule,
        f: impl Fn([f64; N]) -> (f64, [f64; N]),
    ) -> Result<Variable, LossGraphError> {
        let shape = self.broadcast(&operands)?;
        let mut differentiable = [false; N];
        for (flag, operand) in differentiable.iter_mut().zip(operands) {
            *flag = self.entry(operand)?.differentiable;
        }
        let differentiated = differentiable.iter().filter(|d| **d).count();
        self.reserve(shape, 1 + differentiated)?;
        let mut values = Vec::with_capacity(shape.elements());
        let mut derivatives =
            differentiable.map(|wanted| wanted.then(|| Vec::with_capacity(shape.elements())));
        self.visit(operands, shape, |elements| {
            let (value, slopes) = f(elements);
            values.push(value);
            for (derivatives, slope) in derivatives.iter_mut().zip(slopes) {
                if let Some(derivatives) = derivatives {
                    derivatives.push(slope);
                }
            }
        })?;
        let pullbacks = operands.into_iter().zip(derivatives).filter_map(|(operand, derivatives)| {
            derivatives.map(|derivatives| (operand, Pullback::Elementwise { derivatives, rule }))
        });
        let pullbacks = pullbacks.collect();
        Ok(self.push(Rc::new(DenseArray::of_shape(shape, values)), differentiated > 0, pullbacks))
    }

    /// An elementwise operation whose result has no derivative, such as a comparison.
    pub(super) fn without_derivative<const N: usize>(
        &mut self,
        operands: [Variable; N],
        f: impl Fn([f64; N]) -> f64,
    ) -> Result<Variable, LossGraphError> {
        let shape = self.broadcast(&operands)?;
        self.reserve(shape, 1)?;
        let mut values = Vec::with_capacity(shape.elements());
        self.visit(operands, shape, |elements| values.push(f(elements)))?;
        Ok(self.push(Rc::new(DenseArray::of_shape(shape, values)), false, Vec::new()))
    }

    /// Elements of `origin`, rearranged or left out. `sources` gives the place of every element of the result.
    pub(super) fn copied(
        &mut self,
        origin: Variable,
        shape: Shape,
        sources: Vec<usize>,
    ) -> Result<Variable, LossGraphError> {
        let differentiable = self.entry(origin)?.differentiable;
        self.reserve(shape, if differentiable { 2 } else { 1 })?;
        let from = self.value(origin)?.values();
        let values: Vec<f64> = sources.iter().filter_map(|source| from.get(*source).copied()).collect();
        if values.len() != shape.elements() {
            return Err(LossGraphError::shape(format!("{} elements are not of shape {shape}", values.len())));
        }
        let pullbacks =
            if differentiable { vec![(origin, Pullback::Copied { sources })] } else { Vec::new() };
        Ok(self.push(Rc::new(DenseArray::of_shape(shape, values)), differentiable, pullbacks))
    }

    /// A reduction over axes. `values` are the results, `derivatives` those of each element of `origin` with respect to
    /// the result it went into; all 1 where there are none.
    pub(super) fn reduced(
        &mut self,
        origin: Variable,
        axes: Axes,
        shape: Shape,
        values: Vec<f64>,
        derivatives: Option<Vec<f64>>,
    ) -> Result<Variable, LossGraphError> {
        self.reserve(shape, 1)?;
        // Counted even without derivatives, for the time it takes: a graph may be nothing but sums of a large array.
        self.reserve(self.shape(origin)?, 1)?;
        let differentiable = self.entry(origin)?.differentiable;
        let pullbacks =
            if differentiable { vec![(origin, Pullback::Reduced { axes, derivatives })] } else { Vec::new() };
        Ok(self.push(Rc::new(DenseArray::of_shape(shape, values)), differentiable, pullbacks))
    }

    /// The gradient of `of`, an array of one element, with respect to `with_respect_to`; none where it does not depend
    /// on it.
    pub(super) fn gradient(&self, of: Variable, with_respect_to: Variable) -> Option<Vec<f64>> {
        let mut gradients: Vec<Option<Vec<f64>>> = Vec::new();
        gradients.resize_with(of.0 + 1, || None);
        if self.entries.get(of.0)?.differentiable {
            *gradients.get_mut(of.0)? = Some(vec![1.0]);
        }
        for index in (with_respect_to.0 + 1..=of.0).rev() {
            let (before, from) = gradients.split_at_mut(index);
            let (Some(entry), Some(Some(gradient))) = (self.entries.get(index), from.first()) else {
                continue;
            };
            for (origin, pullback) in &entry.pullbacks {
                let (Some(source), Some(slot)) = (self.entries.get(origin.0), before.get_mut(origin.0))
                else {
                    continue;
                };
                let into = slot.get_or_insert_with(|| vec![0.0; source.value.values().len()]);
                pullback.add(gradient, entry.value.shape(), source.value.shape(), into);
            }
            if let Some(done) = from.first_mut() {
                *done = None;
            }
        }
        gradients.get_mut(with_respect_to.0)?.take()
    }

    fn entry(&self, variable: Variable) -> Result<&Entry, LossGraphError> {
        self.entries
            .get(variable.0)
            .ok_or_else(|| LossGraphError::malformed("an array of another evaluation"))
    }

    fn push(
        &mut self,
        value: Rc<DenseArray>,
        differentiable: bool,
        pullbacks: Vec<(Variable, Pullback)>,
    ) -> Variable {
        self.entries.push(Entry { value, differentiable, pullbacks });
        Variable(self.entries.len() - 1)
    }

    /// Counts `copies` arrays of a shape that are about to be made.
    fn reserve(&mut self, shape: Shape, copies: usize) -> Result<(), LossGraphError> {
        if !shape.is_bounded() {
            return Err(LossGraphError::limit(format!(
                "shape {shape} has more than {MAX_ELEMENTS} elements"
            )));
        }
        self.elements = self.elements.saturating_add(shape.elements().saturating_mul(copies));
        if self.elements > MAX_TAPE {
            return Err(LossGraphError::limit(format!(
                "intermediate results have more than {MAX_TAPE} elements"
            )));
        }
        Ok(())
    }

    fn broadcast(&self, operands: &[Variable]) -> Result<Shape, LossGraphError> {
        operands.iter().try_fold(Shape::SCALAR, |shape, operand| {
            let other = self.shape(*operand)?;
            shape.broadcast(other).ok_or_else(|| {
                LossGraphError::shape(format!("shapes {shape} and {other} cannot be broadcast together"))
            })
        })
    }

    /// Visits the elements of arrays that are broadcast to `shape`, in its order.
    fn visit<const N: usize>(
        &self,
        operands: [Variable; N],
        shape: Shape,
        mut visit: impl FnMut([f64; N]),
    ) -> Result<(), LossGraphError> {
        if shape.elements() == 0 {
            return Ok(());
        }
        let mut values: [&[f64]; N] = [&[]; N];
        let mut strides = [(0, 0); N];
        for ((values, strides), operand) in values.iter_mut().zip(&mut strides).zip(operands) {
            let array = self.value(operand)?;
            (*values, *strides) = (array.values(), array.shape().strides());
        }
        for row in 0..shape.rows() {
            for column in 0..shape.columns() {
                visit(std::array::from_fn(|n| {
                    let (by_row, by_column) = strides[n];
                    values[n][row * by_row + column * by_column]
                }));
            }
        }
        Ok(())
    }
}

impl Pullback {
    /// Adds to `into`, the gradient of the origin, what `gradient`, that of the result, means for it.
    fn add(&self, gradient: &[f64], result: Shape, origin: Shape, into: &mut [f64]) {
        match self {
            Self::Elementwise { derivatives, rule } => {
                let places = result.walk(origin.strides());
                for ((above, slope), place) in gradient.iter().zip(derivatives).zip(places) {
                    if *rule == Rule::Product || *slope != 0.0 {
                        into[place] += above * slope;
                    }
                }
            }
            Self::Copied { sources } => {
                for (above, source) in gradient.iter().zip(sources) {
                    into[*source] += above;
                }
            }
            Self::Reduced { axes, derivatives } => {
                for (i, target) in axes.targets(origin).enumerate() {
                    into[i] += gradient[target] * derivatives.as_ref().map_or(1.0, |slopes| slopes[i]);
                }
            }
        }
    }
}
