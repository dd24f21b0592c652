//! The forward pass over a block of data: what the model predicts at each position.

use std::collections::HashMap;

use super::LearnerDatum;
use crate::model::{
    ActiveFeatures, Adapter, Distribution, History, LanguageModel, VOCABULARY, byte_of, logprob, normalise,
};

/// The predictions for a block of data. Positions with the same context share one.
pub(crate) struct Pass<'a> {
    base: &'a LanguageModel,
    pub(crate) adapter: &'a Adapter,
    data: &'a [LearnerDatum],
    /// Per position, datum by datum, the index of its context.
    places: Vec<usize>,
    /// Per context, in the order of first appearance: the active features, A·φ, and the prediction.
    pub(crate) features: Vec<ActiveFeatures>,
    hidden: Vec<f32>,
    pub(crate) probabilities: Vec<Distribution>,
}

/// One target of one position.
pub(crate) struct Cell {
    /// The datum, by its place in the block.
    pub(crate) datum: usize,
    /// The context, by its place in the pass.
    pub(crate) place: usize,
    /// The byte to be predicted.
    pub(crate) target: u8,
}

impl<'a> Pass<'a> {
    pub(crate) fn new(base: &'a LanguageModel, adapter: &'a Adapter, data: &'a [LearnerDatum]) -> Self {
        let positions = data.iter().map(|datum| datum.tokens.len()).sum();
        let mut pass = Self {
            base,
            adapter,
            data,
            places: Vec::with_capacity(positions),
            features: Vec::with_capacity(positions),
            hidden: Vec::with_capacity(positions * adapter.weights().rank()),
            probabilities: Vec::with_capacity(positions),
        };
        let mut known = HashMap::new();
        for datum in data {
            let mut history = History::default();
            for token in &datum.tokens {
                history.push(byte_of(*token));
                let place = *known.entry(history.clone()).or_insert_with(|| pass.predict(&history));
                pass.places.push(place);
            }
        }
        pass
    }

    /// Predicts what follows a new context: the same operations as in `LanguageModel::after`, so that sampling and
    /// training agree to the last bit.
    fn predict(&mut self, history: &History) -> usize {
        let place = self.features.len();
        let features = self.adapter.features_after(history);
        let start = self.hidden.len();
        self.hidden.resize(start + self.adapter.weights().rank(), 0.0);
        let hidden = &mut self.hidden[start..];
        self.adapter.add_hidden(&features, hidden);
        self.features.push(features);
        self.probabilities.push([0.0; VOCABULARY]);
        if let Some(probabilities) = self.probabilities.last_mut() {
            self.base.base_weights(history, probabilities);
            self.adapter.reweigh(probabilities, hidden);
            normalise(probabilities);
        }
        place
    }

    /// A·φ of a context.
    pub(crate) fn hidden(&self, place: usize) -> &[f32] {
        let rank = self.adapter.weights().rank();
        &self.hidden[place * rank..][..rank]
    }

    /// Per datum, the logprob of each target.
    pub(crate) fn logprobs(&self) -> Vec<Vec<f32>> {
        let of = |datum: &LearnerDatum| Vec::with_capacity(datum.targets.len());
        let mut logprobs: Vec<Vec<f32>> = self.data.iter().map(of).collect();
        for cell in self.cells() {
            logprobs[cell.datum].push(logprob(&self.probabilities[cell.place], cell.target));
        }
        logprobs
    }

    /// All cells, datum by datum, position by position.
    pub(crate) fn cells(&self) -> impl Iterator<Item = Cell> {
        let rows = self.data.iter().enumerate().flat_map(|(index, datum)| {
            datum.targets.chunks(datum.width).map(move |targets| (index, targets))
        });
        rows.zip(&self.places).flat_map(|((datum, targets), place)| {
            targets.iter().map(move |target| Cell {
                datum,
                place: *place,
                target: target.rem_euclid(VOCABULARY as i64) as u8,
            })
        })
    }
}
