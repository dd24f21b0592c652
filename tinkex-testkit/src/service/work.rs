//! One accepted sample: what is to be computed, and the result once somebody needs it.

use std::sync::OnceLock;

use bytes::Bytes;
use prost::Message;

use super::PromptLogprobShape;
use super::encode;
use crate::model::{
    Generation, GenerationPlan, LanguageModel, PromptQuestions, PromptScores, SplitMix64, Targets,
};

/// What a sample request asks for, checked. The result is computed when it is first needed, outside all locks, so
/// that a cancelled sample costs nothing.
#[derive(Debug)]
pub(crate) struct SampleWork {
    pub(crate) model: LanguageModel,
    pub(crate) prompt: Vec<i32>,
    pub(crate) plan: GenerationPlan,
    pub(crate) num_samples: usize,
    pub(crate) seed: u64,
    pub(crate) ask: PromptAsk,
    pub(crate) shape: PromptLogprobShape,
    pub(crate) result: OnceLock<SampleResult>,
}

/// [`PromptQuestions`] that own their targets.
#[derive(Clone, Debug, Default)]
pub(crate) struct PromptAsk {
    pub(crate) logprobs: bool,
    pub(crate) top: usize,
    pub(crate) draws: usize,
    pub(crate) targets: Option<Targets>,
    pub(crate) last: Option<usize>,
}

/// The computed result, and its protobuf form, whose size is what `complete_metadata` announces.
#[derive(Debug)]
pub(crate) struct SampleResult {
    pub(crate) sequences: Vec<Generation>,
    pub(crate) scores: PromptScores,
    pub(crate) protobuf: Bytes,
}

impl SampleWork {
    /// The result, computed at the first call.
    pub(crate) fn result(&self) -> &SampleResult {
        self.result.get_or_init(|| {
            let seed = |index| SplitMix64::stream(self.seed, index).next_u64();
            let sequences: Vec<_> = (0..self.num_samples as u64)
                .map(|index| self.model.generate(&self.prompt, &self.plan, seed(index)))
                .collect();
            let questions = PromptQuestions {
                logprobs: self.ask.logprobs,
                top: self.ask.top,
                draws: self.ask.draws,
                temperature: self.plan.temperature,
                // A stream no sample has.
                seed: seed(u64::MAX),
                targets: self.ask.targets.as_ref(),
                last: self.ask.last,
            };
            let scores = self.model.score_prompt(&self.prompt, &questions);
            let protobuf = encode::protobuf(self, &sequences, &scores).encode_to_vec().into();
            SampleResult { sequences, scores, protobuf }
        })
    }
}
