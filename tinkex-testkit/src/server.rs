//! The handle on a fake server: making one, scripting it, reading its log.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tinkex_http::{SharedTransport, Transport};

use crate::carried::CarriedTransport;
use crate::chaos::Chaos;
use crate::engine::{ChaosStrike, Core};
use crate::memory::MemoryTransport;
use crate::route::RoutePattern;
use crate::service::{Dialect, Service};
use crate::socket::SocketServer;
use crate::{Behaviour, Received, Script, Step};

/// How long waits last before they give up. In virtual time: far beyond any time a test plays through, so that a
/// wait without end fails at once instead of hanging.
const VIRTUAL_PATIENCE: Duration = Duration::from_secs(30 * 24 * 3600);

/// The same for a server that listens on a socket, whose time must be real.
const REAL_PATIENCE: Duration = Duration::from_secs(60);

/// A fake Tinker server: scripts on top, a [`Behaviour`] beneath, a log of all it got, and two faces.
///
/// Clones are handles on the same server. When the last handle goes and something is wrong with the scripts (a
/// script was used up, a check failed) and [`FakeServer::verify`] has not told, the drop panics, unless the thread is
/// panicking already. Keep a handle in the test's own body: a panic in another task may go unseen.
///
/// Routes are written without `/api/v1/`. A `*` segment stands for any one segment, a final `**` for all the rest.
#[derive(Clone)]
pub struct FakeServer(Arc<Handle>);

/// What the handles share. Its drop is the last handle's.
struct Handle(Arc<Core>);

impl FakeServer {
    /// A server that behaves like the production service. For another dialect, or to steer the service, make it
    /// first: `FakeServer::with(service.clone())`.
    pub fn new() -> Self {
        Self::with(Service::new(Dialect::production()))
    }

    /// A server with a behaviour of its own. Keep an `Arc` of the behaviour to look into it later.
    pub fn with(behaviour: impl Behaviour) -> Self {
        Self(Arc::new(Handle(Arc::new(Core::new(behaviour)))))
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.0.0
    }

    /// Adds a script for a route. Its steps are consumed in order of arrival. Scripts for the same route take turns
    /// in the order they were added; the next begins where the one before has no step left.
    ///
    /// A request that finds all scripts of its route used up fails the test, unless their handles say otherwise.
    pub fn script(&self, route: &str, steps: impl IntoIterator<Item = Step>) -> Script {
        Script::new(Arc::clone(self.core()), self.core().add_script(route, None, steps))
    }

    /// Adds a script for those requests of a route for which the predicate holds. Such scripts go before those
    /// without a predicate.
    pub fn script_when(
        &self,
        route: &str,
        predicate: impl Fn(&Received) -> bool + Send + Sync + 'static,
        steps: impl IntoIterator<Item = Step>,
    ) -> Script {
        let id = self.core().add_script(route, Some(Arc::new(predicate)), steps);
        Script::new(Arc::clone(self.core()), id)
    }

    /// Lets random faults loose on requests that no script speaks for. Replaces what was set before.
    pub fn chaos(&self, chaos: Chaos) {
        self.core().set_chaos(Some(chaos));
    }

    /// Ends the random faults.
    pub fn end_chaos(&self) {
        self.core().set_chaos(None);
    }

    /// Which requests random faults have hit so far, in order of arrival.
    pub fn chaos_strikes(&self) -> Vec<ChaosStrike> {
        self.core().chaos_strikes()
    }

    /// Makes every request take this long before anything else happens. Zero at first. A client that polls without a
    /// pause never lets virtual time go on against a server that answers at once; a millisecond here cures that.
    pub fn latency(&self, latency: Duration) {
        self.core().set_latency(latency);
    }

    /// Whether the log keeps request bodies. It does at first; soaks should say no. Sequence numbers are kept.
    pub fn record_bodies(&self, keep: bool) {
        self.core().state().log.keep_bodies(keep);
    }

    /// How many requests the log keeps, the newest. No limit at first; 0 keeps none. Counters go on counting.
    pub fn record_limit(&self, most: usize) {
        self.core().state().log.keep_requests(most);
    }

    /// Opens or closes the `/control/` routes, over which an outside program scripts the server. Closed at first.
    pub fn control(&self, open: bool) {
        self.core().control.store(open, Ordering::Relaxed);
    }

    /// The in-memory face: a transport that plays the script in tokio's time, so virtual time works. Each call makes
    /// one connection of its own in the log.
    pub fn transport(&self) -> SharedTransport {
        SharedTransport::new(MemoryTransport::new(Arc::clone(self.core())))
    }

    /// The carried face: as [`FakeServer::transport`], but the bytes of each call travel over a real socket, carried by
    /// `inner`. Under paused time durations stay exact, since the clock stands still while bytes are under way; so a
    /// whole test suite in virtual time can be run over one's own HTTP stack.
    ///
    /// `inner` gets each request with its address replaced by the socket's and with one header more. It must make its
    /// exchanges on threads or tasks of its own or in its futures, not on tokio's blocking threads, for these would hold
    /// the clock too. Steps that refuse are played by `inner` too, against an address where nobody listens.
    ///
    /// # Errors
    /// What the operating system says: there may be no socket left.
    pub fn transport_over(&self, inner: impl Transport) -> io::Result<SharedTransport> {
        Ok(SharedTransport::new(CarriedTransport::new(Arc::clone(self.core()), inner)?))
    }

    /// The base URL to use with [`FakeServer::transport`], `http://fake-<n>.test`. It is different for each server of
    /// the process, so that nothing that is shared by address leaks between tests. The transport itself takes
    /// requests for any host.
    pub fn url(&self) -> String {
        format!("http://fake-{}.test", self.core().number)
    }

