//! The loop of direct preference optimisation, and the preferences.

use tinkex_client::losses::Dpo;
use tinkex_client::{
    AdamParams, Datum, Error, ForwardBackwardOutput, LossFn, ModelInput, TensorData, Tokenizer,
    TokenizerError, TrainingClient,
};

pub(crate) const RANK: u32 = 16;
pub(crate) const STEPS: usize = 30;

/// A question, the answer that is preferred, and the one that is not.
pub(crate) const PAIRS: [[&str; 3]; 6] = [
    ["When does the ferry leave?", " At nine, from the east pier.", " How should I know?"],
    ["Is the museum open today?", " Yes, until five o'clock.", " Look it up yourself."],
    ["Where can I find a bank?", " Two streets down, left.", " Somewhere in town."],
    ["Does it rain in March?", " Often, so bring a coat.", " Who cares about that?"],
    ["Can I walk to the castle?", " Yes, it takes half an hour.", " If you must."],
    ["What is there to eat?", " Fresh fish and warm bread.", " Food, obviously."],
];

/// How strongly a preference pulls away from the reference model; 0.1 is usual.
const BETA: f64 = 0.1;

/// The learning rate. The embedded server's model of a few numbers takes larger steps than one of billions.
pub(crate) fn learning_rate(is_embedded: bool) -> f64 {
    if is_embedded { 0.005 } else { 1e-5 }
}

/// How well the preferences are followed before a step. Means over all pairs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// The share of pairs whose preferred answer has gained more than the other one.
    pub(crate) accuracy: f64,
    /// How much more it has gained, times β.
    pub(crate) margin: f64,
}

/// The training data: for each pair the preferred answer, then the rejected one. Only answers have weight.
pub(crate) fn data(tokenizer: &dyn Tokenizer) -> Result<Vec<Datum>, TokenizerError> {
    let mut data = Vec::with_capacity(2 * PAIRS.len());
    for [question, preferred, rejected] in PAIRS {
        let question = tokenizer.encode(question)?;
        for answer in [preferred, rejected] {
            let tokens = [question.as_slice(), &tokenizer.encode(answer)?].concat();
            let (inputs, targets) = (&tokens[..tokens.len() - 1], &tokens[1..]);
            let weights = (0..targets.len()).map(|n| if n + 1 < question.len() { 0.0 } else { 1.0 });
            let datum = Datum::new(ModelInput::from_ints(inputs)).target_tokens(targets.iter().copied());
            data.push(datum.weights(weights));
        }
    }
    Ok(data)
}

/// Trains on the preferences, and returns what each step started from. `progress` hears of it as it becomes known.
pub(crate) async fn train(
    trainer: &TrainingClient,
    data: Vec<Datum>,
    learning_rate: f64,
    mut progress: impl FnMut(Progress),
) -> Result<Vec<Progress>, Error> {
    // The model before training is the reference: the loss rewards what changes against it. Its log-probabilities
    // stay what they are, so one forward pass is enough for the whole run.
    let reference = trainer.forward(data.clone(), LossFn::CrossEntropy).await?;
    let data = with_reference(data, &reference);
    let mut seen = Vec::with_capacity(STEPS);
    for _ in 0..STEPS {
        // The server runs the forward pass, this process computes the loss and its gradient from the log-probabilities,
        // and the server carries the gradient on into the weights. Both passes have taken their places when the call
        // returns, so the update may be sent at once: it cannot come before the second pass.
        let gradient = trainer.forward_backward_custom(data.clone(), Dpo::new(BETA));
        let update = trainer.optim_step(AdamParams::new(learning_rate));
        let output = gradient.await?;
        update.await?;
        let metric = |name| output.metric(name).unwrap_or(f64::NAN);
        let now = Progress { accuracy: metric("accuracy"), margin: metric("margin") };
        progress(now);
        seen.push(now);
    }
    Ok(seen)
}

/// The data with the log-probabilities of the reference model, where the loss looks for them.
fn with_reference(data: Vec<Datum>, reference: &ForwardBackwardOutput) -> Vec<Datum> {
    let outputs = reference.loss_fn_outputs.iter();
    let logprobs = outputs.map(|output| output.logprobs().unwrap_or_default().to_vec());
    let pairs = data.into_iter().zip(logprobs);
    pairs.map(|(datum, logprobs)| datum.tensor("ref_logprobs", TensorData::from(logprobs))).collect()
}

/// The log-probability of each answer, in the order of the data.
pub(crate) async fn score(trainer: &TrainingClient, data: Vec<Datum>) -> Result<Vec<f64>, Error> {
    let output = trainer.forward(data.clone(), LossFn::CrossEntropy).await?;
    let scored = data.iter().zip(&output.loss_fn_outputs).map(|(datum, output)| {
        let weights =
            datum.loss_fn_inputs.get("weights").and_then(TensorData::as_float32).unwrap_or_default();
        let logprobs = output.logprobs().unwrap_or_default();
        weights.iter().zip(logprobs).map(|(weight, logprob)| f64::from(weight * logprob)).sum()
    });
    Ok(scored.collect())
}
