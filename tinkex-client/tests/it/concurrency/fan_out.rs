//! Many samples on one client, and on two.

use std::time::Duration;

use tinkex_client::RetryPolicy;
use tinkex_testkit::service::{Service, ServiceOptions};
use tinkex_testkit::{FakeServer, Step};
use tokio::time::Instant;

use super::{AT_REST, all_well, asamples, fan_out};
use crate::harness::{self, MODEL, assert_within, request};

/// S1-04, S1-05, S1-14: hundreds of samples on one client at once; each comes back, each was submitted once, and the
/// sequence ids are those from 0.
#[tokio::test(start_paused = true)]
async fn hundreds_of_samples_share_one_client() {
    let service = Service::default();
    let (server, client, sampler) = harness::in_front_of(&service).await;
    let start = Instant::now();
    all_well(fan_out(&sampler, 400)).await;
    assert_within(start.elapsed().as_secs_f64(), 0.005..=0.02, "no sample waits for another");
    assert_eq!((server.count("asample"), service.samples_accepted()), (400, 400));
    let mut ids = service.seq_ids(sampler.sampling_session_id());
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..400));
    assert_eq!(client.dispatch_available(), AT_REST);
    assert!(client.inflight().is_empty());
}

/// S1-12, S1-15: two services with 60 samples each at once, one throttled and flaky; the other does not notice, and
/// each server sees its own key, session and sampler only.
#[tokio::test(start_paused = true)]
async fn two_services_at_once_are_isolated() {
    let (ours, theirs) =
        (Service::default(), Service::with_options(ServiceOptions { seed: 9, ..ServiceOptions::default() }));
    let (busy, calm) = (FakeServer::with(ours.clone()), FakeServer::with(theirs.clone()));
    let a = harness::builder(&busy).api_key("tml-a").header("x-team", "a").build().await.unwrap();
    let b = harness::builder(&calm).api_key("tml-b").header("x-team", "b").build().await.unwrap();
    let sampler_a = a.sampling_client().base_model(MODEL).create().await.unwrap();
    let sampler_b = b.sampling_client().base_model("meta-llama/Llama-3.2-1B").create().await.unwrap();
    busy.script("asample", [Step::status(429).header("retry-after-ms", "400")]).then_behave();
    busy.script("retrieve_future", [Step::status(500), Step::reset()]).then_behave();
    let start = Instant::now();
    let first = sampler_a.sample(request(&[0]));
    busy.wait_for("asample", 1).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(a.in_backoff() && !b.in_backoff(), "S1-07: the window is one service's");
    let (many_a, many_b) = (fan_out(&sampler_a, 60), fan_out(&sampler_b, 60));
    let b_done = async {
        all_well(many_b).await;
        start.elapsed().as_secs_f64()
    };
    let a_done = async {
        all_well(many_a).await;
        first.await.unwrap();
    };
    let ((), b_took) = tokio::join!(a_done, b_done);
    assert_within(b_took, 0.005..=0.02, "B is done inside A's window");
    assert!(!a.in_backoff(), "S1-07: the window is over");

    assert_eq!((busy.count("asample"), calm.count("asample")), (62, 60));
    assert!(busy.count("retrieve_future") >= 63 && calm.count("retrieve_future") >= 60);
    let at = asamples(&busy, start);
    assert!(at[1..].iter().all(|at| (0.4..=0.502).contains(at)), "{at:?}");
    for (server, client, sampler, key, team) in
        [(&busy, &a, &sampler_a, "tml-a", "a"), (&calm, &b, &sampler_b, "tml-b", "b")]
    {
        for request in server.all_requests() {
            assert_eq!((request.header("x-api-key"), request.header("x-team")), (Some(key), Some(team)));
        }
        for request in server.requests("asample") {
            assert_eq!(request.text("sampling_session_id"), Some(sampler.sampling_session_id()));
        }
        assert_eq!(client.dispatch_available(), AT_REST);
        server.assert_contiguous_seq_ids("asample");
    }
    assert_ne!(a.session_id(), b.session_id());
    assert_ne!(sampler_a.sampling_session_id(), sampler_b.sampling_session_id());
}

/// S1-15: two clients of one service behave by their own settings.
#[tokio::test(start_paused = true)]
async fn settings_belong_to_their_client() {
    let server = FakeServer::new();
    let hasty = harness::builder(&server).retry_policy(RetryPolicy::none()).build().await.unwrap();
    let patient = harness::builder(&server).header("x-who", "patient").build().await.unwrap();
    let hasty = hasty.sampling_client().base_model(MODEL).create().await.unwrap();
    let patient = patient.sampling_client().base_model(MODEL).create().await.unwrap();
    server.script("asample", [Step::status(503).repeat(3)]).then_behave();
    let (quick, slow) = (hasty.sample(request(&[1])), patient.sample(request(&[2])));
    assert_eq!(quick.await.unwrap_err().status(), Some(503));
    slow.await.unwrap();
    let of = |who: Option<&str>| {
        server.requests("asample").iter().filter(|request| request.header("x-who") == who).count()
    };
    assert_eq!((of(None), of(Some("patient"))), (1, 3));
}
