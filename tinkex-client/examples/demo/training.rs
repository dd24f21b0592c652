//! The second act: the model learns a text, with the loop of the example `sft`.

use tinkex_client::ServiceClient;

use crate::sft;
use crate::terminal::{self, Connection, Failure, Screen};
use crate::wrapped::wrapped;

/// Shows the text that is sampled before training, the loss as it falls, and the text that is sampled after.
pub(crate) async fn act(
    service: &ServiceClient,
    connection: &Connection,
    screen: &Screen,
) -> Result<(), Failure> {
    let tokenizer = connection.tokenizer.as_ref();
    let trainer = service.lora_training_client(&connection.model).rank(sft::RANK).seed(1).create().await?;
    screen.line(&format!("Training {}, which goes on like this before:", trainer.model_id()));
    let sampler = trainer.save_weights_and_get_sampling_client().await?;
    let before = sft::recite(&sampler, tokenizer).await?;
    screen.line(&format!("{}\n", wrapped(&format!("{}\u{2502}{before}", sft::PROMPT))));

    let learning_rate = connection.learning_rate(sft::learning_rate);
    let bar = screen.bar(sft::STEPS);
    let example = sft::example(tokenizer)?;
    let losses = sft::train(&trainer, &example, learning_rate, |loss| {
        bar.set_message(format!("loss {loss:.3} per character"));
        bar.inc(1);
    })
    .await?;
    bar.finish_and_clear();
    screen.line(&terminal::curve("Loss per character, step by step:", &losses));

    let sampler = trainer.save_weights_and_get_sampling_client().await?;
    let after = sft::recite(&sampler, tokenizer).await?;
    screen.line("\nAnd like this after:");
    screen.line(&wrapped(&format!("{}\u{2502}{after}", sft::PROMPT)));
    match losses.last() < losses.first() {
        true => Ok(()),
        false => Err("the loss did not fall".into()),
    }
}
