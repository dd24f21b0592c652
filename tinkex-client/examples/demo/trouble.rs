//! The embedded server, and the trouble it makes.

use std::fmt;
use std::time::Duration;

use tinkex_client::QueueState;
use tinkex_testkit::service::Service;
use tinkex_testkit::{Chaos, ChaosFault, FakeServer, Step};

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

    /// From now on everything takes a moment only, just long enough that there is something to watch: for a person, or
    /// for somebody who looks once a second.
    pub(crate) fn calm_down(&self, is_measured: bool) {
        self.service.set_latency(Duration::from_millis(if is_measured { 400 } else { 40 }));
    }

    /// From now on a sample takes as long as it may in a real service, more or less, and every request on its way.
    pub(crate) fn work_at_leisure(&self) {
        self.server.latency(Duration::from_millis(50));
        self.service.set_latency(Duration::from_millis(500));
    }

    /// Begins a trouble, which lasts until its end, and `length` where the service needs to know.
    pub(crate) fn begin(&self, trouble: Trouble, length: Duration) {
        match trouble {
            Trouble::RateLimit => self.service.limit_inflight(0, Duration::from_secs(1)),
            Trouble::CapacityPause => {
                self.service.pause(QueueState::PausedCapacity, Some("all workers are busy"), Some(length));
            }
            Trouble::RetryStorm => {
                self.server.chaos(Chaos::seeded(11).rate(0.7).on(["asample", "retrieve_future"]).faults([
                    ChaosFault::Unavailable,
                    ChaosFault::Unavailable,
                    ChaosFault::Reset,
                ]))
            }
        }
    }

    pub(crate) fn end(&self, trouble: Trouble) {
        match trouble {
            Trouble::RateLimit => self.service.lift_limit(),
            Trouble::CapacityPause => self.service.resume(),
            Trouble::RetryStorm => self.server.end_chaos(),
        }
    }
}

/// What may be wrong with a service.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    RateLimit,
    CapacityPause,
    RetryStorm,
}

impl Trouble {
    pub(crate) const ALL: [Self; 3] = [Self::RateLimit, Self::CapacityPause, Self::RetryStorm];
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RateLimit => "rate limit (429 to every new sample)",
            Self::CapacityPause => "capacity pause (accepted, and not worked on)",
            Self::RetryStorm => "retry storm (503 and resets for seven in ten requests)",
        })
    }
}
