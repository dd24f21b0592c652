//! The submission of a sample.

use tinkex_client::{Error, SamplingClient, ServiceClient};
use tinkex_testkit::FakeServer;
use tinkex_testkit::service::Service;

use super::faults::*;
use super::stage::{Call, both, sampler, service};
use super::table::rows;
use crate::harness::request;

/// A sample whose submission meets the fault.
struct Submission {
    client: ServiceClient,
    sampler: SamplingClient,
}

impl Call for Submission {
    const ROUTE: &'static str = "asample";

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
    "Submitting a sample", "`sample()`, `compute_logprobs()`: until the server has accepted the request.";

    refused: both::<Submission>(&REFUSED, 0.375..=0.51, 1800.0..=1810.0);
    reset: both::<Submission>(&RESET, 0.375..=0.51, 1800.0..=1810.0);
    answer_lost: both::<Submission>(&LOST_ANSWER, 0.375..=0.51, 1800.0..=1810.0);
    half_a_body: both::<Submission>(&HALF_A_BODY, 0.375..=0.51, 1800.0..=1810.0);
    stall: both::<Submission>(&STALL, 60.375..=60.51, 1860.0..=1930.0);
    hang: both::<Submission>(&HANG, 60.375..=60.51, 1860.0..=1930.0);
    billing_402: both::<Submission>(&BILLING, 1.0..=1.26, 3600.0..=3605.0);
    loop_408: both::<Submission>(&REQUEST_TIMEOUT, 0.375..=0.51, 1800.0..=1810.0);
    conflict_409: both::<Submission>(&CONFLICT, 0.375..=0.51, 1800.0..=1810.0);
    conflict_409_numbered: both::<Submission>(&NUMBERED_CONFLICT, 0.0..=0.0, 0.0..=0.0);
    gone_410: both::<Submission>(&GONE, 0.0..=0.0, 0.0..=0.0);
    throttled_429: both::<Submission>(&THROTTLED, 1.0..=1.26, 7200.0..=7200.01);
    throttled_429_with_a_hint: both::<Submission>(&THROTTLED_WITH_HINT, 7.0..=8.01, 7200.0..=7200.01);
    server_error_500: both::<Submission>(&SERVER_ERROR, 0.375..=0.51, 1800.0..=1810.0);
    unavailable_503: both::<Submission>(&UNAVAILABLE, 2.0..=2.01, 1800.0..=1810.0);
    not_implemented_501: both::<Submission>(&NOT_IMPLEMENTED, 0.0..=0.0, 0.0..=0.0);
}
