//! Assertions over the log. They panic with the log's contents, at the line of the test.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use crate::route::RoutePattern;
use crate::{FakeServer, Received};

impl FakeServer {
    /// The sequence numbers of a route's logged requests, in order of arrival. Requests without one are left out.
    pub fn seq_ids(&self, route: &str) -> Vec<u64> {
        self.requests(route).iter().filter_map(|request| request.seq_id()).collect()
    }

    /// Asserts that the requests arrived in exactly this order. Only routes that the list names count; others, such
    /// as heartbeats, may come in between. `*` segments are allowed.
    ///
    /// # Panics
    /// Where they did not.
    #[track_caller]
    pub fn assert_order(&self, routes: &[&str]) {
        let patterns: Vec<_> = routes.iter().map(|route| RoutePattern::new(route)).collect();
        let all = self.all_requests();
        let of_interest = |request: &&Arc<Received>| patterns.iter().any(|p| p.matches(request.route()));
        let arrived: Vec<_> = all.iter().filter(of_interest).map(|request| request.route()).collect();
        let same =
            arrived.len() == patterns.len() && arrived.iter().zip(&patterns).all(|(r, p)| p.matches(r));
        assert!(same, "requests arrived in another order\n  wanted:  {routes:?}\n  arrived: {arrived:?}");
    }

    /// Asserts that the sequence numbers of a route (`"*"` for all routes of one segment) leave no gap: each
    /// number between the least and the greatest arrived at least once, in whatever order. Repeats are resends.
    ///
    /// # Panics
    /// Where a number is missing, or no request had one.
    #[track_caller]
    pub fn assert_contiguous_seq_ids(&self, route: &str) {
        let arrived = self.seq_ids(route);
        let ids: BTreeSet<_> = arrived.iter().copied().collect();
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else {
            assert!(!ids.is_empty(), "no request of {route} had a seq_id; there were: {}", self.summary());
            return;
        };
        let missing: Vec<_> = (*first..=*last).filter(|id| !ids.contains(id)).collect();
        assert!(missing.is_empty(), "seq_ids of {route} have gaps at {missing:?}; arrived: {arrived:?}");
    }

    /// Asserts that no request of a route arrived before an instant.
    ///
    /// # Panics
    /// Where one did.
    #[track_caller]
    pub fn assert_no_arrival_before(&self, route: &str, instant: Instant) {
        let requests = self.requests(route);
        let early: Vec<_> =
            requests.iter().filter(|r| r.at < instant).map(|r| (r.index, instant - r.at)).collect();
        assert!(early.is_empty(), "requests of {route} came early (number, by how much): {early:?}");
    }

    /// Asserts that no request of a route arrived after `from` and before `to`: a pause was kept. An arrival at
    /// `from` itself, which may be the one that caused the pause, is allowed.
    ///
    /// # Panics
    /// Where one did.
    #[track_caller]
    pub fn assert_no_arrival_between(&self, route: &str, from: Instant, to: Instant) {
        let requests = self.requests(route);
        let within = requests.iter().filter(|r| r.at > from && r.at < to);
        let early: Vec<_> = within.map(|r| (r.index, to - r.at)).collect();
        assert!(
            early.is_empty(),
            "requests of {route} came in a pause (number, by how much early): {early:?}"
        );
    }

    /// Asserts that identities are used as they should be (PROTOCOL section 5): every request that is no GET has an
    /// idempotency key; requests with the same key are the same (method, path, body); and where they carry retry
    /// counts, these go 0, 1, 2, ...
    ///
    /// # Panics
    /// Where they are not.
    #[track_caller]
    pub fn assert_idempotency_pattern(&self, route: &str) {
        let mut groups: HashMap<String, Vec<Arc<Received>>> = HashMap::new();
        for request in self.requests(route).into_iter().filter(|r| r.method != http::Method::GET) {
            let key = request.idempotency_key().unwrap_or_default().to_owned();
            assert!(!key.is_empty(), "{request:?} has no idempotency key");
            groups.entry(key).or_default().push(request);
        }
        for group in groups.values() {
            let Some((first, resent)) = group.split_first() else { continue };
            for (request, n) in resent.iter().zip(1..) {
                assert!(
                    (&first.method, &first.path, &first.body)
                        == (&request.method, &request.path, &request.body),
                    "{request:?} has the idempotency key of {first:?} but is another request"
                );
                let count = request.header("x-stainless-retry-count");
                assert!(
                    count.is_none_or(|count| count == n.to_string()),
                    "{request:?} is resend {n} of {first:?} but its retry count is {count:?}"
                );
            }
        }
    }
}
