//! The part of the server that both faces share: choosing a step for a request, playing it, keeping the log.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::carried::Desk;
use crate::chaos::{Chaos, ChaosFault};
use crate::log::Log;
use crate::outcome::Outcome;
use crate::route::RoutePattern;
use crate::script::{Ending, Lines, Predicate};
use crate::{Behaviour, Gate, Received, Reply, Step, control};

/// Numbers servers over the whole process, so that no two have the same address.
static NEXT_SERVER: AtomicU64 = AtomicU64::new(1);

/// A server without its handles. Transports, sockets and scripts keep it alive; only the handles in the test's hands
/// judge it.
pub(crate) struct Core {
    pub(crate) behaviour: Arc<dyn Behaviour>,
    pub(crate) number: u64,
    pub(crate) began: Instant,
    pub(crate) control: AtomicBool,
    pub(crate) on_socket: AtomicBool,
    pub(crate) desk: Desk,
    next_connection: AtomicU64,
    changes: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) log: Log,
    scripts: BTreeMap<usize, Lines>,
    next_script: usize,
    violations: Vec<String>,
    reported: usize,
    chaos: Option<Chaos>,
    struck: Vec<ChaosStrike>,
    latency: Duration,
    gates: BTreeMap<String, Gate>,
}

/// A request that a random fault has hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChaosStrike {
    /// The route of the request.
    pub route: String,
    /// Which request of this route it was, from 0.
    pub nth: u64,
    /// What happened to it.
    pub fault: ChaosFault,
}

impl Core {
    pub(crate) fn new(behaviour: impl Behaviour) -> Self {
        Self {
            behaviour: Arc::new(behaviour),
            number: NEXT_SERVER.fetch_add(1, Ordering::Relaxed),
            began: Instant::now(),
            control: AtomicBool::new(false),
            on_socket: AtomicBool::new(false),
            desk: Desk::default(),
            next_connection: AtomicU64::new(0),
            changes: Notify::new(),
            state: Mutex::default(),
        }
    }

    /// The state. Never held over an `.await` nor while code of the test runs.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a connection its number.
    pub(crate) fn connect(&self) -> u64 {
        let connection = self.next_connection.fetch_add(1, Ordering::Relaxed);
        self.state().log.connect(connection);
        connection
    }

    pub(crate) fn add_script(
        &self,
        route: &str,
        predicate: Option<Predicate>,
        steps: impl IntoIterator<Item = Step>,
    ) -> usize {
        let lines = Lines::new(RoutePattern::new(route), predicate, steps);
        let mut state = self.state();
        let id = state.next_script;
        state.next_script += 1;
        state.scripts.insert(id, lines);
        id
    }

    pub(crate) fn with_lines<T>(&self, id: usize, look: impl FnOnce(&mut Lines) -> T) -> Option<T> {
        self.state().scripts.get_mut(&id).map(look)
    }

    pub(crate) fn set_chaos(&self, chaos: Option<Chaos>) {
        self.state().chaos = chaos;
    }

    pub(crate) fn chaos_strikes(&self) -> Vec<ChaosStrike> {
        self.state().struck.clone()
    }

