//! The log: every request, how many are in flight, and the most there were.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::Received;
use crate::route::RoutePattern;

/// The numbers of one route.
#[derive(Clone, Copy, Debug, Default)]
struct Gauge {
    count: u64,
    in_flight: usize,
    max_in_flight: usize,
}

/// A request in the log. `began` and `ended` number the arrivals and ends of all requests in one row.
struct Entry {
    request: Arc<Received>,
    began: u64,
    ended: Option<u64>,
}

/// What the server has seen.
pub(crate) struct Log {
    entries: VecDeque<Entry>,
    gauges: HashMap<String, Gauge>,
    connections: BTreeMap<u64, u64>,
    events: u64,
    next_index: u64,
    keep_bodies: bool,
    keep_requests: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            gauges: HashMap::new(),
            connections: BTreeMap::new(),
            events: 0,
            next_index: 0,
            keep_bodies: true,
            keep_requests: usize::MAX,
        }
    }
}

impl Log {
    pub(crate) fn keep_bodies(&mut self, keep: bool) {
        self.keep_bodies = keep;
    }

    pub(crate) fn keep_requests(&mut self, most: usize) {
        self.keep_requests = most;
        self.trim();
    }

    /// The next free number.
    pub(crate) fn next_index(&mut self) -> u64 {
        let index = self.next_index;
        self.next_index += 1;
        index
    }

    /// Notes a connection, even if no request comes on it.
    pub(crate) fn connect(&mut self, connection: u64) {
        self.connections.entry(connection).or_insert(0);
    }

    /// Notes an arrival and tells which one of its route it is, from 0.
    pub(crate) fn arrive(&mut self, request: &Arc<Received>) -> u64 {
        let gauge = self.gauges.entry(request.route().to_owned()).or_default();
        let nth = gauge.count;
        gauge.count += 1;
        gauge.in_flight += 1;
        gauge.max_in_flight = gauge.max_in_flight.max(gauge.in_flight);
        *self.connections.entry(request.connection).or_insert(0) += 1;
        let request = if self.keep_bodies { Arc::clone(request) } else { Arc::new(request.without_body()) };
        let began = self.event();
        self.entries.push_back(Entry { request, began, ended: None });
        self.trim();
        nth
    }

    /// Notes that a request is done with, or given up.
    pub(crate) fn end(&mut self, request: &Received) {
        if let Some(gauge) = self.gauges.get_mut(request.route()) {
            gauge.in_flight = gauge.in_flight.saturating_sub(1);
        }
        let ended = self.event();
        let found = self.entries.binary_search_by_key(&request.index, |entry| entry.request.index);
        if let Some(entry) = found.ok().and_then(|at| self.entries.get_mut(at)) {
            entry.ended = Some(ended);
        }
    }

    fn event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    fn trim(&mut self) {
        while self.entries.len() > self.keep_requests {
            self.entries.pop_front();
        }
    }

    /// Forgets the past. Requests in flight stay in flight.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.gauges.retain(|_, gauge| gauge.in_flight > 0);
        for gauge in self.gauges.values_mut() {
            gauge.count = 0;
            gauge.max_in_flight = gauge.in_flight;
        }
    }

    pub(crate) fn requests(&self, route: &RoutePattern) -> Vec<Arc<Received>> {
        let of_route = self.entries.iter().filter(|entry| route.matches(entry.request.route()));
        of_route.map(|entry| Arc::clone(&entry.request)).collect()
    }

    fn gauges<'a>(&'a self, route: &'a RoutePattern) -> impl Iterator<Item = &'a Gauge> {
        self.gauges.iter().filter(|(name, _)| route.matches(name)).map(|(_, gauge)| gauge)
    }

    pub(crate) fn count(&self, route: &RoutePattern) -> u64 {
        self.gauges(route).map(|gauge| gauge.count).sum()
    }

    pub(crate) fn in_flight(&self, route: &RoutePattern) -> usize {
        self.gauges(route).map(|gauge| gauge.in_flight).sum()
    }

    /// For one route its gauge; for a pattern the most that the logged requests had in flight at one time together.
    pub(crate) fn max_in_flight(&self, route: &RoutePattern) -> usize {
        if route.is_exact() {
            return self.gauges.get(route.as_str()).map_or(0, |gauge| gauge.max_in_flight);
        }
        let mut changes = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| route.matches(entry.request.route())) {
            changes.insert(entry.began, 1_i64);
            if let Some(ended) = entry.ended {
                changes.insert(ended, -1);
            }
        }
        let (mut now, mut most) = (0, 0);
        for change in changes.into_values() {
            now += change;
            most = most.max(now);
        }
        usize::try_from(most).unwrap_or_default()
    }

    pub(crate) fn connections(&self) -> &BTreeMap<u64, u64> {
        &self.connections
    }

    /// How many requests of each route there were, for messages.
    pub(crate) fn summary(&self) -> String {
        let mut routes: Vec<_> =
            self.gauges.iter().map(|(name, gauge)| (name.as_str(), gauge.count)).collect();
        routes.sort_unstable();
        let parts: Vec<_> = routes.iter().map(|(name, count)| format!("{name}: {count}")).collect();
        if parts.is_empty() { "no requests".to_owned() } else { parts.join(", ") }
    }
}
