//! Medians with their ranges, of figures and of ratios within rounds.

use serde::Serialize;

/// The middle of some values, and between what they lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// Of values in any order; none where there are none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self { median: lower.midpoint(upper), least: *values.first()?, most: *values.last()? })
    }

    /// Of ratios, each of two figures of the same round.
    pub(crate) fn of_ratios(pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<Self> {
        Self::of(pairs.into_iter().map(|(above, below)| above / below))
    }

    /// In another unit.
    pub(crate) fn scaled(self, factor: f64) -> Self {
        Self { median: self.median * factor, least: self.least * factor, most: self.most * factor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(Spread::of([4.0, 1.0, 3.0, 2.0]), Some(Spread { median: 2.5, least: 1.0, most: 4.0 }));
        assert_eq!(Spread::of([5.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, most: 5.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratios_are_taken_within_a_round_so_that_a_slow_round_does_not_count() {
        // The third round was slow for both.
        let rounds = [(2.0, 1.0), (4.0, 2.0), (20.0, 10.0)];
        assert_eq!(Spread::of_ratios(rounds), Some(Spread { median: 2.0, least: 2.0, most: 2.0 }));
    }
}
