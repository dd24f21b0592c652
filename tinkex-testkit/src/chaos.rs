//! Random faults with a seed, for soaks.

use std::time::Duration;

use crate::route::RoutePattern;
use crate::{Received, Step};

/// The kinds of random fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChaosFault {
    /// 429 with `retry-after-ms` between 20 and 200. The request is not processed.
    TooManyRequests,
    /// 500 with a detail. The request is not processed.
    ServerError,
    /// 503 with a detail. The request is not processed.
    Unavailable,
    /// 408 without a queue state. The request is not processed.
    TimeOut,
    /// The connection is reset. The request is not processed.
    Reset,
    /// The request is processed, and then the connection is reset.
    LostResponse,
    /// The answer comes up to a second late.
    Delay,
}

impl ChaosFault {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::TooManyRequests,
        Self::ServerError,
        Self::Unavailable,
        Self::TimeOut,
        Self::Reset,
        Self::LostResponse,
        Self::Delay,
    ];
}

/// Random faults: which, how often and where.
///
/// Whether the n-th request of a route is hit, and by what, depends on the seed, the route and n alone, so a run
/// repeats whatever the order in which routes take turns. Scripts go before chaos.
///
/// ```
/// # use tinkex_testkit::{Chaos, FakeServer, NoBehaviour};
/// let server = FakeServer::with(NoBehaviour);
/// server.chaos(Chaos::seeded(7).rate(0.05).on(["asample", "retrieve_future"]));
/// ```
#[derive(Clone, Debug)]
pub struct Chaos {
    seed: u64,
    rate: f64,
    routes: Vec<RoutePattern>,
    faults: Vec<ChaosFault>,
}

impl Chaos {
    /// All kinds of fault, on all routes, one request in twenty.
    pub fn seeded(seed: u64) -> Self {
        Self { seed, rate: 0.05, routes: vec![RoutePattern::new("**")], faults: ChaosFault::ALL.to_vec() }
    }

    /// The share of requests that are hit, from 0 to 1.
    #[must_use]
    pub fn rate(mut self, rate: f64) -> Self {
        self.rate = rate;
        self
    }

    /// Hits these routes only; `*` segments are allowed.
    #[must_use]
    pub fn on<'a>(mut self, routes: impl IntoIterator<Item = &'a str>) -> Self {
        self.routes = routes.into_iter().map(RoutePattern::new).collect();
        self
    }

    /// Uses these kinds of fault only.
    #[must_use]
    pub fn faults(mut self, faults: impl IntoIterator<Item = ChaosFault>) -> Self {
        self.faults = faults.into_iter().collect();
        self
    }

    /// What becomes of the `nth` request of its route, if anything out of the ordinary.
    pub(crate) fn strike(&self, request: &Received, nth: u64) -> Option<(ChaosFault, Step)> {
        let route = request.route();
        if self.faults.is_empty() || !self.routes.iter().any(|pattern| pattern.matches(route)) {
            return None;
        }
        let mut rng =
            fastrand::Rng::with_seed(self.seed ^ hash(route).wrapping_add(nth.wrapping_mul(0x9e37_79b9)));
        if rng.f64() >= self.rate {
            return None;
        }
        let fault = self.faults[rng.usize(..self.faults.len())];
        let step = match fault {
            ChaosFault::TooManyRequests => {
                Step::status(429).header("retry-after-ms", &rng.u32(20..=200).to_string())
            }
            ChaosFault::ServerError => Step::status(500),
            ChaosFault::Unavailable => Step::status(503),
            ChaosFault::TimeOut => Step::status(408).json_body(serde_json::json!({})),
            ChaosFault::Reset => Step::reset(),
            ChaosFault::LostResponse => Step::behave().then_lose(),
            ChaosFault::Delay => Step::behave().delay(Duration::from_millis(rng.u64(1..=1_000))),
        };
        Some((fault, step))
    }
}

/// FNV-1a: the same on every platform and in every release, so that seeds keep their meaning.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
