//! Between dense and sparse tensors (PROTOCOL 12.2).

use std::sync::Arc;

use crate::{CsrIndices, DecodeError, TensorData, TensorValues};

/// [`TensorData::to_dense`] makes no tensor of more elements than this, 1 GiB of floats.
const MAX_DENSE_ELEMENTS: u64 = 1 << 28;

impl TensorData {
    /// The tensor in CSR form where that is smaller, else as it is: where it is dense, has two dimensions, and `(rows
    /// + 1) + 2 × (values that are not 0) < rows × columns` (PROTOCOL 12.2).
    #[must_use]
    pub fn sparsified(&self) -> Self {
        let Some(&[rows, columns]) = self.shape() else { return self.clone() };
        if self.csr().is_some() || columns == 0 {
            return self.clone();
        }
        let sparse = match self.values() {
            TensorValues::Float32(values) => {
                compress(values, columns, 0.0).map(|(values, csr)| (TensorValues::Float32(values), csr))
            }
            TensorValues::Int64(values) => {
                compress(values, columns, 0).map(|(values, csr)| (TensorValues::Int64(values), csr))
            }
        };
        sparse
            .and_then(|(values, csr)| Self::sparse(values, csr, rows, columns).ok())
            .unwrap_or_else(|| self.clone())
    }

    /// The tensor with all its elements; a dense one as it is.
    ///
    /// # Errors
    /// Where the index arrays do not fit the shape, or there would be more than 2^28 elements.
    pub fn to_dense(&self) -> Result<Self, DecodeError> {
        const SUBJECT: &str = "sparse tensor";
        let Some(csr) = self.csr() else { return Ok(self.clone()) };
        let Some(&[rows, columns]) = self.shape() else {
            return Err(DecodeError::new(SUBJECT, format!("its shape is {:?}", self.shape())));
        };
        // What a server sent has not been checked yet.
        Self::sparse(self.values().clone(), csr.clone(), rows, columns)
            .map_err(|e| DecodeError::new(SUBJECT, e))?;
        let elements = rows.checked_mul(columns).filter(|n| *n <= MAX_DENSE_ELEMENTS);
        let Some(elements) = elements.and_then(|n| usize::try_from(n).ok()) else {
            return Err(DecodeError::new(SUBJECT, format!("{rows} x {columns} are too many elements")));
        };
        let columns = columns as usize;
        let values = match self.values() {
            TensorValues::Float32(values) => TensorValues::Float32(expand(values, csr, elements, columns)),
            TensorValues::Int64(values) => TensorValues::Int64(expand(values, csr, elements, columns)),
        };
        Ok(Self::of_parts(values, Arc::from([rows, columns as u64])))
    }
}

/// The values that are not `pad` and their places, where that is smaller.
fn compress<T: Copy + PartialEq>(values: &[T], columns: u64, pad: T) -> Option<(Arc<[T]>, CsrIndices)> {
    let columns = usize::try_from(columns).ok()?;
    let rows = values.len() / columns;
    let stored = values.iter().filter(|value| **value != pad).count();
    if (rows + 1) + 2 * stored >= values.len() {
        return None;
    }
    let mut crow = Vec::with_capacity(rows + 1);
    let mut col = Vec::with_capacity(stored);
    let mut kept = Vec::with_capacity(stored);
    crow.push(0);
    for row in values.chunks_exact(columns) {
        for (column, value) in row.iter().enumerate().filter(|(_, value)| **value != pad) {
            col.push(column as i64);
            kept.push(*value);
        }
        crow.push(kept.len() as i64);
    }
    Some((kept.into(), CsrIndices { crow: crow.into(), col: col.into() }))
}

/// The inverse of [`compress`], for indices that fit.
fn expand<T: Copy + Default>(values: &[T], csr: &CsrIndices, elements: usize, columns: usize) -> Arc<[T]> {
    let mut out = vec![T::default(); elements];
    for (row, bounds) in csr.crow.windows(2).enumerate() {
        let (&[start, end] | &[start, end, ..]) = bounds else { continue };
        let stored = start as usize..end as usize;
        let cells =
            csr.col.get(stored.clone()).into_iter().flatten().zip(values.get(stored).into_iter().flatten());
        for (column, value) in cells {
            if let Some(element) = out.get_mut(row * columns + *column as usize) {
                *element = *value;
            }
        }
    }
    out.into()
}
