//! What a swapped transport is shown with: a model is sampled, learns a few characters, and is sampled again.
//!
//! Nothing here knows which transport it is.

use std::error::Error;
use std::process::ExitCode;

use tinkex_client::{
    AdamParams, ByteTokenizer, Datum, FinishReason, LossFn, ModelInput, SampleRequest, SamplingClient,
    SamplingParams, ServiceClient, SharedTransport, Tokenizer as _,
};
use tinkex_testkit::FakeServer;

/// What is learned, one token per byte.
const TEXT: &str = "swapped";
const STEPS: usize = 20;

/// Runs the example against the server that the command line asks for; without one, against an embedded one.
pub(crate) async fn run(name: &str, transport: SharedTransport) -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (mut url, mut model) = (None, "Qwen/Qwen3-8B".to_owned());
    while let Some(word) = words.next() {
        match (word.as_str(), words.next()) {
            ("--url", Some(value)) => url = Some(value),
            ("--model", Some(value)) => model = value,
            _ => {
                eprintln!("usage: cargo run -p tinkex-client --example {name} -- [--url URL] [--model NAME]");
                return ExitCode::from(2);
            }
        }
    }
    match Box::pin(show(transport, url, &model)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("That failed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn show(transport: SharedTransport, url: Option<String>, model: &str) -> Result<(), Box<dyn Error>> {
    let embedded = FakeServer::new();
    let socket = embedded.listen().await?;
    let builder = ServiceClient::builder().transport(transport);
    let service = match url {
        Some(url) => builder.from_env().base_url(url).build().await?,
        None => builder.base_url(socket.url()).api_key("tml-example").build().await?,
    };

    let trainer = service.lora_training_client(model).rank(8).seed(1).create().await?;
    let before = recite(&trainer.save_weights_and_get_sampling_client().await?).await?;
    let tokens = ByteTokenizer.encode(TEXT)?;
    let (input, targets) = (&tokens[..tokens.len() - 1], &tokens[1..]);
    let datum = Datum::new(ModelInput::from_ints(input))
        .target_tokens(targets.iter().copied())
        .weights(vec![1.0; targets.len()]);
    for step in 1..=STEPS {
        // Both are on their way before the first is awaited.
        let pass = trainer.forward_backward(vec![datum.clone()], LossFn::CrossEntropy);
        let update = trainer.optim_step(AdamParams::new(0.2));
        let loss = pass.await?.loss().unwrap_or(f64::NAN);
        update.await?;
        if step % 5 == 0 {
            println!("step {step}: loss {loss:.3}");
        }
    }
    let after = recite(&trainer.save_weights_and_get_sampling_client().await?).await?;
    service.close(FinishReason::Success).await?;
    println!("taught {TEXT:?}; recited {before:?} before and {after:?} after");
    Ok(())
}

/// What the model says after the first character.
async fn recite(sampler: &SamplingClient) -> Result<String, Box<dyn Error>> {
    let prompt = ModelInput::from_text(&TEXT[..1], &ByteTokenizer)?;
    let params = SamplingParams::new().max_tokens(u32::try_from(TEXT.len() - 1)?).temperature(0.0);
    let reply = sampler.sample(SampleRequest::new(prompt, params)).await?;
    let tokens = reply.sequences.first().map(|sequence| sequence.tokens.clone()).unwrap_or_default();
    Ok(format!("{}{}", &TEXT[..1], ByteTokenizer.decode(&tokens)?))
}
