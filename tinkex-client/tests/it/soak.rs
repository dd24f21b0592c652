//! A soak in miniature: many samples under random faults, and nothing left behind.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use serde_json::json;
use tinkex_client::{Error, ErrorKind, ModelInput, SampleRequest, SamplingParams};
use tinkex_testkit::service::Service;
use tinkex_testkit::{Chaos, ChaosFault, FakeServer};

use crate::harness::{self, MODEL};

const SAMPLES: u64 = 10_000;
const IN_FLIGHT: usize = 1_000;
const SEED: u64 = 20_260_731;

/// How a sample ended.
enum End {
    Result,
    Dropped,
    Failed(Error),
}

/// CA-1, S1-11, S1-14, F-07, F-14: 10,000 samples, 1,000 in flight, one request in twelve hit by a random fault and
/// some handles dropped on the way. Every handle ends in a result or a typed error; permits, bytes, rows and tasks
/// are all given back; the server saw each sequence id once; the number of requests is bounded on both sides.
#[tokio::test(start_paused = true)]
async fn ten_thousand_samples_under_random_faults() {
    let tasks = tokio::runtime::Handle::current().metrics();
    let before = tasks.num_alive_tasks();
    let service = Service::default();
    service.set_dynamic_config(&json!({"sample_cancel_enabled": true}));
    service.set_latency(Duration::from_millis(200));
    let server = FakeServer::with(service.clone());
    server.record_bodies(false);
    server.record_limit(0);
    let client = harness::service(&server).await;
    let sampler = client.sampling_client().base_model(MODEL).max_in_flight(IN_FLIGHT).create().await.unwrap();
    let rest = client.dispatch_available();
    server.chaos(Chaos::seeded(SEED).rate(1.0 / 12.0).on(["asample", "retrieve_future", "cancel_future"]));

    // One sample in ten is dropped, after at most three seconds.
    let mut random = fastrand::Rng::with_seed(SEED);
    let plans: Vec<_> =
        (0..SAMPLES).map(|n| (n, (random.u8(..10) == 0).then(|| random.u64(0..3_000)))).collect();
    let dropped = plans.iter().filter(|(_, drop_after)| drop_after.is_some()).count();
    let ends: Vec<_> = stream::iter(plans)
        .map(|(n, drop_after)| {
            let prompt = ModelInput::from_ints([i32::try_from(n).unwrap()]);
            let handle = sampler.sample(SampleRequest::new(prompt, SamplingParams::new().max_tokens(1)));
            async move {
                match drop_after {
                    None => handle.await.map_or_else(End::Failed, |_| End::Result),
                    Some(after) => match tokio::time::timeout(Duration::from_millis(after), handle).await {
                        Ok(result) => result.map_or_else(End::Failed, |_| End::Result),
                        Err(_) => End::Dropped,
                    },
                }
            }
        })
        // Twice as many as may be in flight, so that there is always a queue.
        .buffer_unordered(2 * IN_FLIGHT)
        .collect()
        .await;
    server.end_chaos();
    server.wait_for_in_flight("asample", 0).await;
    tokio::time::sleep(Duration::from_secs(600)).await;

    let (mut results, mut abandoned, mut failed) = (0, 0, 0);
    for end in ends {
        match end {
            End::Result => results += 1,
            End::Dropped => abandoned += 1,
            End::Failed(error) => {
                failed += 1;
                assert_ne!(error.kind(), ErrorKind::TaskEnded, "{error}");
            }
        }
    }
    assert_eq!(results + abandoned + failed, SAMPLES as usize);
    assert!((1..=dropped).contains(&abandoned), "{abandoned} of {dropped} were dropped in time");
    assert_eq!(failed, 0, "every fault of this kind is got over");

    // What the server saw.
    let accepted = service.seq_ids(sampler.sampling_session_id());
    let unique: BTreeSet<_> = accepted.iter().copied().collect();
    assert_eq!(accepted.len(), unique.len(), "no sequence id was used twice");
    assert_eq!(accepted.len() as u64, service.samples_accepted());
    assert!((results..=SAMPLES as usize).contains(&accepted.len()), "{} accepted", accepted.len());
    let most = service.most_in_progress();
    assert!((IN_FLIGHT / 10..=IN_FLIGHT).contains(&most), "{most} were in progress at once");
    let strikes = server.chaos_strikes();
    let kinds: BTreeSet<_> = strikes.iter().map(|strike| format!("{:?}", strike.fault)).collect();
    assert_eq!(kinds.len(), ChaosFault::ALL.len(), "every kind of fault has struck: {kinds:?}");
    let struck = |route: &str| strikes.iter().filter(|strike| strike.route == route).count() as u64;
    let (submissions, polls) = (server.count("asample"), server.count("retrieve_future"));
    // Each fault costs one request more at most; a pending sample needs no second poll otherwise.
    let accepted = accepted.len() as u64;
    assert!((accepted..=accepted + struck("asample")).contains(&submissions), "{submissions} submissions");
    assert!((results as u64..=accepted + struck("retrieve_future")).contains(&polls), "{polls} polls");
    let cancelled = service.cancelled().len() as u64;
    assert!((1..=abandoned as u64).contains(&cancelled), "{cancelled} of {abandoned} cancelled");
    assert!(server.count("cancel_future") <= cancelled + struck("cancel_future"));

    // What is left.
    assert_eq!(client.dispatch_available(), rest);
    assert!(client.inflight().is_empty(), "{:?}", client.inflight());
    assert_eq!(service.in_progress(), 0);
    drop((client, sampler));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(tasks.num_alive_tasks(), before, "no task is left");
}
