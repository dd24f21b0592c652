//! The forward pass over a block of data: what the model predicts at each position.

use std::collections::HashMap;

use super::LearnerDatum;
use crate::model::{
    ActiveFeatures, Adapter, Distribution, History, LanguageModel, byte_of, logprob, normalise,
};

/// The predictions for a block of data. Positions with the same context share one.
pub(crate) struct Pass<'a> {
    data: &'a [LearnerDatum],
    /// Per datum and position, the index of the position's context.
    pub(crate) places: Vec<Vec<usize>>,
    /// Each different context, in the order of its first appearance.
    pub(crate) contexts: Vec<Context>,
}

/// What was computed for one context.
pub(crate) struct Context {
    pub(crate) features: ActiveFeatures,
    pub(crate) hidden: Vec<f32>,
    pub(crate) probabilities: Distribution,
}

impl<'a> Pass<'a> {
    pub(crate) fn new(base: &LanguageModel, adapter: &Adapter, data: &'a [LearnerDatum]) -> Self {
        let mut known = HashMap::new();
        let mut contexts = Vec::new();
        let mut place = |history: &History| {
            *known.entry(history.clone()).or_insert_with(|| {
                // The same operations as in LanguageModel::after: sampling and training agree to the last bit.
                let features = adapter.features_after(history);
                let hidden = adapter.hidden(&features);
                let mut probabilities = base.base_weights(history);
                adapter.reweigh(&mut probabilities, &hidden);
                normalise(&mut probabilities);
                contexts.push(Context { features, hidden, probabilities });
                contexts.len() - 1
            })
        };
        let places_of = |datum: &LearnerDatum| {
            let mut history = History::default();
            let mut read = |token: &i32| {
                history.push(byte_of(*token));
                place(&history)
            };
            datum.tokens.iter().map(&mut read).collect()
        };
        let places = data.iter().map(places_of).collect();
        Self { data, places, contexts }
    }

    /// Per datum, the logprob of each target.
    pub(crate) fn logprobs(&self) -> Vec<Vec<f32>> {
        let mut logprobs = vec![Vec::new(); self.data.len()];
        for (datum, place, target) in self.cells() {
            logprobs[datum].push(logprob(&self.contexts[place].probabilities, target));
        }
        logprobs
    }

    /// Datum, context and target of each cell, datum by datum, position by position.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (usize, usize, u8)> {
        self.data.iter().zip(&self.places).enumerate().flat_map(|(index, (datum, places))| {
            let rows = datum.targets.chunks(datum.width);
            places.iter().zip(rows).flat_map(move |(place, row)| {
                row.iter().map(move |target| (index, *place, target.rem_euclid(256) as u8))
            })
        })
    }
}
