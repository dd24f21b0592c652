//! The loop of reinforcement learning with a reward that can be computed, and what is rewarded.

use tinkex_client::{
    AdamParams, Datum, LossFn, ModelInput, SampleRequest, SampledSequence, SamplingClient, SamplingParams,
    Tokenizer, TrainingClient,
};

/// What the model goes on from.
pub(crate) const PROMPTS: [&str; 4] = ["The harbour ", "At night the ", "Once there was ", "She said "];
/// How many answers to the same prompt are compared with each other.
const GROUP: u32 = 16;
const MAX_TOKENS: u32 = 24;

/// The reward: the share of vowels among the characters of an answer, between 0 and 1.
pub(crate) fn reward(answer: &str) -> f64 {
    let vowels = answer.chars().filter(|c| "aeiouAEIOU".contains(*c)).count();
    vowels as f64 / answer.chars().count().max(1) as f64
}

/// Trains towards the reward, and returns the mean reward of each step. `progress` hears of each as it becomes known.
pub(crate) async fn train(
    trainer: &TrainingClient,
    tokenizer: &dyn Tokenizer,
    steps: usize,
    learning_rate: f64,
    mut progress: impl FnMut(f64),
) -> Result<Vec<f64>, Failure> {
    let mut means = Vec::with_capacity(steps);
    for step in 0..steps {
        // The weights as they are now. Samples of older weights would be off-policy, which the importance weights
        // of the loss make good for a little, and not for long.
        let sampler = trainer.save_weights_and_get_sampling_client().await?;
        // All groups are on their way before the first is awaited.
        let groups = PROMPTS.map(|prompt| answers(&sampler, tokenizer, prompt, step as u64));
        let (mut batch, mut rewards) = (Vec::new(), Vec::new());
        for group in groups {
            let (prompt, answers) = group.await?;
            let texts = answers.iter().map(|answer| tokenizer.decode(&answer.tokens));
            let scores = texts.map(|text| Ok(reward(&text?))).collect::<Result<Vec<f64>, Failure>>()?;
            // An answer is good where it is better than its own group: the mean is the baseline, so that an easy
            // prompt does not drown a hard one, and a group of equal answers teaches nothing.
            let mean = scores.iter().sum::<f64>() / scores.len() as f64;
            let advantages = scores.iter().map(|score| score - mean);
            batch.extend(answers.iter().zip(advantages).map(|(answer, a)| datum(&prompt, answer, a as f32)));
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

/// A failed request, or text that a tokenizer cannot do.
pub(crate) type Failure = Box<dyn std::error::Error>;
