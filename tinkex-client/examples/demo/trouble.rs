//! The embedded server, and the trouble it makes.

use std::io;
use std::time::Duration;

use tinkex_client::QueueState;
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, SocketServer, Step};

/// A server on a local socket that behaves like the service.
pub(crate) struct Embedded {
    server: FakeServer,
    service: Service,
    socket: SocketServer,
}

/// How long the capacity pause lasts.
const PAUSE: Duration = Duration::from_secs(2);

pub(crate) async fn start() -> io::Result<Embedded> {
    let service = Service::default();
    service.set_latency(Duration::from_millis(150));
    let server = FakeServer::with(service.clone());
    let socket = server.listen().await?;
    Ok(Embedded { server, service, socket })
}

impl Embedded {
    pub(crate) fn url(&self) -> String {
        self.socket.url()
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
}
