//! The backward pass: from slopes of a loss with respect to logprobs to the gradient of A and B.

use super::pass::{Context, Pass};
use crate::model::{Adapter, LowRank, VOCABULARY};

type Row = [f32; VOCABULARY];

impl Pass<'_> {
    /// Adds the gradient of a loss whose derivative with respect to the logprob of each target is given, per datum
    /// and target.
    pub(crate) fn backward(mut self, adapter: &Adapter, slopes: &[Vec<f64>], gradient: &mut LowRank) {
        let mut sums = vec![0.0; self.contexts.len()];
        let mut used = vec![false; self.contexts.len()];
        let cells: Vec<_> = self.cells().zip(slopes.iter().flatten()).collect();
        for ((_, place, _), slope) in &cells {
            sums[*place] += **slope;
            used[*place] |= **slope != 0.0;
        }
        // d logprob(target) / d logit(byte) = [byte is the target] − p(byte); in double precision, for what is left
        // of a nearly certain prediction is a small difference.
        for (context, sum) in self.contexts.iter_mut().zip(&sums) {
            context.probabilities.iter_mut().for_each(|p| *p *= -sum);
        }
        for ((_, place, target), slope) in cells {
            self.contexts[place].probabilities[usize::from(target)] += slope;
        }
        // Contexts that only have weightless targets, as those of a prompt, cost nothing further.
        self.contexts.retain({
            let mut used = used.into_iter();
            move |_| used.next().unwrap_or_default()
        });
        for contexts in self.contexts.chunks(4) {
            add_gradient(adapter, contexts, gradient);
        }
    }
}

/// Adds the gradient of up to four contexts, whose `probabilities` hold the gradient of their logits.
fn add_gradient(adapter: &Adapter, contexts: &[Context], gradient: &mut LowRank) {
    let rows: Vec<Row> =
        contexts.iter().map(|context| context.probabilities.map(|value| value as f32)).collect();
    match (rows.as_slice(), contexts) {
        ([g0, g1, g2, g3], [c0, c1, c2, c3]) => {
            // Four contexts at a time: the sums stay in registers for four products.
            for (k, column) in gradient.b.iter_mut().enumerate() {
                let [h0, h1, h2, h3] = [c0.hidden[k], c1.hidden[k], c2.hidden[k], c3.hidden[k]];
                for byte in 0..VOCABULARY {
                    column[byte] += (h0 * g0[byte] + h1 * g1[byte]) + (h2 * g2[byte] + h3 * g3[byte]);
                }
            }
        }
        _ => {
            for (row, context) in rows.iter().zip(contexts) {
                for (column, h) in gradient.b.iter_mut().zip(&context.hidden) {
                    column.iter_mut().zip(row).for_each(|(sum, g)| *sum += h * g);
                }
            }
        }
    }
    for (row, context) in rows.iter().zip(contexts) {
        let hidden: Vec<f32> = adapter.weights.b.iter().map(|column| dot(column, row)).collect();
        for feature in context.features {
            gradient.column_mut(feature).iter_mut().zip(&hidden).for_each(|(sum, g)| *sum += g);
        }
    }
}

/// The sum of the products, added up as sixteen sums side by side.
fn dot(left: &Row, right: &Row) -> f32 {
    let (left, _) = left.as_chunks::<16>();
    let (right, _) = right.as_chunks::<16>();
    let mut sums = [0.0; 16];
    for (l, r) in left.iter().zip(right) {
        for lane in 0..16 {
            sums[lane] += l[lane] * r[lane];
        }
    }
    sums.iter().sum()
}
