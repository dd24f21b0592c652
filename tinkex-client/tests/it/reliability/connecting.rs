//! Making the service: `build()` fetches the flags and creates the session.

use tinkex_client::Error;
use tinkex_testkit::FakeServer;

use super::faults::*;
use super::stage::{Call, both, builder};
use super::table::rows;

/// A `build()` whose last request, the creation of the session, meets the fault.
struct Build(FakeServer);

impl Call for Build {
    const ROUTE: &'static str = "create_session";

    async fn prepare(server: &FakeServer) -> Self {
        Self(server.clone())
    }

    async fn make(&self) -> Result<(), Error> {
        builder(&self.0).build().await.map(drop)
    }
}

rows! {
    "Making the service", "`ServiceClient::builder()..build()`. The fault meets `create_session`; it is the same for \
     the two requests before it.";

    refused: both::<Build>(&REFUSED, 0.375..=0.5, 49.0..=65.5);
    reset: both::<Build>(&RESET, 0.375..=0.5, 49.0..=65.5);
    answer_lost: both::<Build>(&LOST_ANSWER, 0.375..=0.5, 49.0..=65.5);
    half_a_body: both::<Build>(&HALF_A_BODY, 0.375..=0.5, 49.0..=65.5);
    stall: both::<Build>(&STALL, 60.375..=60.5, 360.0..=380.0);
    hang: both::<Build>(&HANG, 60.375..=60.5, 360.0..=380.0);
    billing_402: both::<Build>(&BILLING, 5.0..=5.0, 3600.0..=3605.0);
    loop_408: both::<Build>(&REQUEST_TIMEOUT, 0.375..=0.5, 49.0..=65.5);
    conflict_409: both::<Build>(&CONFLICT, 0.375..=0.5, 49.0..=65.5);
    gone_410: both::<Build>(&GONE, 0.0..=0.0, 0.0..=0.0);
    throttled_429: both::<Build>(&THROTTLED, 0.375..=0.5, 49.0..=65.5);
    throttled_429_with_a_hint: both::<Build>(&THROTTLED_WITH_HINT, 7.0..=7.0, 70.0..=70.0);
    server_error_500: both::<Build>(&SERVER_ERROR, 0.375..=0.5, 49.0..=65.5);
    unavailable_503: both::<Build>(&UNAVAILABLE, 2.0..=2.0, 20.0..=20.0);
    not_implemented_501: both::<Build>(&NOT_IMPLEMENTED, 0.0..=0.0, 0.0..=0.0);
}
