//! The backward pass: from slopes of a loss with respect to logprobs to the gradient of A and B.

use super::pass::{Cell, Pass};
use crate::model::{LowRank, VOCABULARY};

/// So many contexts are worked on at once: each pass over B and its gradient, which together are more than the
/// fastest cache holds, then serves many of them.
const TILE: usize = 16;

/// So many sums are made side by side, so that no addition waits for the one before.
const LANES: usize = 32;

type Row = [f32; VOCABULARY];

impl Pass<'_> {
    /// Adds the gradient of a loss whose derivative with respect to the logprob of each target is given, per datum
    /// and target.
    pub(crate) fn backward(&self, slopes: &[Vec<f64>], gradient: &mut LowRank) {
        // Targets without weight, as those of a prompt, cost nothing.
        let mut cells: Vec<(Cell, f64)> =
            self.cells().zip(slopes.iter().flatten().copied()).filter(|(_, slope)| *slope != 0.0).collect();
        cells.sort_by_key(|(cell, _)| cell.place); // stable: the order of additions is fixed
        let mut groups = cells.chunk_by(|(left, _), (right, _)| left.place == right.place);
        loop {
            let mut rows = [[0.0; VOCABULARY]; TILE];
            let mut places = Vec::with_capacity(TILE);
            for (group, row) in groups.by_ref().take(TILE).zip(&mut rows) {
                let place = group[0].0.place;
                self.write_logit_gradient(place, group, row);
                places.push(place);
            }
            if places.is_empty() {
                break;
            }
            self.add_gradient(&places, &rows, gradient);
        }
    }

    /// d logprob(target) / d logit(byte) = [byte is the target] − p(byte), times the slope, summed over a context's
    /// targets. In double precision: what is left of a nearly certain prediction is a small difference.
    fn write_logit_gradient(&self, place: usize, targets: &[(Cell, f64)], row: &mut Row) {
        let sum: f64 = targets.iter().map(|(_, slope)| slope).sum();
        let mut logits = [0.0; VOCABULARY];
        logits.iter_mut().zip(&self.probabilities[place]).for_each(|(logit, p)| *logit = -sum * p);
        for (cell, slope) in targets {
            logits[usize::from(cell.target)] += slope;
        }
        row.iter_mut().zip(&logits).for_each(|(single, double)| *single = *double as f32);
    }

    /// Adds the gradient of up to [`TILE`] contexts; the rows of missing ones are zero.
    fn add_gradient(&self, places: &[usize], rows: &[Row; TILE], gradient: &mut LowRank) {
        let rank = self.adapter.weights().rank();
        let mut by_hidden = vec![[0.0; TILE]; rank];
        let columns = gradient.b.iter_mut().zip(self.adapter.weights().b());
        for (k, ((sums, column), by_hidden)) in columns.zip(&mut by_hidden).enumerate() {
            let mut hidden = [0.0; TILE];
            hidden.iter_mut().zip(places).for_each(|(h, place)| *h = self.hidden(*place)[k]);
            // Four at a time: the sums stay in registers for four products.
            for ([h0, h1, h2, h3], [g0, g1, g2, g3]) in
                hidden.as_chunks::<4>().0.iter().zip(rows.as_chunks::<4>().0)
            {
                for byte in 0..VOCABULARY {
                    sums[byte] += (h0 * g0[byte] + h1 * g1[byte]) + (h2 * g2[byte] + h3 * g3[byte]);
                }
            }
            for (product, row) in by_hidden.iter_mut().zip(rows).take(places.len()) {
                *product = scalar_product(column, row);
            }
        }
        for (index, place) in places.iter().enumerate() {
            for feature in self.features[*place] {
                let column = gradient.column_mut(feature);
                column.iter_mut().zip(&by_hidden).for_each(|(sum, products)| *sum += products[index]);
            }
        }
    }
}

/// The scalar product.
fn scalar_product(left: &Row, right: &Row) -> f32 {
    let [a, b, c, d] = quarter_products(left, right);
    (a + c) + (b + d)
}

/// Four sums that make the scalar product. Not inlined, nor is what it calls: the compiler would then vectorise the
/// last additions, at the cost of the many before.
#[inline(never)]
fn quarter_products(left: &Row, right: &Row) -> [f32; 4] {
    let sums = lane_products(left, right);
    let (fours, _) = sums.as_chunks::<4>();
    fours.iter().fold([0.0; 4], |total, four| std::array::from_fn(|lane| total[lane] + four[lane]))
}

#[inline(never)]
fn lane_products(left: &Row, right: &Row) -> [f32; LANES] {
    let mut sums = [0.0; LANES];
    let (left, _) = left.as_chunks::<LANES>();
    let (right, _) = right.as_chunks::<LANES>();
    for (l, r) in left.iter().zip(right) {
        for lane in 0..LANES {
            sums[lane] += l[lane] * r[lane];
        }
    }
    sums
}
