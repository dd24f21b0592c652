//! The poll for the result of a training operation.

use tinkex_client::{AdamParams, Error, TrainingClient};
use tinkex_testkit::FakeServer;
use tinkex_testkit::service::Service;

use super::faults::*;
use super::stage::{Call, both, service, trainer};
use super::table::rows;

/// A step whose polls meet the fault.
struct Poll(TrainingClient);

impl Call for Poll {
    const ROUTE: &'static str = "retrieve_future";
    const ONE_IDENTITY: bool = false;

    async fn prepare(server: &FakeServer) -> Self {
        Self(trainer(&service(server).await).await)
    }

    async fn make(&self) -> Result<(), Error> {
        self.0.optim_step(AdamParams::new(1e-3)).await.map(drop)
    }

    fn check_at_rest(&self, service: &Service) {
        let run = service.run(self.0.model_id()).unwrap();
        assert_eq!((run.gaps(), run.waiting.len()), (vec![], 0));
    }
}

rows! {
    "Waiting for a training operation", "After its acceptance: polls of `retrieve_future`. Attempts are polls. \
     Operations called later are not held up.";

    refused: both::<Poll>(&REFUSED, 1.0..=1.0, 1800.0..=1830.0);
    reset: both::<Poll>(&RESET, 1.0..=1.0, 1800.0..=1830.0);
    half_a_body: both::<Poll>(&HALF_A_BODY, 1.0..=1.01, 1800.0..=1830.0);
    stall: both::<Poll>(&STALL, 45.0..=45.01, 10_800.0..=10_800.0);
    hang: both::<Poll>(&HANG, 45.0..=45.01, 10_800.0..=10_800.0);
    billing_402: both::<Poll>(&BILLING, 5.0..=5.0, 3600.0..=3605.0);
    loop_408: both::<Poll>(&REQUEST_TIMEOUT, 0.0375..=0.051, 10_800.0..=10_800.0);
    conflict_409: both::<Poll>(&CONFLICT, 0.0..=0.0, 0.0..=0.0);
    gone_410: both::<Poll>(&GONE, 0.0..=0.0, 0.0..=0.0);
    throttled_429: both::<Poll>(&THROTTLED, 1.0..=1.0, 10_800.0..=10_800.0);
    throttled_429_with_a_hint: both::<Poll>(&THROTTLED_WITH_HINT, 7.0..=7.0, 10_800.0..=10_800.0);
    server_error_500: both::<Poll>(&SERVER_ERROR, 0.375..=0.51, 1800.0..=1810.0);
    unavailable_503: both::<Poll>(&UNAVAILABLE, 2.0..=2.01, 1800.0..=1810.0);
    not_implemented_501: both::<Poll>(&NOT_IMPLEMENTED, 0.0..=0.0, 0.0..=0.0);
}
