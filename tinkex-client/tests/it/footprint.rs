//! What a sample takes of this process: allocations while it runs, memory while it waits. Counted, so that the bounds
//! hold on any machine; they leave room for builds without optimisation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use tinkex_client::{SamplingClient, ServiceClient, ServiceClientBuilder};
use tinkex_http::{Body, Transport, TransportError};
use tokio::runtime::Runtime;

use crate::harness::{self, MODEL};

/// Samples at once.
const SAMPLES: usize = 256;

/// A server that takes no memory of its own. It answers at once, or holds every wait for a result for good.
#[derive(Clone)]
struct Canned {
    announces: bool,
    holds: bool,
    /// Samples accepted, and results asked for.
    accepted: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
}

impl Canned {
    fn new(announces: bool, holds: bool) -> Self {
        Self { announces, holds, accepted: Arc::default(), asked: Arc::default() }
    }

    /// How many samples wait for their results.
    fn waiting(&self) -> usize {
        if self.announces { &self.accepted } else { &self.asked }.load(Ordering::Relaxed)
    }
}

impl Transport for Canned {
    async fn call(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        let route = request.uri().path().trim_start_matches("/api/v1/").to_owned();
        drop(request);
        let answer = match route.as_str() {
            "client/config" if self.announces => r#"{"sample_use_retrieve_futures": true}"#,
            "create_session" => r#"{"session_id": "s"}"#,
            "create_sampling_session" => r#"{"sampling_session_id": "s:0"}"#,
            "asample" => {
                self.accepted.fetch_add(1, Ordering::Relaxed);
                r#"{"request_id": "r", "sample_sequence_ids": ["q"]}"#
            }
            "retrieve_future" | "retrieve_futures" => {
                self.asked.fetch_add(1, Ordering::Relaxed);
                if self.holds {
                    std::future::pending::<()>().await;
                }
                r#"{"sequences": [{"tokens": [1], "logprobs": [0.5], "stop_reason": "stop"}]}"#
            }
            _ => "{}",
        };
        Ok(http::Response::new(Body::full(answer)))
    }
}

fn sampler(server: &Canned) -> (Runtime, ServiceClient, SamplingClient) {
    sampler_of(server, |builder| builder)
}

fn sampler_of(
    server: &Canned,
    with: impl FnOnce(ServiceClientBuilder) -> ServiceClientBuilder,
) -> (Runtime, ServiceClient, SamplingClient) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (service, sampler) = runtime.block_on(async {
        let service = ServiceClient::builder()
            .api_key("tml-footprint")
            .base_url("http://canned")
            .transport(server.clone());
        let service = with(service).build().await.unwrap();
        let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
        (service, sampler)
    });
    (runtime, service, sampler)
}

/// Issue 4: a sample in flight takes at most 12 KiB beyond its prompt. Most of it belongs to the connection where there
/// is one for each sample; this is the client's own share.
#[test]
fn a_sample_that_waits_takes_little_memory() {
    const LIMIT: usize = 9 * 1024;
    for announces in [false, true] {
        let server = Canned::new(announces, true);
        let (runtime, _service, sampler) = sampler(&server);
        let mut handles = Vec::with_capacity(SAMPLES);
        let counted = allocation_counter::measure(|| {
            runtime.block_on(async {
                handles.extend((0..SAMPLES).map(|_| sampler.sample(harness::request(&[1]))));
                while server.waiting() < SAMPLES {
                    tokio::task::yield_now().await;
                }
                // Until the acceptance of the last one has been read.
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            });
        });
        let each = usize::try_from(counted.bytes_current).unwrap() / SAMPLES;
        assert!((500..=LIMIT).contains(&each), "announced: {announces}: {each} bytes");
    }
}

/// What a sample allocates is most of what it costs besides its bytes.
#[test]
fn a_sample_allocates_little() {
    const LIMIT: u64 = 80;
    let server = Canned::new(false, false);
    let (runtime, _service, sampler) = sampler(&server);
    let run = || {
        runtime.block_on(async {
            let samples = (0..SAMPLES).map(|_| sampler.sample(harness::request(&[1])));
            assert!(join_all(samples).await.iter().all(Result::is_ok));
        });
    };
    // Tables grow once, and metrics and addresses are made with their first use.
    run();
    let each = allocation_counter::measure(run).count_total / SAMPLES as u64;
    assert!((20..=LIMIT).contains(&each), "{each} allocations");
}

/// PROTOCOL 20: telemetry, which tells of failures, costs a sample that goes well nothing.
#[test]
fn telemetry_allocates_nothing_for_a_sample() {
    let count = |with: fn(ServiceClientBuilder) -> ServiceClientBuilder| {
        let (runtime, _service, sampler) = sampler_of(&Canned::new(false, false), with);
        let run = || {
            runtime.block_on(async {
                let samples = (0..SAMPLES).map(|_| sampler.sample(harness::request(&[1])));
                assert!(join_all(samples).await.iter().all(Result::is_ok));
            });
        };
        run();
        allocation_counter::measure(run).count_total
    };
    let (on, off) = (count(|builder| builder), count(ServiceClientBuilder::without_telemetry));
    assert!(on.abs_diff(off) < SAMPLES as u64 / 4, "{on} allocations with it, {off} without");
}