    /// [`FakeServer::url`] with a base path, such as `/services/x`, which the server strips from what it gets.
    pub fn url_with_path(&self, path: &str) -> String {
        join(&self.url(), path)
    }

    /// The socket face: listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn listen(&self) -> io::Result<SocketServer> {
        self.listen_on((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// The socket face on a given address.
    ///
    /// # Errors
    /// What the operating system says, for example that the port is taken.
    pub async fn listen_on(&self, address: SocketAddr) -> io::Result<SocketServer> {
        self.core().on_socket.store(true, Ordering::Relaxed);
        SocketServer::bind(Arc::clone(self.core()), address).await
    }

    /// The socket face over TLS, on a free port of 127.0.0.1. [`SocketServer::authority`] is what a client must trust.
    ///
    /// # Errors
    /// What the operating system says, and names that make no certificate.
    #[cfg(feature = "tls")]
    pub async fn listen_tls(&self, tls: &crate::Tls) -> io::Result<SocketServer> {
        self.core().on_socket.store(true, Ordering::Relaxed);
        SocketServer::bind_tls(Arc::clone(self.core()), (Ipv4Addr::LOCALHOST, 0).into(), tls).await
    }

    /// The logged requests of a route, in order of arrival.
    pub fn requests(&self, route: &str) -> Vec<Arc<Received>> {
        self.core().state().log.requests(&RoutePattern::new(route))
    }

    /// All logged requests, in order of arrival.
    pub fn all_requests(&self) -> Vec<Arc<Received>> {
        self.requests("**")
    }

    /// How many requests of a route have arrived.
    pub fn count(&self, route: &str) -> u64 {
        self.core().state().log.count(&RoutePattern::new(route))
    }

    /// How many requests of a route have arrived and are neither answered nor given up.
    pub fn in_flight(&self, route: &str) -> usize {
        self.core().state().log.in_flight(&RoutePattern::new(route))
    }

    /// The most requests of a route that were in flight at one time. With `*` segments, the most of all matching
    /// routes together, as far as the log reaches back.
    pub fn max_in_flight(&self, route: &str) -> usize {
        self.core().state().log.max_in_flight(&RoutePattern::new(route))
    }

    /// How many connections there were: accepted ones on the socket, transports in memory.
    pub fn connections(&self) -> usize {
        self.core().state().log.connections().len()
    }

    /// How many requests came on each connection, oldest connection first.
    pub fn requests_per_connection(&self) -> Vec<u64> {
        self.core().state().log.connections().values().copied().collect()
    }

    /// Resolves when at least `n` requests of a route have arrived, counted from the start.
    ///
    /// # Panics
    /// Where it waits in vain, with what did arrive: after a minute on a server that listens on a socket, else after
    /// a month, which in virtual time is at once when nothing else can happen any more.
    pub async fn wait_for(&self, route: &str, n: u64) {
        let pattern = RoutePattern::new(route);
        self.wait(&format!("{n} requests of {route}"), |log| log.count(&pattern) >= n).await;
    }

    /// Resolves when exactly `n` requests of a route are in flight. With `n` 0 it waits for calm.
    ///
    /// # Panics
    /// As [`FakeServer::wait_for`].
    pub async fn wait_for_in_flight(&self, route: &str, n: usize) {
        let pattern = RoutePattern::new(route);
        self.wait(&format!("{n} requests of {route} in flight"), |log| log.in_flight(&pattern) == n).await;
    }

    async fn wait(&self, what: &str, done: impl Fn(&crate::log::Log) -> bool) {
        let on_socket = self.core().on_socket.load(Ordering::Relaxed);
        let patience = if on_socket { REAL_PATIENCE } else { VIRTUAL_PATIENCE };
        let waited = tokio::time::timeout(patience, self.core().wait_until(done)).await;
        assert!(waited.is_ok(), "waited in vain for {what}; there were: {}", self.summary());
    }

    /// How many requests of each route there were, as text.
    pub fn summary(&self) -> String {
        self.core().state().log.summary()
    }

    /// Says what is wrong: scripts that were used up, checks that failed, steps that were never consumed.
    ///
    /// # Errors
    /// [`Unmet`] where anything is. What has been told here does not panic again when the server is dropped.
    pub fn verify(&self) -> Result<(), Unmet> {
        let (violations, leftovers) = self.core().judge();
        if violations.is_empty() && leftovers.is_empty() {
            Ok(())
        } else {
            Err(Unmet { violations, leftovers, requests: self.summary() })
        }
    }
}

pub(crate) fn join(base: &str, path: &str) -> String {
    format!("{base}/{}", path.trim_start_matches('/'))
}

impl Default for FakeServer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for FakeServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeServer").field("url", &self.url()).field("requests", &self.summary()).finish()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let unreported = self.0.unreported();
        assert!(
            unreported.is_empty() || std::thread::panicking(),
            "the fake server saw violations:\n  {}",
            unreported.join("\n  ")
        );
    }
}

/// What [`FakeServer::verify`] found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the script was not kept:\n  {}\n  (requests by route: {requests})",
    [self.violations.as_slice(), self.leftovers.as_slice()].concat().join("\n  ")
)]
#[non_exhaustive]
pub struct Unmet {
    /// Scripts that were used up and checks that failed, oldest first.
    pub violations: Vec<String>,
    /// Scripts with steps left, oldest first.
    pub leftovers: Vec<String>,
    /// The requests that came, by route: a script for a route that is not among them may be misspelt.
    pub requests: String,
}
