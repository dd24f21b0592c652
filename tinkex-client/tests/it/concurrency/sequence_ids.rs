//! Sequence ids, whatever happens to their samples.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use proptest::prelude::*;
use serde_json::json;
use tinkex_client::{ErrorKind, RetryPolicy};
use tinkex_testkit::service::{Dialect, Service};
use tinkex_testkit::{FakeServer, Step};

use super::{AT_REST, hasty};
use crate::harness::{self, MODEL, request};

/// What becomes of one attempt of a submission.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    Late,
    Throttled,
    ServerError,
    Rejected,
    Refused,
    Reset,
    Lost,
}

impl Fault {
    fn step(self) -> Step {
        match self {
            Self::None => Step::behave(),
            Self::Late => Step::behave().delay(Duration::from_millis(300)),
            Self::Throttled => {
                Step::status(429).header("retry-after-ms", "150").delay(Duration::from_millis(20))
            }
            Self::ServerError => Step::status(503).delay(Duration::from_millis(20)),
            Self::Rejected => Step::status(400).json_body(json!({"detail": "no"})),
            Self::Refused => Step::refuse(),
            Self::Reset => Step::reset(),
            Self::Lost => Step::behave().delay(Duration::from_millis(100)).then_lose(),
        }
    }
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        2 => Just(Fault::None),
        2 => Just(Fault::Late),
        3 => Just(Fault::Throttled),
        2 => Just(Fault::ServerError),
        1 => Just(Fault::Rejected),
        3 => Just(Fault::Refused),
        1 => Just(Fault::Reset),
        1 => Just(Fault::Lost),
    ];
    proptest::collection::vec(fault, 0..24)
}

/// When the handle of a sample is dropped, in milliseconds after its start; none for never.
fn drops() -> impl Strategy<Value = Vec<Option<u64>>> {
    proptest::collection::vec(proptest::option::of(0_u64..800), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(20_260_101),
        ..ProptestConfig::default()
    })]

    /// F-11, F-14, CA-1: whatever happens to attempts, and wherever samples are dropped, no two samples share a
    /// sequence id at the server, and once later samples have drawn what came back, no id is missing.
    #[test]
    fn sequence_ids_are_unique_and_without_gaps(
        faults in faults(),
        drops in drops(),
        retries in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(any_interleaving(&faults, &drops, retries));
    }
}

async fn any_interleaving(faults: &[Fault], drops: &[Option<u64>], retries: bool) {
    let service = Service::new(Dialect::production());
    let server = FakeServer::with(service.clone());
    let builder = harness::builder(&server);
    let builder = if retries { builder } else { builder.sampling_retry_policy(RetryPolicy::none()) };
    let client = builder.build().await.unwrap();
    let sampler = client.sampling_client().base_model(MODEL).create().await.unwrap();
    server.script("asample", faults.iter().map(|fault| fault.step())).then_behave();

    // Each sample has a prompt of its own, so that the server would refuse a second use of an id.
    let samples = drops.iter().enumerate().map(|(n, drop_after)| {
        let handle = sampler.sample(request(&[1000 + n as i32]));
        async move {
            match drop_after {
                Some(after) => {
                    let _ = tokio::time::timeout(Duration::from_millis(*after), handle).await;
                }
                None => {
                    let _ = handle.await;
                }
            }
        }
    });
    join_all(samples).await;
    server.wait_for_in_flight("asample", 0).await;
    // Uses the faults up, and then draws every id that came back.
    let mut mended = 0;
    while mended < drops.len() {
        if sampler.sample(request(&[2000])).await.is_ok() {
            mended += 1;
        }
    }

    let fault_of = |arrival: usize| faults.get(arrival).copied().unwrap_or(Fault::None);
    let mut reached = BTreeSet::new();
    let mut processed: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for (arrival, request) in server.requests("asample").iter().enumerate() {
        let seq_id = request.seq_id().unwrap();
        if fault_of(arrival) != Fault::Refused {
            reached.insert(seq_id);
        }
        if matches!(fault_of(arrival), Fault::None | Fault::Late | Fault::Lost) {
            processed.entry(seq_id).or_default().insert(request.idempotency_key().unwrap().to_owned());
        }
    }
    let accepted = service.seq_ids(sampler.sampling_session_id());
    let unique: BTreeSet<_> = accepted.iter().copied().collect();
    assert_eq!(accepted.len(), unique.len(), "{accepted:?}");
    for (seq_id, keys) in processed {
        assert_eq!(keys.len(), 1, "two samples went out as {seq_id}");
    }
    let last = *reached.last().unwrap();
    assert!(reached.iter().copied().eq(0..=last), "the ids have gaps: {reached:?}");
    assert_eq!(client.dispatch_available(), AT_REST);
    assert!(client.inflight().is_empty());
}

/// F-11: an id that provably never counted comes back: the connection was refused, or the sample was dropped while
/// it waited. A strict server then sees 0, 1, 2, ... without a conflict.
#[tokio::test(start_paused = true)]
async fn ids_that_never_counted_are_drawn_again() {
    let dialect =
        Dialect { sampling_order: tinkex_testkit::service::SamplingOrder::Strict, ..Dialect::production() };
    let service = Service::new(dialect);
    let (server, client, sampler) = harness::in_front_of(&service).await;
    let hasty = hasty(&client).await;
    server
        .script(
            "asample",
            [Step::refuse(), Step::behave(), Step::refuse(), Step::status(429).header("retry-after", "5")],
        )
        .then_behave();
    assert_eq!(hasty.sample(request(&[1])).await.unwrap_err().kind(), ErrorKind::Connection);
    hasty.sample(request(&[2])).await.unwrap();
    let abandoned = sampler.sample(request(&[3]));
    server.wait_for("asample", 3).await;
    drop(abandoned);
    let throttled = sampler.sample(request(&[4]));
    server.wait_for("asample", 4).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    drop(throttled);
    tokio::time::sleep(Duration::from_secs(6)).await;
    for n in 5..8 {
        sampler.sample(request(&[n])).await.unwrap();
    }
    assert_eq!(service.seq_ids(hasty.sampling_session_id()), [0]);
    assert_eq!(service.seq_ids(sampler.sampling_session_id()), [0, 1, 2]);
    assert_eq!(server.count("asample"), 7, "no conflict, so no repetition");
}
