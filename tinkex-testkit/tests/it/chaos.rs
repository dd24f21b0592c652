//! Random faults: the same for the same seed, and about as many as asked for.

use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::json;
use tinkex_testkit::{Chaos, ChaosFault, ChaosStrike, FakeServer, Step};

use crate::client::{echo, post};

async fn strikes(chaos: Chaos, routes: &[&str]) -> Vec<ChaosStrike> {
    let server = echo();
    server.chaos(chaos);
    for route in routes {
        // Faults are what this is about; what the client sees of them is another test's.
        let _ = post(&server, route, &json!({})).await;
    }
    let mut strikes = server.chaos_strikes();
    strikes.sort_by(|a, b| (&a.route, a.nth).cmp(&(&b.route, b.nth)));
    strikes
}

#[tokio::test(start_paused = true)]
async fn a_seed_decides_whatever_the_order_of_routes() {
    let alternating: Vec<_> =
        (0..400).map(|n| if n % 2 == 0 { "asample" } else { "retrieve_future" }).collect();
    let blocks: Vec<_> = (0..400).map(|n| if n < 200 { "retrieve_future" } else { "asample" }).collect();
    let chaos = || Chaos::seeded(7).rate(0.3);
    let first = strikes(chaos(), &alternating).await;
    assert_eq!(first, strikes(chaos(), &blocks).await);
    assert_ne!(first, strikes(Chaos::seeded(8).rate(0.3), &alternating).await);
    let kinds: HashSet<_> = first.iter().map(|strike| strike.fault).collect();
    assert_eq!(kinds.len(), ChaosFault::ALL.len(), "all kinds come up in 120 faults: {kinds:?}");
    assert!((80..=160).contains(&first.len()), "about 120 of 400, not {}", first.len());
}

#[tokio::test(start_paused = true)]
async fn chaos_keeps_to_its_routes_and_kinds_and_ends() {
    let server = echo();
    server.chaos(Chaos::seeded(1).rate(1.0).on(["samples/*"]).faults([ChaosFault::Unavailable]));
    let status =
        async |server: &FakeServer, route| post(server, route, &json!({})).await.unwrap().status.as_u16();
    assert_eq!(status(&server, "samples/1").await, 503);
    assert_eq!(status(&server, "other").await, 200);
    server.script("samples/2", [Step::status(201)]).then_behave();
    assert_eq!(status(&server, "samples/2").await, 201, "scripts go first");
    assert_eq!(status(&server, "samples/2").await, 503);
    server.end_chaos();
    assert_eq!(status(&server, "samples/1").await, 200);
    assert_eq!(server.chaos_strikes().len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_rate_no_fault_and_full_rate_always(seed: u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let routes = ["x"; 8];
        prop_assert_eq!(runtime.block_on(strikes(Chaos::seeded(seed).rate(0.0), &routes)).len(), 0);
        prop_assert_eq!(runtime.block_on(strikes(Chaos::seeded(seed).rate(1.0), &routes)).len(), 8);
    }
}
