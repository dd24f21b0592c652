//! Traces: a training step and three samples as an OpenTelemetry collector shows them.
//!
//! `cargo run -p tinkex-client --example traces` needs no key: it works on an embedded server. `--url URL`, with the key in
//! `TINKER_API_KEY`, works on a real one; `--model NAME` picks the base model. `OTEL_EXPORTER_OTLP_ENDPOINT` names the
//! collector. How spans are exported is in `export.rs`, and what is traced in `work.rs`.

#![allow(clippy::print_stdout, reason = "this program talks to a person")]

mod export;
#[allow(dead_code, unused_imports, reason = "this example has no bar and no curve")]
#[path = "../terminal/mod.rs"]
mod terminal;
mod work;

use std::process::ExitCode;

use export::Export;
use terminal::{Connection, Failure, Screen};
use tinkex_client::FinishReason;
use work::Embedded;

#[tokio::main]
async fn main() -> ExitCode {
    let named = std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty());
    let endpoint = named.as_deref().unwrap_or(export::ENDPOINT);
    let embedded = Embedded::new();
    match Export::to(endpoint) {
        Ok(export) => {
            // Before anything is traced; the log of the other examples stays off.
            let _ = tracing::subscriber::set_global_default(export.subscriber());
            let call = "cargo run -p tinkex-client --example traces --";
            let server = embedded.server.clone();
            terminal::run(call, &server, async |connection, screen| {
                traced(connection, screen, &embedded).await?;
                // The exporter's thread is waited for.
                tokio::task::spawn_blocking(|| export.finish()).await??;
                screen.line(&format!("The spans are at the collector at {endpoint}."));
                Ok(())
            })
            .await
        }
        Err(problem) => {
            eprintln!("{endpoint} cannot be exported to: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn traced(connection: &Connection, screen: &Screen, embedded: &Embedded) -> Result<(), Failure> {
    let service = connection.builder().trace_context(export::propagate).build().await?;
    let trouble = connection.is_embedded().then_some(embedded);
    let failure = work::run(&service, &connection.model, connection.tokenizer.as_ref(), trouble).await?;
    service.close(FinishReason::Success).await?;
    match failure {
        Some(error) => {
            screen.line(&format!("A training step and three samples, the last of which failed: {error}."))
        }
        None => screen.line("A training step and three samples."),
    }
    Ok(())
}
