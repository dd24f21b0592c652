//! The poll for the result of a sample.

use tinkex_client::{Error, SamplingClient, ServiceClient};
use tinkex_testkit::FakeServer;
use tinkex_testkit::service::Service;

use super::faults::*;
use super::stage::{Call, both, sampler, service};
use super::table::rows;
use crate::harness::request;

/// A sample whose polls meet the fault.
struct Poll {
    client: ServiceClient,
    sampler: SamplingClient,
}

impl Call for Poll {
    const ROUTE: &'static str = "retrieve_future";
    const ONE_IDENTITY: bool = false;

    async fn prepare(server: &FakeServer) -> Self {
        let client = service(server).await;
        let sampler = sampler(&client).await;
        Self { client, sampler }
    }

    async fn make(&self) -> Result<(), Error> {
        self.sampler.sample(request(&[1, 2, 3])).await.map(drop)
    }

    fn check_at_rest(&self, _: &Service) {
        assert!(self.client.inflight().is_empty());
        assert_eq!(self.client.dispatch_available(), Some((400, 10_485_760)));
    }
}

rows! {
    "Waiting for a sample", "After its acceptance: polls of `retrieve_future`. Attempts are polls.";

    refused: both::<Poll>(&REFUSED, 1.0..=1.0, 1800.0..=1830.0);
    reset: both::<Poll>(&RESET, 1.0..=1.0, 1800.0..=1830.0);
    half_a_body: both::<Poll>(&HALF_A_BODY, 1.0..=1.01, 1800.0..=1830.0);
    stall: both::<Poll>(&STALL, 45.0..=45.01, 7200.0..=7200.01);
    hang: both::<Poll>(&HANG, 45.0..=45.01, 7200.0..=7200.01);
    billing_402: both::<Poll>(&BILLING, 5.0..=5.0, 3600.0..=3605.0);
    loop_408: both::<Poll>(&REQUEST_TIMEOUT, 0.0375..=0.051, 7200.0..=7200.01);
    conflict_409: both::<Poll>(&CONFLICT, 0.0..=0.0, 0.0..=0.0);
    gone_410: both::<Poll>(&GONE, 0.375..=0.51, 40.0..=70.0);
    throttled_429: both::<Poll>(&THROTTLED, 1.0..=1.0, 7200.0..=7200.01);
    throttled_429_with_a_hint: both::<Poll>(&THROTTLED_WITH_HINT, 7.0..=7.0, 7200.0..=7200.01);
    server_error_500: both::<Poll>(&SERVER_ERROR, 0.375..=0.51, 1800.0..=1810.0);
    unavailable_503: both::<Poll>(&UNAVAILABLE, 2.0..=2.01, 1800.0..=1810.0);
    not_implemented_501: both::<Poll>(&NOT_IMPLEMENTED, 0.0..=0.0, 0.0..=0.0);
}
