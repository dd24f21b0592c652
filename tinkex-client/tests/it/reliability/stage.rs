//! The stage on which a fault is played against a call, in virtual time.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use tinkex_client::{Error, SamplingClient, ServiceClient, ServiceClientBuilder, TrainingClient};
use tinkex_testkit::FakeServer;
use tinkex_testkit::service::{Dialect, Service};
use tokio::time::Instant;
use tracing::Level;

use super::faults::{self, Fault};
use super::seen::{Ending, Failure, Observed, Told};
use super::table::Played;
use crate::harness::{self, MODEL};
use crate::log_capture::LogCapture;

/// What has no end of its own is watched for this long.
pub(super) const WATCHED: Duration = Duration::from_secs(3 * 3600);

/// A kind of call, and where its fault is played.
pub(super) trait Call: Sized {
    const ROUTE: &'static str;

    /// Whether all attempts of a call are one request, under one idempotency key.
    const ONE_IDENTITY: bool = true;

    fn dialect() -> Dialect {
        Dialect::production()
    }

    /// Everything that comes before the call.
    async fn prepare(server: &FakeServer) -> Self;

    async fn make(&self) -> Result<(), Error>;

    /// Asserts that nothing is left of what has ended.
    fn check_at_rest(&self, _service: &Service) {}
}

/// Plays a fault that passes after one request, and one that lasts.
pub(super) async fn both<C: Call>(
    fault: &'static Fault,
    once: RangeInclusive<f64>,
    lasting: RangeInclusive<f64>,
) -> Played {
    let passed = play::<C>(fault, false).await.within(once, &format!("{} once", fault.name));
    let lasted = play::<C>(fault, true).await.within(lasting, &format!("{} for good", fault.name));
    Played { fault: fault.name.to_owned(), once: Some(passed), lasting: Some(lasted) }
}

async fn play<C: Call>(fault: &Fault, lasts: bool) -> Observed {
    let name = fault.name;
    // What is drawn from the process's own generator (where waiters leave a window) is the same in each run.
    fastrand::seed(7);
    let service = Service::new(C::dialect());
    let server = FakeServer::with(service.clone());
    let call = C::prepare(&server).await;
    let before = arrived::<C>(&server).len();
    let script = server.script(C::ROUTE, [(fault.step)()]);
    if lasts {
        script.then_repeat_last()
    } else {
        script.then_behave()
    };

    let observed = observe(|| arrived::<C>(&server).len() - before, call.make()).await;

    if let Ending::Failure(failure) = &observed.ending {
        assert!(
            failure.message.contains("after ") || failure.message.contains("nothing was sent"),
            "{failure:?}"
        );
        assert!(!failure.message.contains("tml-test"), "{failure:?}");
    }
    server.assert_idempotency_pattern(C::ROUTE);
    if C::ONE_IDENTITY && !std::ptr::eq(fault, &faults::NUMBERED_CONFLICT) {
        let keys: BTreeSet<_> = server.requests(C::ROUTE)[before..]
            .iter()
            .map(|r| r.idempotency_key().map(str::to_owned))
            .collect();
        assert_eq!(keys.len(), 1, "{name}: the attempts of one call are one request");
    }
    // Whatever happened, the client is of use once the fault is gone.
    script.then_behave();
    let again = tokio::time::timeout(WATCHED, call.make()).await;
    assert!(matches!(again, Ok(Ok(()))), "{name}, lasting {lasts}: afterwards {again:?}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    call.check_at_rest(&service);
    observed
}

fn arrived<C: Call>(server: &FakeServer) -> Vec<std::sync::Arc<tinkex_testkit::Received>> {
    server.requests(C::ROUTE)
}

/// A builder over the in-memory transport, whatever transport other tests are told to run on: the document quotes its
/// words.
pub(super) fn builder(server: &FakeServer) -> ServiceClientBuilder {
    harness::builder(server).transport(server.transport())
}

/// A connected service client.
pub(super) async fn service(server: &FakeServer) -> ServiceClient {
    builder(server).build().await.unwrap()
}

/// A sampling client of it.
pub(super) async fn sampler(client: &ServiceClient) -> SamplingClient {
    client.sampling_client().base_model(MODEL).create().await.unwrap()
}

/// A training client of it.
pub(super) async fn trainer(client: &ServiceClient) -> TrainingClient {
    client.lora_training_client(MODEL).rank(4).seed(7).create().await.unwrap()
}

/// Watches one call.
pub(super) async fn observe(
    attempts: impl Fn() -> usize,
    call: impl Future<Output = Result<(), Error>>,
) -> Observed {
    let (log, _guard) = LogCapture::start();
    let start = Instant::now();
    let ending = match tokio::time::timeout(WATCHED, call).await {
        Ok(Ok(())) => Ending::Success,
        Ok(Err(error)) => Ending::Failure(Failure::from(&error)),
        Err(_) => Ending::Waiting,
    };
    let warning = log.messages(Level::WARN).pop();
    Observed { ending, took: start.elapsed(), attempts: attempts(), told: Told::of(&log.lines()), warning }
}

/// Runs a play on a runtime of its own, so that nothing of one reaches another.
pub(super) fn on_a_runtime<T>(play: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(play)
}
