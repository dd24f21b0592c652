//! The submission of a training operation.

use tinkex_client::{AdamParams, Error, TrainingClient};
use tinkex_testkit::FakeServer;
use tinkex_testkit::service::{Dialect, Service, TrainingOrder};

use super::faults::*;
use super::stage::{Call, both, service, trainer};
use super::table::rows;

/// A step whose submission meets the fault; at a server that insists on the order of ids, or at one like the production
/// service.
struct Submission<const STRICT: bool>(TrainingClient);

impl<const STRICT: bool> Call for Submission<STRICT> {
    const ROUTE: &'static str = "optim_step";

    fn dialect() -> Dialect {
        let production = Dialect::production();
        let training_order = if STRICT { TrainingOrder::Strict } else { production.training_order };
        Dialect { training_order, ..production }
    }

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
    "Submitting a training operation", "`forward_backward()`, `optim_step()`, `save_state()` and the others, in their \
     turn; played with `optim_step()`. A strict server takes sequence ids in order only and repeats no promise; it is what \
     the numbered 409 is played with.";

    refused: both::<Submission<false>>(&REFUSED, 0.375..=0.51, 1800.0..=1810.0);
    reset: both::<Submission<false>>(&RESET, 0.375..=0.51, 1800.0..=1810.0);
    answer_lost: both::<Submission<false>>(&LOST_ANSWER, 0.375..=0.51, 1800.0..=1810.0);
    answer_lost_at_a_strict_server: async {
        let played = both::<Submission<true>>(&LOST_ANSWER, 0.375..=0.51, 1800.0..=1810.0).await;
        played.called("answer lost, strict server")
    };
    half_a_body: both::<Submission<false>>(&HALF_A_BODY, 0.375..=0.51, 1800.0..=1810.0);
    stall: both::<Submission<false>>(&STALL, 60.375..=60.51, 1860.0..=1930.0);
    hang: both::<Submission<false>>(&HANG, 60.375..=60.51, 1860.0..=1930.0);
    billing_402: both::<Submission<false>>(&BILLING, 1.0..=1.26, 3600.0..=3605.0);
    loop_408: both::<Submission<false>>(&REQUEST_TIMEOUT, 0.375..=0.51, 1800.0..=1810.0);
    conflict_409: both::<Submission<false>>(&CONFLICT, 0.375..=0.51, 1800.0..=1810.0);
    conflict_409_numbered: both::<Submission<true>>(&NUMBERED_CONFLICT, 0.0..=0.01, 0.0..=0.0);
    gone_410: both::<Submission<false>>(&GONE, 0.0..=0.0, 0.0..=0.0);
    throttled_429: both::<Submission<false>>(&THROTTLED, 1.0..=1.26, 10_800.0..=10_800.0);
    throttled_429_with_a_hint: both::<Submission<false>>(&THROTTLED_WITH_HINT, 7.0..=8.01, 10_800.0..=10_800.0);
    server_error_500: both::<Submission<false>>(&SERVER_ERROR, 0.375..=0.51, 1800.0..=1810.0);
    unavailable_503: both::<Submission<false>>(&UNAVAILABLE, 2.0..=2.01, 1800.0..=1810.0);
    not_implemented_501: both::<Submission<false>>(&NOT_IMPLEMENTED, 0.0..=0.0, 0.0..=0.0);
}
