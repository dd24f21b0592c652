//! Many samples at once: backoff windows, isolation, dispatch limits, and sequence ids without gaps.

mod fan_out;
mod isolation;
mod limits;
mod sequence_ids;
mod windows;

use futures_util::future::join_all;
use tinkex_client::{RetryPolicy, SampleHandle, SamplingClient, ServiceClient};
use tinkex_testkit::FakeServer;
use tokio::time::Instant;

use crate::harness::{MODEL, arrivals, request};

/// All submission slots and submission bytes.
const AT_REST: Option<(usize, i64)> = Some((400, 10_485_760));

fn fan_out(sampler: &SamplingClient, samples: usize) -> Vec<SampleHandle> {
    (0..samples).map(|n| sampler.sample(request(&[1, i32::try_from(n).unwrap()]))).collect()
}

async fn all_well(handles: Vec<SampleHandle>) {
    for result in join_all(handles).await {
        result.unwrap();
    }
}

fn asamples(server: &FakeServer, start: Instant) -> Vec<f64> {
    arrivals(server, "asample", start)
}

async fn hasty(client: &ServiceClient) -> SamplingClient {
    let builder = client.sampling_client().base_model(MODEL).retry_policy(RetryPolicy::none());
    builder.create().await.unwrap()
}
