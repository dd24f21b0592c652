//! The embedded server, and the trouble it makes.

use std::time::Duration;

use tinkex_client::QueueState;
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, Step};

/// A server that behaves like the service, and misbehaves like it.
pub(crate) struct Embedded {
    pub(crate) server: FakeServer,
    service: Service,
}

/// How long the capacity pause lasts.
const PAUSE: Duration = Duration::from_secs(2);

impl Embedded {
    pub(crate) fn new() -> Self {
        let service = Service::default();
        service.set_latency(Duration::from_millis(150));
        Self { server: FakeServer::with(service.clone()), service }
    }

    /// From now on: ten samples are accepted, then one is told to come back in 1.2 s; one more meets a 503; and the
    /// service runs short of capacity for a while.
    pub(crate) fn make_trouble(&self) {
        let limited =
            Step::status(429).header("retry-after-ms", "1200").body(r#"{"detail":"too many requests"}"#);
        let broken = Step::status(503).body(r#"{"detail":"restarting"}"#);
        self.server
            .script("asample", [Step::behave().repeat(10), limited, Step::behave().repeat(5), broken])
            .then_behave();
        self.service.pause(QueueState::PausedCapacity, Some("all workers are busy"), Some(PAUSE));
    }

    /// From now on everything takes a moment only, just long enough that there is something to watch.
    pub(crate) fn calm_down(&self) {
        self.service.set_latency(Duration::from_millis(40));
    }
}
