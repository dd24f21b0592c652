//! The rounds of one task: in each, every contender does the cell once.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::AnyError;
use crate::cell::Cell;
use crate::contender::Contender;
use crate::laboratory::Laboratory;
use crate::plan::Task;
use crate::reading::Reading;
use crate::statistics::Spread;

/// What the rounds showed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Rounds {
    pub(crate) cell: Cell,
    pub(crate) rounds: Vec<BTreeMap<Contender, Reading>>,
}

impl Rounds {
    /// Runs them. Who begins changes from round to round.
    pub(crate) fn run(laboratory: &mut Laboratory, task: &Task) -> Result<Self, AnyError> {
        let mut contenders: Vec<Contender> =
            task.contenders.iter().copied().filter(|who| laboratory.has(*who)).collect();
        let mut rounds = Vec::new();
        for _ in 0..task.rounds {
            let mut round = BTreeMap::new();
            for &contender in &contenders {
                round.insert(contender, laboratory.measure(contender, &task.cell.shortened_for(contender))?);
            }
            rounds.push(round);
            contenders.rotate_left(1);
        }
        Ok(Self { cell: task.cell, rounds })
    }

    /// A figure of one contender; none where it did not run.
    pub(crate) fn figure(&self, who: Contender, of: impl Fn(&Reading) -> f64) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(|round| round.get(&who)).map(of))
    }

    /// The ratio of two contenders' figures, round by round.
    pub(crate) fn ratio(
        &self,
        above: Contender,
        below: Contender,
        of: impl Fn(&Reading) -> f64,
    ) -> Option<Spread> {
        let pairs =
            self.rounds.iter().filter_map(|round| Some((of(round.get(&above)?), of(round.get(&below)?))));
        Spread::of_ratios(pairs)
    }
}
