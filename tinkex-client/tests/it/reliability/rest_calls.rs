//! A REST call, which needs no session and changes nothing.

use tinkex_client::{Error, ServiceClient};
use tinkex_testkit::FakeServer;

use super::faults::*;
use super::stage::{Call, both, builder};
use super::table::rows;

struct Capabilities(ServiceClient);

impl Call for Capabilities {
    const ROUTE: &'static str = "get_server_capabilities";

    async fn prepare(server: &FakeServer) -> Self {
        Self(builder(server).connect_lazily().build().await.unwrap())
    }

    async fn make(&self) -> Result<(), Error> {
        self.0.server_capabilities().await.map(drop)
    }
}

rows! {
    "REST calls", "`server_capabilities()`, `rest_client().health()`, `get_info()`, `copy_weights()`; played with the \
     first.";

    refused: both::<Capabilities>(&REFUSED, 0.375..=0.5, 49.0..=65.5);
    reset: both::<Capabilities>(&RESET, 0.375..=0.5, 49.0..=65.5);
    half_a_body: both::<Capabilities>(&HALF_A_BODY, 0.375..=0.5, 49.0..=65.5);
    stall: both::<Capabilities>(&STALL, 60.375..=60.5, 360.0..=380.0);
    hang: both::<Capabilities>(&HANG, 60.375..=60.5, 360.0..=380.0);
    billing_402: both::<Capabilities>(&BILLING, 5.0..=5.0, 3600.0..=3605.0);
    loop_408: both::<Capabilities>(&REQUEST_TIMEOUT, 0.375..=0.5, 49.0..=65.5);
    conflict_409: both::<Capabilities>(&CONFLICT, 0.375..=0.5, 49.0..=65.5);
    gone_410: both::<Capabilities>(&GONE, 0.0..=0.0, 0.0..=0.0);
    throttled_429: both::<Capabilities>(&THROTTLED, 0.375..=0.5, 49.0..=65.5);
    throttled_429_with_a_hint: both::<Capabilities>(&THROTTLED_WITH_HINT, 7.0..=7.0, 70.0..=70.0);
    server_error_500: both::<Capabilities>(&SERVER_ERROR, 0.375..=0.5, 49.0..=65.5);
    unavailable_503: both::<Capabilities>(&UNAVAILABLE, 2.0..=2.0, 20.0..=20.0);
    not_implemented_501: both::<Capabilities>(&NOT_IMPLEMENTED, 0.0..=0.0, 0.0..=0.0);
}
