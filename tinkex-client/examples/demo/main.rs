//! A tour of sampling: one sample, then fifty at once through a rate limit and a capacity pause.
//!
//! `cargo xtask demo` runs it against an embedded server. `--url URL` with `TINKER_API_KEY` runs the same program
//! against a real one; `--model NAME` picks the base model.

#![allow(clippy::print_stdout, reason = "this program talks to a person")]

mod arguments;
mod embedded;
mod report;
mod watch;

use std::time::Instant;

use arguments::{Arguments, USAGE};
use report::{Report, Screen};
use tinkex_client::{
    ByteTokenizer, Error, FinishReason, ModelInput, SampleRequest, SamplingClient, SamplingParams,
    ServiceClient, Tokenizer,
};

const FAN_OUT: usize = 50;
/// Samples in flight at once; the rest wait their turn, so that there is something to watch.
const IN_FLIGHT: usize = 16;
const PROMPT: &str = "A language model ";

#[tokio::main]
async fn main() {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) if arguments.help => return println!("{USAGE}"),
        Ok(arguments) => arguments,
        Err(usage) => {
            eprintln!("{usage}");
            std::process::exit(2);
        }
    };
    if let Err(error) = run(&arguments).await {
        eprintln!("\nThe demo failed: {error}");
        std::process::exit(1);
    }
}

async fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let screen = Screen::install();
    let report = Report::install();

    // The server: embedded, or the one that was named.
    let embedded = match &arguments.url {
        None => Some(embedded::start().await?),
        Some(_) => None,
    };
    let builder = ServiceClient::builder();
    let builder = match (&embedded, &arguments.url) {
        (Some(server), _) => builder.base_url(server.url()).api_key("tml-demo"),
        (None, Some(url)) => builder.from_env().base_url(url),
        (None, None) => builder.from_env(),
    };
    let server = match (&embedded, &arguments.url) {
        (Some(server), _) => format!("the embedded server at {}", server.url()),
        (None, url) => url.clone().unwrap_or_default(),
    };
    let service = builder.build().await?;
    let sampler =
        service.sampling_client().base_model(&arguments.model).max_in_flight(IN_FLIGHT).create().await?;
    screen.line(&format!(
        "Connected to {server}:\n  session {}, sampler {} on {}.\n",
        service.session_id().as_deref().unwrap_or("-"),
        sampler.sampling_session_id(),
        sampler.base_model()
    ));

    if embedded.is_none() {
        screen.line(
            "The prompt goes out as one token per byte. A model with another vocabulary reads something",
        );
        screen.line("else, and its answer may be shown as token ids.\n");
    }
    one_sample(&sampler, &screen).await?;
    if let Some(server) = &embedded {
        server.make_trouble();
    }
    fan_out(&service, &sampler, &screen, &report).await?;
    for row in service.inflight() {
        screen.line(&format!("still in flight: {row}"));
    }
    service.close(FinishReason::Success).await?;
    screen.line(&report.table());
    Ok(())
}

/// One sample, printed as text.
async fn one_sample(sampler: &SamplingClient, screen: &Screen) -> Result<(), Error> {
    let prompt = ModelInput::from_ints(ByteTokenizer.encode(PROMPT).unwrap_or_default());
    let params = SamplingParams::new().max_tokens(80).temperature(0.7).seed(7).stop("\n\n");
    let reply = sampler.sample(SampleRequest::new(prompt, params)).await?;
    for sequence in &reply.sequences {
        let text =
            ByteTokenizer.decode(&sequence.tokens).unwrap_or_else(|_| format!("{:?}", sequence.tokens));
        screen.line(&format!(
            "One sample ({} tokens, ended by {}):",
            sequence.tokens.len(),
            sequence.stop_reason
        ));
        screen.line(&format!("{}\n", wrapped(&format!("{PROMPT}\u{2502}{}", text.trim_end()))));
    }
    Ok(())
}

/// The text in lines that fit a narrow terminal, indented.
fn wrapped(text: &str) -> String {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > 74 {
                lines.push(std::mem::take(&mut line));
            } else if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    format!("  {}", lines.join("\n  "))
}

/// Fifty samples at once. All are started before the first is awaited.
async fn fan_out(
    service: &ServiceClient,
    sampler: &SamplingClient,
    screen: &Screen,
    report: &Report,
) -> Result<(), Error> {
    screen.line(&format!("Fanning out {FAN_OUT} samples:"));
    let bar = screen.bar(FAN_OUT);
    let watch = tokio::spawn(watch::run(service.clone(), screen.clone(), bar.clone()));
    let tokens = ByteTokenizer.encode(PROMPT).unwrap_or_default();
    let samples: Vec<_> = (0..FAN_OUT)
        .map(|seed| {
            let params = SamplingParams::new().max_tokens(24).seed(seed as u64);
            let handle = sampler.sample(SampleRequest::new(ModelInput::from_ints(tokens.clone()), params));
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
