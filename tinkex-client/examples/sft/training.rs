//! The loop of supervised fine-tuning, and what it learns from.

use std::mem;

use tinkex_client::{
    AdamParams, Datum, Error, LossFn, ModelInput, SampleRequest, SamplingClient, SamplingParams, Tokenizer,
    TokenizerError, TrainingClient,
};

pub(crate) const RANK: u32 = 32;
pub(crate) const STEPS: usize = 40;

/// What the model is asked.
pub(crate) const PROMPT: &str = "From the log of the lighthouse: ";
/// What it learns to answer.
pub(crate) const TEXT: &str = "low water at six, a grey seal on the north rock, two gulls on the rail, \
                               and by nine a wind from the west that smelled of rain.";

/// The learning rate. The embedded server's model of a few numbers takes larger steps than one of billions.
pub(crate) fn learning_rate(is_embedded: bool) -> f64 {
    if is_embedded { 0.02 } else { 5e-4 }
}

/// The training example: each position predicts the next token. The prompt is read, but has no weight in the loss, so
/// the model learns to give the text and not to ask for it.
pub(crate) fn example(tokenizer: &dyn Tokenizer) -> Result<Datum, TokenizerError> {
    let prompt = tokenizer.encode(PROMPT)?;
    let tokens = [prompt.as_slice(), &tokenizer.encode(TEXT)?].concat();
    let (inputs, targets) = (&tokens[..tokens.len() - 1], &tokens[1..]);
    let weights = (0..targets.len()).map(|position| if position + 1 < prompt.len() { 0.0 } else { 1.0 });
    Ok(Datum::new(ModelInput::from_ints(inputs)).target_tokens(targets.iter().copied()).weights(weights))
}

/// Trains on the same example again and again, and returns the loss before each step: the negative log-probability of
/// the text, per character of it. `progress` hears of each as it becomes known.
pub(crate) async fn train(
    trainer: &TrainingClient,
    example: &Datum,
    learning_rate: f64,
    mut progress: impl FnMut(f64),
) -> Result<Vec<f64>, Error> {
    let mut losses = Vec::with_capacity(STEPS);
    let mut running = None;
    for step in 0..=STEPS {
        // A call has taken its place in the server's order when it returns, so the update needs no await between it
        // and the gradient it applies: the server gets both at once.
        let next = (step < STEPS).then(|| {
            let gradient = trainer.forward_backward([example.clone()], LossFn::CrossEntropy);
            let update = trainer.optim_step(AdamParams::new(learning_rate));
            (gradient, update)
        });
        // Only now wait for the step before. While its result travels, the server works on the one just sent, and
        // never has to wait for this side.
        if let Some((gradient, update)) = mem::replace(&mut running, next) {
            let output = gradient.await?;
            // The weights change here, and metrics of the optimizer (such as the gradient's norm) come back.
            update.await?;
            let loss = output.loss().unwrap_or(f64::NAN) / TEXT.chars().count() as f64;
            progress(loss);
            losses.push(loss);
        }
    }
    Ok(losses)
}

/// What the sampler answers to the prompt, taking the likeliest token every time.
pub(crate) async fn recite(sampler: &SamplingClient, tokenizer: &dyn Tokenizer) -> Result<String, Failure> {
    let prompt = ModelInput::from_text(PROMPT, tokenizer)?;
    let length = tokenizer.encode(TEXT)?.len() as u32;
    let params = SamplingParams::new().max_tokens(length).temperature(0.0);
    let reply = sampler.sample(SampleRequest::new(prompt, params)).await?;
    Ok(tokenizer.decode(&reply.sequences[0].tokens)?)
}

/// A failed request, or text that a tokenizer cannot do.
pub(crate) type Failure = Box<dyn std::error::Error>;
