//! The third act, with `--metrics` only: a steady load that meets three troubles, one after the other, each with a shape
//! of its own in the metrics. `docs/dashboard.md` reads them.

use std::time::{Duration, Instant};

use tinkex_client::{ModelInput, SampleRequest, SamplingClient, SamplingParams, ServiceClient, Tokenizer};
use tokio::task::JoinSet;

use crate::terminal::{Connection, Failure, Screen};
use crate::trouble::{Embedded, Trouble};

const PROMPT: &str = "A language model ";
/// One sample is called every so often, whatever becomes of those before it.
const EVERY: Duration = Duration::from_millis(100);
/// Four times what the load needs while nothing is wrong, so that a backlog is gone soon.
const IN_FLIGHT: usize = 24;
/// How long it is calm before, between and after the troubles.
const CALM: Duration = Duration::from_secs(9);
/// How long a trouble lasts.
const TROUBLED: Duration = Duration::from_secs(6);

/// Runs the load through the troubles: about a minute.
pub(crate) async fn act(
    service: &ServiceClient,
    connection: &Connection,
    embedded: &Embedded,
    screen: &Screen,
) -> Result<(), Failure> {
    embedded.work_at_leisure();
    let sampler =
        service.sampling_client().base_model(&connection.model).max_in_flight(IN_FLIGHT).create().await?;
    screen.line(&format!(
        "\nTen samples a second, {IN_FLIGHT} in flight at most, and what the metrics show of three troubles:"
    ));
    let begun = now();
    let say = |what: &str| screen.line(&format!("  {:>5.1} s  {what}", begun.elapsed().as_secs_f64()));
    let prompt = ModelInput::from_text(PROMPT, connection.tokenizer.as_ref() as &dyn Tokenizer)?;
    let load = async {
        let mut ticks = tokio::time::interval(EVERY);
        let mut samples = JoinSet::new();
        let troubles = troubles(embedded, say);
        tokio::pin!(troubles);
        let mut seed = 0;
        loop {
            tokio::select! {
                () = &mut troubles => return samples.join_all().await,
                _ = ticks.tick() => {
                    samples.spawn(one(sampler.clone(), prompt.clone(), seed));
                    seed += 1;
                }
            }
        }
    };
    let outcomes = load.await;
    let failures: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    say(&format!("all over: {} samples, {} failed", outcomes.len(), failures.len()));
    match failures.first() {
        None => Ok(()),
        Some(failure) => Err(format!("a sample failed: {failure}").into()),
    }
}

async fn troubles(embedded: &Embedded, say: impl Fn(&str)) {
    say("calm");
    for trouble in Trouble::ALL {
        tokio::time::sleep(CALM).await;
        say(&format!("trouble begins: {trouble}"));
        embedded.begin(trouble, TROUBLED);
        tokio::time::sleep(TROUBLED).await;
        embedded.end(trouble);
        say("trouble ends");
    }
    tokio::time::sleep(CALM).await;
}

async fn one(sampler: SamplingClient, prompt: ModelInput, seed: u64) -> Result<(), tinkex_client::Error> {
    let params = SamplingParams::new().max_tokens(24).seed(seed);
    sampler.sample(SampleRequest::new(prompt, params)).await.map(|_| ())
}

#[allow(clippy::disallowed_methods, reason = "a person watches this program: wall time is what counts")]
fn now() -> Instant {
    Instant::now()
}
