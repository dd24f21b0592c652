//! Small dense arrays of rank 0 to 2 and the rules for combining their shapes.

use std::fmt;

use super::rank::Rank;
use crate::InvalidInput;

/// The most elements one array may have: 128 MiB of float64. Guards against graphs that broadcast without end.
pub(super) const MAX_ELEMENTS: usize = 1 << 24;

/// A shape of rank 0 to 2, held as rows × columns so that broadcasting needs no cases: a vector is one row, a scalar
/// one row of one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    rank: Rank,
    rows: usize,
    columns: usize,
}

impl Shape {
    pub(super) const SCALAR: Self = Self { rank: Rank::Scalar, rows: 1, columns: 1 };

    /// The shape of those dimensions, where they are at most two and not too many elements.
    pub(super) fn of_dimensions(dimensions: &[usize]) -> Option<Self> {
        let shape = match *dimensions {
            [] => Self::SCALAR,
            [columns] => Self { rank: Rank::Vector, rows: 1, columns },
            [rows, columns] => Self { rank: Rank::Matrix, rows, columns },
            _ => return None,
        };
        shape.is_bounded().then_some(shape)
    }

    /// Whether neither a dimension nor the number of elements is beyond [`MAX_ELEMENTS`].
    pub(super) fn is_bounded(self) -> bool {
        let bounded = |n: usize| n <= MAX_ELEMENTS;
        bounded(self.rows) && bounded(self.columns) && bounded(self.rows * self.columns)
    }

    pub(super) fn rank(self) -> Rank {
        self.rank
    }

    pub(super) fn rows(self) -> usize {
        self.rows
    }

    pub(super) fn columns(self) -> usize {
        self.columns
    }

    pub(super) fn elements(self) -> usize {
        self.rows * self.columns
    }

    pub(super) fn dimensions(self) -> Vec<usize> {
        let all = [self.rows, self.columns];
        all[2 - self.rank.dimensions()..].to_vec()
    }

    /// The shape that both broadcast to: dimensions are aligned from the right, and 1 stretches.
    pub(super) fn broadcast(self, other: Self) -> Option<Self> {
        let stretch = |a: usize, b: usize| match (a, b) {
            (1, n) | (n, 1) => Some(n),
            (a, b) => (a == b).then_some(a),
        };
        let rows = stretch(self.rows, other.rows)?;
        let columns = stretch(self.columns, other.columns)?;
        Some(Self { rank: self.rank.max(other.rank), rows, columns })
    }

    /// How far to step in the data for the next row and the next column of a shape that this one broadcasts to.
    pub(super) fn strides(self) -> (usize, usize) {
        let row = if self.rows == 1 { 0 } else { self.columns };
        let column = if self.columns == 1 { 0 } else { 1 };
        (row, column)
    }

    /// For every element in order, its place in data that is stepped through by (row, column) strides.
    pub(super) fn walk(self, (by_row, by_column): (usize, usize)) -> impl Iterator<Item = usize> {
        (0..self.rows)
            .flat_map(move |row| (0..self.columns).map(move |column| row * by_row + column * by_column))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dimensions())
    }
}

/// A dense array of float64 of rank 0, 1 or 2 in row-major order: an input of
/// [`LossGraph::evaluate`](super::LossGraph::evaluate).
#[derive(Clone, Debug, PartialEq)]
pub struct DenseArray {
    shape: Shape,
    values: Vec<f64>,
}

impl DenseArray {
    /// An array of rank 0.
    pub fn scalar(value: f64) -> Self {
        Self { shape: Shape::SCALAR, values: vec![value] }
    }

    /// An array of rank 1.
    pub fn vector(values: impl Into<Vec<f64>>) -> Self {
        let values = values.into();
        Self { shape: Shape { rank: Rank::Vector, rows: 1, columns: values.len() }, values }
    }

    /// An array of rank 2.
    ///
    /// # Errors
    /// Where there are not `rows` × `columns` values.
    pub fn matrix(rows: usize, columns: usize, values: impl Into<Vec<f64>>) -> Result<Self, InvalidInput> {
        let values = values.into();
        if rows.checked_mul(columns) != Some(values.len()) {
            let problem = format!("of {rows} x {columns} cannot hold {} values", values.len());
            return Err(InvalidInput::new("matrix", problem));
        }
        Ok(Self { shape: Shape { rank: Rank::Matrix, rows, columns }, values })
    }

    /// `values` must be as many as the shape has elements.
    pub(super) fn of_shape(shape: Shape, values: Vec<f64>) -> Self {
        debug_assert_eq!(shape.elements(), values.len());
        Self { shape, values }
    }

    /// The number of dimensions.
    pub fn rank(&self) -> Rank {
        self.shape.rank
    }

    /// The lengths of the dimensions.
    pub fn dimensions(&self) -> Vec<usize> {
        self.shape.dimensions()
    }

    /// The elements in row-major order.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }
}
