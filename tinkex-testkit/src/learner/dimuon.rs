//! A stand-in for the service's Dimuon, whose definition is not public: Muon, momentum made orthogonal.
//!
//! Per matrix, the momentum is `beta1` times itself plus the gradient, and the weights change by the learning rate
//! times the nearest orthogonal matrix to it, found by five Newton–Schulz iterations, and times the root of the
//! longer side over the rank, so that the entries change about as much as under Adam.

use super::optimizer::bound;
use crate::model::{LowRank, VOCABULARY};

/// One step of Dimuon (PROTOCOL 12.7).
#[derive(Clone, Debug, PartialEq)]
pub struct DimuonStep {
    /// Required by the protocol; not negative.
    pub learning_rate: f64,
    /// Decay of the momentum. The service's default is 0.9.
    pub beta1: f64,
    /// The largest global norm of the gradient; 0 or less for no limit. The service's default is 0.
    pub grad_clip_norm: f64,
}

/// The momentum.
#[derive(Clone, Debug)]
pub(crate) struct DimuonState(LowRank);

impl DimuonState {
    pub(crate) fn new(rank: usize) -> Self {
        Self(LowRank::zeros(rank))
    }

    pub(crate) fn step(&mut self, dimuon: &DimuonStep, weights: &mut LowRank, gradient: &LowRank) {
        let beta = dimuon.beta1 as f32;
        for (momentum, gradient) in self.0.parts_mut().into_iter().zip(gradient.parts()) {
            momentum.iter_mut().zip(gradient).for_each(|(m, g)| *m = beta * *m + g);
        }
        let rank = self.0.rank();
        let mut update = self.0.clone();
        orthogonalise(&mut update.a, rank);
        // The same with rows of `rank` entries, as A has them.
        let mut rows: Vec<f32> =
            (0..VOCABULARY).flat_map(|byte| self.0.b().iter().map(move |column| column[byte])).collect();
        orthogonalise(&mut rows, rank);
        for (byte, row) in rows.chunks(rank).enumerate() {
            update.b.iter_mut().zip(row).for_each(|(column, value)| column[byte] = *value);
        }
        let size = dimuon.learning_rate.min(1e12) as f32;
        for (weights, update) in weights.parts_mut().into_iter().zip(update.parts()) {
            let longer = (update.len() / rank).max(rank);
            let scale = size * (longer as f32 / rank as f32).sqrt();
            weights.iter_mut().zip(update).for_each(|(w, u)| *w = bound(*w - scale * u));
        }
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }
}

/// Makes a matrix, given as rows of `width` entries, the nearest one whose singular values are (about) one: those
/// that were not zero.
fn orthogonalise(rows: &mut [f32], width: usize) {
    // X ← aX + bX(XᵀX) + cX(XᵀX)², which drives singular values of at most one towards one.
    const A: f32 = 3.4445;
    const B: f32 = -4.775;
    const C: f32 = 2.0315;
    let norm = rows.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if norm == 0.0 {
        return;
    }
    rows.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    for _ in 0..5 {
        let mut gram = vec![0.0; width * width];
        for row in rows.chunks(width) {
            add_outer(&mut gram, row, row);
        }
        let mut polynomial: Vec<f32> = gram.iter().map(|value| B * value).collect();
        for (index, row) in gram.chunks(width).enumerate() {
            let square = times(row, &gram);
            polynomial[index * width..][..width].iter_mut().zip(square).for_each(|(p, s)| *p += C * s);
            polynomial[index * width + index] += A;
        }
        for row in rows.chunks_mut(width) {
            let product = times(row, &polynomial);
            row.copy_from_slice(&product);
        }
    }
}

fn add_outer(matrix: &mut [f32], left: &[f32], right: &[f32]) {
    for (row, l) in matrix.chunks_mut(right.len()).zip(left) {
        row.iter_mut().zip(right).for_each(|(sum, r)| *sum += l * r);
    }
}

/// A row times a square matrix.
fn times(row: &[f32], matrix: &[f32]) -> Vec<f32> {
    let mut product = vec![0.0; row.len()];
    for (value, matrix_row) in row.iter().zip(matrix.chunks(row.len())) {
        product.iter_mut().zip(matrix_row).for_each(|(sum, m)| *sum += value * m);
    }
    product
}
