//! A steady load over the in-memory server that meets the three troubles, each for a short while.

use std::time::Duration;

use tinkex_client::{
    AdamParams, Datum, FinishReason, LossFn, ModelInput, QueueState, SampleRequest, SamplingParams,
    ServiceClient,
};
use tinkex_dashboard::time;
use tinkex_testkit::service::Service;
use tinkex_testkit::{Chaos, ChaosFault, FakeServer};
use tokio::task::JoinSet;

const MODEL: &str = "Qwen/Qwen3-8B";
const EVERY: Duration = Duration::from_millis(50);
const CALM: Duration = Duration::from_millis(1500);
const TROUBLED: Duration = Duration::from_millis(2500);

/// A trouble, from its beginning to the end of what it left behind, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    pub(crate) begin: f64,
    pub(crate) end: f64,
}

/// What happened, by the count of the server and of the callers.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) rate_limit: Phase,
    pub(crate) capacity_pause: Phase,
    pub(crate) retry_storm: Phase,
    /// Samples, all of which succeeded.
    pub(crate) samples: usize,
    pub(crate) steps: usize,
    /// Requests for samples that arrived at the server.
    pub(crate) submissions: u64,
    /// Faults that the server made.
    pub(crate) faults: usize,
}

/// Runs the load to its end: about fifteen seconds.
pub(crate) async fn run() -> Account {
    let behind = Service::default();
    behind.set_latency(Duration::from_millis(200));
    let server = FakeServer::with(behind.clone());
    let client = ServiceClient::builder()
        .api_key("tml-test")
        .base_url(server.url())
        .transport(server.transport())
        .build()
        .await
        .unwrap();
    let steps = train(&client).await;
    let sampler = client.sampling_client().base_model(MODEL).max_in_flight(32).create().await.unwrap();
    let mut samples = JoinSet::new();
    let mut ticks = tokio::time::interval(EVERY);
    let troubles = troubles(&server, &behind);
    tokio::pin!(troubles);
    let [rate_limit, capacity_pause, retry_storm] = loop {
        tokio::select! {
            phases = &mut troubles => break phases,
            _ = ticks.tick() => {
                let params = SamplingParams::new().max_tokens(4).seed(1);
                let handle = sampler.sample(SampleRequest::new(ModelInput::from_ints([1, 2, 3]), params));
                samples.spawn(async move { handle.await.unwrap() });
            }
        }
    };
    let samples = samples.join_all().await.len();
    client.close(FinishReason::Success).await.unwrap();
    let (submissions, faults) = (server.count("asample"), server.chaos_strikes().len());
    Account { rate_limit, capacity_pause, retry_storm, samples, steps, submissions, faults }
}

async fn train(client: &ServiceClient) -> usize {
    const STEPS: usize = 3;
    let trainer = client.lora_training_client(MODEL).rank(4).seed(1).create().await.unwrap();
    for _ in 0..STEPS {
        let datum = Datum::new(vec![1, 2, 3]).target_tokens([2, 3, 4]).weights([1.0; 3]);
        let pass = trainer.forward_backward(vec![datum], LossFn::CrossEntropy);
        trainer.optim_step(AdamParams::new(1e-3)).await.unwrap();
        pass.await.unwrap();
    }
    STEPS
}

async fn troubles(server: &FakeServer, behind: &Service) -> [Phase; 3] {
    let phase = async |begin: &dyn Fn(), end: &dyn Fn()| {
        tokio::time::sleep(CALM).await;
        let begun = time::now();
        begin();
        tokio::time::sleep(TROUBLED).await;
        end();
        // What waits goes on, and Prometheus looks.
        tokio::time::sleep(CALM).await;
        Phase { begin: begun, end: time::now() }
    };
    let storm = Chaos::seeded(5)
        .rate(0.7)
        .on(["asample", "retrieve_future"])
        .faults([ChaosFault::Unavailable, ChaosFault::Reset]);
    [
        phase(&|| behind.limit_inflight(0, Duration::from_millis(500)), &|| behind.lift_limit()).await,
        phase(&|| behind.pause(QueueState::PausedCapacity, Some("all workers are busy"), None), &|| {
            behind.resume()
        })
        .await,
        phase(&|| server.chaos(storm.clone()), &|| server.end_chaos()).await,
    ]
}
