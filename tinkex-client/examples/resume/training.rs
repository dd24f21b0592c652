//! A run that is stopped and goes on elsewhere, and the same run without a stop.

use std::ops::Range;

use tinkex_client::{
    AdamParams, Datum, Error, LossFn, ModelInput, ServiceClient, Tokenizer, TokenizerError, TrainingClient,
};

const RANK: u32 = 16;
pub(crate) const STEPS: usize = 24;
/// How many steps are made before the run is stopped.
pub(crate) const STOP: usize = STEPS / 2;

const TEXTS: [&str; 4] = [
    "A rope that is coiled when it is dry will run out clean.",
    "Paint below the waterline in spring, above it in autumn.",
    "Never stand between a line under load and what it holds.",
    "The tide does not wait, and the ferry waits for the tide.",
];

/// The learning rate. The embedded server's model of a few numbers takes larger steps than one of billions.
pub(crate) fn learning_rate(is_embedded: bool) -> f64 {
    if is_embedded { 0.02 } else { 2e-4 }
}

/// What a run is about: the same for the run with a stop and for the one without.
pub(crate) struct Recipe {
    model: String,
    learning_rate: f64,
    data: Vec<Datum>,
}

impl Recipe {
    pub(crate) fn new(
        model: &str,
        learning_rate: f64,
        tokenizer: &dyn Tokenizer,
    ) -> Result<Self, TokenizerError> {
        let datum = |text| {
            let tokens = tokenizer.encode(text)?;
            let (inputs, targets) = (&tokens[..tokens.len() - 1], &tokens[1..]);
            Ok(Datum::new(ModelInput::from_ints(inputs)).target_tokens(targets.iter().copied()))
        };
        let data = TEXTS.into_iter().map(datum).collect::<Result<_, _>>()?;
        Ok(Self { model: model.to_owned(), learning_rate, data })
    }

    /// A fresh run. Equal seeds give equal first weights.
    pub(crate) async fn start(&self, service: &ServiceClient) -> Result<TrainingClient, Error> {
        service.lora_training_client(&self.model).rank(RANK).seed(1).create().await
    }

    /// Makes some of the steps, and returns the loss before each, per token.
    pub(crate) async fn train(
        &self,
        trainer: &TrainingClient,
        steps: Range<usize>,
        mut progress: impl FnMut(f64),
    ) -> Result<Vec<f64>, Error> {
        let mut losses = Vec::with_capacity(steps.len());
        for step in steps {
            // Which data a step sees follows from its number alone. A run that drew them at random would have to
            // save the state of its generator beside the checkpoint.
            let datum = &self.data[step % self.data.len()];
            let gradient = trainer.forward_backward([datum.clone()], LossFn::CrossEntropy);
            let update = trainer.optim_step(AdamParams::new(self.learning_rate));
            let output = gradient.await?;
            update.await?;
            let tokens = datum.model_input.token_count().unwrap_or_default();
            let loss = output.loss().unwrap_or(f64::NAN) / tokens as f64;
            progress(loss);
            losses.push(loss);
        }
        Ok(losses)
    }
}

/// Trains up to the stop, saves a checkpoint, and forgets everything but the checkpoint's path and the losses so far.
pub(crate) async fn until_stop(
    service: &ServiceClient,
    recipe: &Recipe,
    progress: impl FnMut(f64),
) -> Result<(Vec<f64>, String), Error> {
    let trainer = recipe.start(service).await?;
    let losses = recipe.train(&trainer, 0..STOP, progress).await?;
    // A save takes its turn behind the steps before it, so it would need no await between; and it holds the weights
    // *and* what the optimizer remembers, which a checkpoint for sampling does not.
    let saved = trainer.save_state("halfway").await?;
    Ok((losses, saved.path))
}

/// Goes on from a checkpoint, in a new process or on another machine.
pub(crate) async fn from_stop(
    service: &ServiceClient,
    recipe: &Recipe,
    path: &str,
    progress: impl FnMut(f64),
) -> Result<Vec<f64>, Error> {
    let trainer = service.training_client_from_state_with_optimizer(path).create().await?;
    recipe.train(&trainer, STOP..STEPS, progress).await
}

/// The same from the weights alone: Adam starts anew, and its first steps are too long.
pub(crate) async fn from_stop_without_optimizer(
    service: &ServiceClient,
    recipe: &Recipe,
    path: &str,
    progress: impl FnMut(f64),
) -> Result<Vec<f64>, Error> {
    let trainer = service.training_client_from_state(path).create().await?;
    recipe.train(&trainer, STOP..STEPS, progress).await
}
