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

    /// How much memory one contender took beyond what it had before the first sample, in bytes.
    pub(crate) fn memory_growth(&self, who: Contender) -> Option<Spread> {
        let readings = self.rounds.iter().filter_map(|round| round.get(&who));
        Spread::of(readings.filter_map(|reading| Some(reading.memory?.growth_bytes() as f64)))
    }

    /// The same for each sample in flight, without its prompt, in KiB.
    pub(crate) fn kib_per_sample_in_flight(&self, who: Contender) -> Option<Spread> {
        let prompt_bytes = (4 * self.cell.prompt_tokens) as f64;
        let in_flight = self.cell.in_flight as f64;
        let less_prompt = |bytes: f64| (bytes / in_flight - prompt_bytes) / 1024.0;
        self.memory_growth(who).map(|spread| Spread {
            median: less_prompt(spread.median),
            least: less_prompt(spread.least),
            most: less_prompt(spread.most),
        })
    }

    /// By how much one contender needs more of that than the other.
    pub(crate) fn kib_per_sample_in_flight_beyond(&self, who: Contender, other: Contender) -> Option<Spread> {
        let growth = |who: Contender, readings: &BTreeMap<Contender, Reading>| {
            readings.get(&who)?.memory.map(|memory| memory.growth_bytes() as f64)
        };
        let in_flight = self.cell.in_flight as f64;
        let beyond = self.rounds.iter().filter_map(|readings| {
            Some((growth(who, readings)? - growth(other, readings)?) / in_flight / 1024.0)
        });
        Spread::of(beyond)
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
