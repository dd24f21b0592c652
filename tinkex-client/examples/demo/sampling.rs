//! The first act: one sample, then fifty at once.

use std::time::Instant;

use tinkex_client::{ModelInput, SampleRequest, SamplingClient, SamplingParams, ServiceClient, Tokenizer};

use crate::report::Report;
use crate::terminal::{Failure, Screen};
use crate::watch;
use crate::wrapped::wrapped;

const FAN_OUT: usize = 50;
const PROMPT: &str = "A language model ";

/// One sample, printed as text.
pub(crate) async fn one(
    sampler: &SamplingClient,
    tokenizer: &dyn Tokenizer,
    screen: &Screen,
) -> Result<(), Failure> {
    let prompt = ModelInput::from_text(PROMPT, tokenizer)?;
    let params = SamplingParams::new().max_tokens(80).temperature(0.7).seed(7).stop("\n\n");
    let reply = sampler.sample(SampleRequest::new(prompt, params)).await?;
    for sequence in &reply.sequences {
        let text = tokenizer.decode(&sequence.tokens).unwrap_or_else(|_| format!("{:?}", sequence.tokens));
        screen.line(&format!(
            "One sample ({} tokens, ended by {}):",
            sequence.tokens.len(),
            sequence.stop_reason
        ));
        screen.line(&format!("{}\n", wrapped(&format!("{PROMPT}\u{2502}{}", text.trim_end()))));
    }
    Ok(())
}

/// Fifty samples at once. All are started before the first is awaited.
pub(crate) async fn fan_out(
    service: &ServiceClient,
    sampler: &SamplingClient,
    tokenizer: &dyn Tokenizer,
    screen: &Screen,
    report: &Report,
) -> Result<(), Failure> {
    screen.line(&format!("Fanning out {FAN_OUT} samples:"));
    let bar = screen.bar(FAN_OUT);
    let watch = tokio::spawn(watch::run(service.clone(), screen.clone(), bar.clone()));
    let prompt = ModelInput::from_text(PROMPT, tokenizer)?;
    let samples: Vec<_> = (0..FAN_OUT)
        .map(|seed| {
            let params = SamplingParams::new().max_tokens(24).seed(seed as u64);
            let handle = sampler.sample(SampleRequest::new(prompt.clone(), params));
            let (bar, report, begun) = (bar.clone(), report.clone(), now());
            tokio::spawn(async move {
                let result = handle.await;
                report.sample(
                    now().duration_since(begun),
                    result.as_ref().map_or(0, |r| r.sequences[0].tokens.len()),
                );
                bar.inc(1);
                result
            })
        })
        .collect();
    for sample in samples {
        match sample.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => screen.line(&format!("  a sample failed: {error}")),
            Err(error) => screen.line(&format!("  a sample was lost: {error}")),
        }
    }
    watch.abort();
    bar.finish_and_clear();
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "a person watches this program: wall time is what counts")]
fn now() -> Instant {
    Instant::now()
}
