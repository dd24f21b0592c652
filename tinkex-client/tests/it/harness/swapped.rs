//! The transport that the tests run on: in memory, or any other over real sockets, in virtual time all the same.
//!
//! `cargo xtask test --suite transports` runs them over each.

#[path = "../../../examples/hyper_transport/transport.rs"]
mod hyper;
#[path = "../../../examples/ureq_transport/mod.rs"]
mod ureq;

use tinkex_client::SharedTransport;
use tinkex_testkit::FakeServer;

pub(crate) use hyper::HyperTransport;
pub(crate) use ureq::UreqTransport;

/// Names the transport. Not set, it is the in-memory one.
const VARIABLE: &str = "TINKEX_TEST_TRANSPORT";

/// More calls than any test has in flight: one that waited for a thread would wait with the clock stopped.
const UREQ_THREADS: usize = 4096;

fn name() -> String {
    std::env::var(VARIABLE).unwrap_or_default()
}

/// Whether failures of the transport have the testkit's words.
pub(crate) fn is_in_memory() -> bool {
    matches!(name().as_str(), "" | "memory")
}

/// A transport of its own for a client of the server.
pub(crate) fn transport(server: &FakeServer) -> SharedTransport {
    if is_in_memory() {
        return server.transport();
    }
    let over = match name().as_str() {
        "hyper" => server.transport_over(HyperTransport::new()),
        "ureq" => server.transport_over(UreqTransport::new(UREQ_THREADS)),
        #[cfg(feature = "reqwest")]
        "reqwest" => server.transport_over(tinkex_client::ReqwestTransport::new().unwrap()),
        // Both directions: a transport as a service, and that as a transport again.
        #[cfg(feature = "tower")]
        "tower" => {
            let below = SharedTransport::new(HyperTransport::new());
            server.transport_over(tinkex_client::TowerTransport::new(tinkex_client::TransportService::new(
                below,
            )))
        }
        other => panic!("{VARIABLE} names no transport: {other}"),
    };
    over.expect("there is a socket left")
}
