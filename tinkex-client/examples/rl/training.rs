//! The loop of reinforcement learning with a reward that can be computed, and what is rewarded.

use std::iter::repeat_n;

use tinkex_client::{
    AdamParams, Datum, LossFn, ModelInput, SampleHandle, SampleRequest, SampledSequence, SamplingClient,
    SamplingParams, Tokenizer, TrainingClient,
};

pub(crate) const RANK: u32 = 16;
pub(crate) const STEPS: usize = 24;

/// What the model goes on from.
pub(crate) const PROMPTS: [&str; 4] = ["The harbour ", "At night the ", "Once there was ", "She said "];
/// How many answers to the same prompt are compared with each other.
const GROUP: u32 = 12;
const MAX_TOKENS: u32 = 20;

/// The learning rate. The embedded server's model of a few numbers takes larger steps than one of billions.
pub(crate) fn learning_rate(is_embedded: bool) -> f64 {
    if is_embedded { 0.06 } else { 1e-4 }
}

/// The reward: the share of vowels among the characters of an answer, between 0 and 1.
pub(crate) fn reward(answer: &str) -> f64 {
    let vowels = answer.chars().filter(|c| "aeiouAEIOU".contains(*c)).count();
    vowels as f64 / answer.chars().count().max(1) as f64
}

/// Trains towards the reward, and returns the mean reward of each step. `progress` hears of each as it becomes known.
pub(crate) async fn train(
    trainer: &TrainingClient,
    tokenizer: &dyn Tokenizer,
    learning_rate: f64,
    mut progress: impl FnMut(f64),
) -> Result<Vec<f64>, Failure> {
    let prompts = PROMPTS.map(|prompt| ModelInput::from_text(prompt, tokenizer));
    let prompts = prompts.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut means = Vec::with_capacity(STEPS);
    for step in 0..STEPS {
        // The weights as they are now. Samples of older weights would be off-policy, which the importance weights
        // of the loss make good for a little, and not for long.
        let sampler = trainer.save_weights_and_get_sampling_client().await?;
        // All groups are on their way before the first is awaited.
        let groups: Vec<_> = prompts.iter().map(|prompt| ask(&sampler, prompt, step as u64)).collect();
        let (mut batch, mut rewards) = (Vec::new(), Vec::new());
        for (prompt, group) in prompts.iter().zip(groups) {
            let answers = group.await?.sequences;
            let texts = answers.iter().map(|answer| tokenizer.decode(&answer.tokens));
            let scores = texts.map(|text| text.map(|text| reward(&text))).collect::<Result<Vec<_>, _>>()?;
            // An answer is good where it is better than its own group: the mean is the baseline, so that an easy
            // prompt does not drown a hard one, and a group of equal answers teaches nothing.
            let mean = scores.iter().sum::<f64>() / scores.len() as f64;
            let scored = answers.iter().zip(&scores);
            batch.extend(scored.map(|(answer, score)| datum(prompt, answer, score - mean)));
            rewards.extend(scores);
        }
        // One update per batch, sent together with the gradient it applies.
        let gradient = trainer.forward_backward(batch, LossFn::ImportanceSampling);
        let update = trainer.optim_step(AdamParams::new(learning_rate));
        gradient.await?;
        update.await?;
        let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
        progress(mean);
        means.push(mean);
    }
    Ok(means)
}

/// Asks for a group of answers to a prompt. The request is on its way when this returns.
fn ask(sampler: &SamplingClient, prompt: &ModelInput, seed: u64) -> SampleHandle {
    let params = SamplingParams::new().max_tokens(MAX_TOKENS).seed(seed);
    sampler.sample(SampleRequest::new(prompt.clone(), params).num_samples(GROUP))
}

/// An answer to learn from. The prompt is read too, but has no advantage: only what was sampled is reinforced.
fn datum(prompt: &ModelInput, answer: &SampledSequence, advantage: f64) -> Datum {
    let tokens: Vec<i32> = prompt.tokens().chain(answer.tokens.iter().copied()).collect();
    // Each position predicts the next token, so the first token of all is no target.
    let read = tokens.len() - 1 - answer.tokens.len();
    let logprobs = answer.logprobs.iter().flatten().copied();
    Datum::new(ModelInput::from_ints(&tokens[..tokens.len() - 1]))
        .target_tokens(tokens[1..].iter().copied())
        .logprobs(repeat_n(0.0, read).chain(logprobs))
        .advantages(repeat_n(0.0, read).chain(repeat_n(advantage as f32, answer.tokens.len())))
}

/// A failed request, or text that a tokenizer cannot do.
pub(crate) type Failure = Box<dyn std::error::Error>;