    pub(crate) fn set_latency(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// The gate of that name; it is made where there is none.
    pub(crate) fn named_gate(&self, name: &str) -> Gate {
        self.state().gates.entry(name.to_owned()).or_default().clone()
    }

    pub(crate) fn violate(&self, text: String) {
        self.state().violations.push(text);
    }

    /// Violations so far, which count as reported from now on, and steps left over.
    pub(crate) fn judge(&self) -> (Vec<String>, Vec<String>) {
        let mut state = self.state();
        state.reported = state.violations.len();
        (state.violations.clone(), state.scripts.values().filter_map(Lines::leftover).collect())
    }

    /// Violations that nobody has been told about.
    pub(crate) fn unreported(&self) -> Vec<String> {
        let state = self.state();
        state.violations.get(state.reported..).unwrap_or_default().to_vec()
    }

    /// Forgets scripts, chaos, log and violations, and opens the named gates.
    pub(crate) fn reset(&self) {
        let gates = {
            let mut state = self.state();
            state.log.clear();
            state.scripts.clear();
            state.violations.clear();
            state.reported = 0;
            state.chaos = None;
            state.struck.clear();
            std::mem::take(&mut state.gates)
        };
        for gate in gates.into_values() {
            gate.open();
        }
    }

    /// Resolves as soon as `done` says so; it is asked after every arrival and every end of a request.
    pub(crate) async fn wait_until(&self, done: impl Fn(&Log) -> bool) {
        loop {
            let change = self.changes.notified();
            tokio::pin!(change);
            change.as_mut().enable();
            if done(&self.state().log) {
                return;
            }
            change.await;
        }
    }

    /// Takes a request in: a control command is carried out; any other request is admitted.
    pub(crate) fn receive(self: &Arc<Self>, head: Parts, body: Bytes, connection: u64) -> Intake {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Received::new(head.method, path).with_headers(head.headers).with_body(body);
        request.connection = connection;
        request.version = head.version;
        if self.control.load(Ordering::Relaxed)
            && let Some(reply) = control::carry_out(self, &request)
        {
            return Intake::Controlled(reply);
        }
        Intake::Admitted(self.admit(request))
    }

    /// Logs a request, chooses the step for it, and checks it.
    fn admit(self: &Arc<Self>, mut request: Received) -> Admitted {
        // Predicates are the test's code: they run before the lock is taken, so that they may use the server.
        let candidates = self.candidates(&request);
        let (request, step, latency) = {
            let mut state = self.state();
            request.index = state.log.next_index();
            let request = Arc::new(request);
            let nth = state.log.arrive(&request);
            let step = state.choose(&candidates, &request, nth);
            (request, step, state.latency)
        };
        self.changes.notify_waiters();
        for complaint in step.complaints(&request) {
            self.violate(format!("request {} to {}: {complaint}", request.index, request.route()));
        }
        let in_flight = InFlight { core: Arc::clone(self), request: Arc::clone(&request) };
        Admitted { request, step, latency, in_flight }
    }

    /// The scripts that speak for the request: those with a predicate first, then the others, oldest first.
    fn candidates(&self, request: &Received) -> Vec<usize> {
        let route = request.route();
        let of_route: Vec<_> = {
            let state = self.state();
            let scripts = state.scripts.iter().filter(|(_, lines)| lines.route.matches(route));
            scripts.map(|(id, lines)| (*id, lines.predicate.clone())).collect()
        };
        let (special, general): (Vec<_>, Vec<_>) = of_route.into_iter().partition(|(_, p)| p.is_some());
        let special = special.into_iter().filter(|(_, p)| p.as_ref().is_some_and(|holds| holds(request)));
        special.chain(general).map(|(id, _)| id).collect()
    }
}

impl State {
    /// The step for a request: of the first script that has one left; where all are used up, a failure if one of
    /// them ends so; else chaos; else the behaviour.
    fn choose(&mut self, candidates: &[usize], request: &Received, nth: u64) -> Arc<Step> {
        for id in candidates {
            if let Some(step) = self.scripts.get_mut(id).and_then(Lines::take) {
                return step;
            }
        }
        let failing =
            candidates.iter().filter_map(|id| self.scripts.get(id)).find(|l| l.ending() == Ending::Fail);
        if let Some(lines) = failing {
            let (violation, reply) = lines.exhausted();
            self.violations.push(violation);
            return Arc::new(Step::reply(reply));
        }
        if let Some((fault, step)) = self.chaos.as_ref().and_then(|chaos| chaos.strike(request, nth)) {
            self.struck.push(ChaosStrike { route: request.route().to_owned(), nth, fault });
            return Arc::new(step);
        }
        Arc::new(Step::behave())
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("number", &self.number).finish_non_exhaustive()
    }
}

/// What came of a request's arrival.
pub(crate) enum Intake {
    /// It is to be played.
    Admitted(Admitted),
    /// It was a control command, which is not logged.
    Controlled(Reply),
}

/// A request in the server's hands.
pub(crate) struct Admitted {
    request: Arc<Received>,
    step: Arc<Step>,
    latency: Duration,
    in_flight: InFlight,
}

impl Admitted {
    /// Plays the step chosen for the request. Dropping the future gives the request up.
    pub(crate) async fn perform(self) -> (Outcome, InFlight) {
        let Self { request, step, latency, in_flight } = self;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let behaviour = Arc::clone(&in_flight.core.behaviour);
        let outcome = Box::pin(step.perform(&request, &*behaviour)).await;
        (outcome, in_flight)
    }
}

/// Counts a request as in flight until it is dropped.
pub(crate) struct InFlight {
    core: Arc<Core>,
    request: Arc<Received>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.core.state().log.end(&self.request);
        self.core.changes.notify_waiters();
    }
}
