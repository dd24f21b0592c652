//! Stuck detection and the progress line (PROTOCOL 7.5).

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tinkex_client::{
    Error, ErrorCategory, ErrorKind, SamplingClient, SamplingSnapshot, ServiceClient, Stage,
};
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, Gate, Step};
use tokio::time::Instant;
use tracing::Level;

use super::{MINUTE, SECOND, pass, settle, steered};
use crate::harness::{self, MODEL, assert_within};
use crate::log_capture::LogCapture;

const HOUR: Duration = Duration::from_secs(3600);

/// A service that takes days for each sample and is told of abandoned ones.
async fn stuck_service(flags: Value) -> (Service, FakeServer, ServiceClient) {
    let (behind, server) = steered();
    behind.set_latency(100 * HOUR);
    behind.set_client_config(&flags);
    behind.set_dynamic_config(&json!({ "sample_cancel_enabled": true }));
    let service = harness::service(&server).await;
    (behind, server, service)
}

async fn with_timeout(service: &ServiceClient, timeout: Duration) -> SamplingClient {
    service.sampling_client().base_model(MODEL).progress_timeout(timeout).create().await.unwrap()
}

fn assert_stuck(error: &Error, after: f64) {
    assert_eq!(error.kind(), ErrorKind::Stuck, "{error}");
    assert!(error.is_retryable() && !error.is_user_error());
    assert_within(error.elapsed().as_secs_f64(), after..=after, "the sample's age");
}

/// By default samples are given up two hours after the last progress, whenever they began, and cancelled (15.8). What
/// begins afterwards has the whole time again.
#[tokio::test(start_paused = true)]
async fn samples_that_make_no_progress() {
    let (behind, server, service) = stuck_service(json!({})).await;
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    // An idle sampler makes no progress either, and that is no fault.
    pass(5 * HOUR).await;
    let begun = Instant::now();
    let early = tokio::spawn(sampler.sample(harness::request(&[1])));
    pass(2 * HOUR - 20 * SECOND).await;
    let late = tokio::spawn(sampler.sample(harness::request(&[2])));
    let (early, late) = (early.await.unwrap().unwrap_err(), late.await.unwrap().unwrap_err());
    assert_within(begun.elapsed().as_secs_f64(), 7200.0..=7200.0, "the time-out");
    assert_stuck(&early, 7200.0);
    assert_stuck(&late, 20.0);
    let request_id = early.request_id().unwrap().to_owned();
    assert_eq!(
        early.to_string(),
        format!(
            "no sample of this client has finished for 7200.0 s, so this one was given up after 7200.0 s, on request \
             {request_id}; the service may be stuck: sample again later, or set a longer progress_timeout(..)"
        )
    );
    assert!(early.attempts() > 100, "it was polled {} times", early.attempts());
    settle().await;
    assert_eq!(behind.cancelled(), [request_id, late.request_id().unwrap().to_owned()]);
    assert!(service.inflight().is_empty());

    let polls = server.count("retrieve_future");
    pass(HOUR).await;
    assert_eq!(server.count("retrieve_future"), polls, "nobody asks for them any more");
    let again = Instant::now();
    assert_stuck(&sampler.sample(harness::request(&[3])).await.unwrap_err(), 7200.0);
    assert_within(again.elapsed().as_secs_f64(), 7200.0..=7200.0, "the second time-out");
}

/// Any sample that succeeds is progress for all; one that fails is none.
#[tokio::test(start_paused = true)]
async fn progress_of_one_is_progress_of_all() {
    let (behind, _server, service) = stuck_service(json!({})).await;
    let sampler = with_timeout(&service, MINUTE).await;
    let begun = Instant::now();
    let waiting = tokio::spawn(sampler.sample(harness::request(&[1])));
    pass(50 * SECOND).await;
    behind.set_latency(Duration::ZERO);
    sampler.clone().sample(harness::request(&[2])).await.unwrap();
    pass(50 * SECOND).await;
    behind.fail_next(ErrorCategory::Server, "broken");
    sampler.sample(harness::request(&[3])).await.unwrap_err();
    assert!(!waiting.is_finished());
    let error = waiting.await.unwrap().unwrap_err();
    assert_within(begun.elapsed().as_secs_f64(), 110.0..=110.0, "a minute after the success");
    assert_stuck(&error, 110.0);
    assert!(error.to_string().starts_with("no sample of this client has finished for 60.0 s"), "{error}");

    // Samplers are judged apart.
    behind.set_latency(100 * HOUR);
    let other = with_timeout(&service, HOUR).await;
    let patient = tokio::spawn(other.sample(harness::request(&[1])));
    sampler.sample(harness::request(&[1])).await.unwrap_err();
    settle().await;
    assert!(!patient.is_finished());
}

/// What waits for its place is not given up: it begins when the others are gone, with the whole time-out.
#[tokio::test(start_paused = true)]
async fn waiting_samples_are_not_given_up() {
    let (behind, server, service) = stuck_service(json!({})).await;
    let sampler = service.sampling_client().base_model(MODEL).max_in_flight(2);
    let sampler = sampler.progress_timeout(MINUTE).create().await.unwrap();
    let begun = Instant::now();
    let samples = (0..5).map(|n| sampler.sample(harness::request(&[n])));
    let ends = join_all(samples.map(|sample| async move {
        assert_eq!(sample.await.unwrap_err().kind(), ErrorKind::Stuck);
        begun.elapsed().as_secs()
    }))
    .await;
    assert_eq!(ends, [60, 60, 120, 120, 180]);
    settle().await;
    assert_eq!((server.count("asample"), behind.cancelled().len()), (5, 5));
    assert_eq!(server.max_in_flight("retrieve_future"), 2);
}

/// A sample is given up wherever it waits: for a window after 429, for its submission, for the session poll. What is on
/// the wire is still finished, so that the promise is cancelled.
#[tokio::test(start_paused = true)]
async fn samples_are_given_up_at_every_stage() {
    // Windows without an end.
    let (behind, server, service) = stuck_service(json!({})).await;
    server.script("asample", [Step::status(429).header("retry-after", "25")]).then_repeat_last();
    let sampler = with_timeout(&service, MINUTE).await;
    assert_stuck(&sampler.sample(harness::request(&[1])).await.unwrap_err(), 60.0);
    pass(20 * MINUTE).await;
    assert_eq!((server.count("asample"), behind.cancelled().len()), (3, 0), "nothing is sent any more");

    // A submission on the wire.
    let (behind, server, service) = stuck_service(json!({})).await;
    let gate = Gate::new();
    server.script("asample", [Step::behave().gate(&gate)]).then_behave();
    let sampler = with_timeout(&service, 10 * SECOND).await;
    let error = sampler.sample(harness::request(&[1])).await.unwrap_err();
    assert_stuck(&error, 10.0);
    assert_eq!(error.request_id(), None);
    assert_eq!(service.inflight().len(), 1, "the answer is waited for");
    gate.open();
    settle().await;
    assert_eq!(behind.cancelled().len(), 1);
    assert!(service.inflight().is_empty());

    // No poll of its own that could end.
    let (behind, server, service) = stuck_service(json!({ "sample_use_retrieve_futures": true })).await;
    let sampler = with_timeout(&service, 10 * MINUTE).await;
    assert_stuck(&sampler.sample(harness::request(&[1])).await.unwrap_err(), 600.0);
    settle().await;
    assert_eq!((server.count("retrieve_future"), behind.cancelled().len()), (0, 1));
}

/// `sample_enable_stuck_detection`: `false` turns the detection off whatever the user chose; `true` leaves the choice.
#[tokio::test(start_paused = true)]
async fn the_flag_for_stuck_detection() {
    for (flag, chosen, given_up) in [
        (None, Some(MINUTE), true),
        (Some(true), Some(MINUTE), true),
        (Some(true), None, false),
        (Some(false), Some(MINUTE), false),
    ] {
        let flags = flag.map_or(json!({}), |flag| json!({ "sample_enable_stuck_detection": flag }));
        let (_behind, _server, service) = stuck_service(flags).await;
        let builder = service.sampling_client().base_model(MODEL);
        let builder = match chosen {
            Some(timeout) => builder.progress_timeout(timeout),
            None => builder.without_stuck_detection(),
        };
        let sampler = builder.create().await.unwrap();
        let sample = tokio::spawn(sampler.sample(harness::request(&[1])));
        pass(10 * HOUR).await;
        assert_eq!(sample.is_finished(), given_up, "flag {flag:?}, chosen {chosen:?}");
    }
}

/// PROTOCOL 4.1: `sample_no_retries` takes stuck detection, the server's limit and submission anew from samples, but not
/// from log-probabilities. The user's own limit holds for both.
#[tokio::test(start_paused = true)]
async fn the_flag_for_no_retries_spares_log_probabilities() {
    let flags = json!({ "sample_no_retries": true, "sample_max_concurrent_requests": 1 });
    let (behind, server, service) = stuck_service(flags).await;
    let sampler = with_timeout(&service, MINUTE).await;
    let samples: Vec<_> = (0..3).map(|n| tokio::spawn(sampler.sample(harness::request(&[n])))).collect();
    let logprobs: Vec<_> = (0..2).map(|n| tokio::spawn(sampler.compute_logprobs(vec![n, 1]))).collect();
    server.wait_for("retrieve_future", 4).await;
    settle().await;
    let queued = service.inflight().iter().filter(|row| row.stage == Stage::Queued).count();
    assert_eq!(
        (server.count("asample"), queued),
        (4, 1),
        "three samples and one of two for log-probabilities"
    );
    let ends = join_all(logprobs).await;
    assert!(ends.into_iter().all(|end| end.unwrap().unwrap_err().kind() == ErrorKind::Stuck));
    pass(10 * HOUR).await;
    assert!(samples.iter().all(|sample| !sample.is_finished()), "nobody looks after the samples");

    behind.set_latency(Duration::ZERO);
    behind.expire_next();
    sampler.compute_logprobs(vec![1, 2]).await.unwrap();
    behind.expire_next();
    assert_eq!(sampler.sample(harness::request(&[1])).await.unwrap_err().kind(), ErrorKind::Expired);

    let (_behind, server, service) =
        stuck_service(json!({ "sample_no_retries": true, "sample_max_concurrent_requests": 3 })).await;
    let own = service.sampling_client().base_model(MODEL).max_in_flight(4).create().await.unwrap();
    let _samples: Vec<_> = (0..2).map(|n| own.sample(harness::request(&[n]))).collect();
    let _logprobs: Vec<_> = (0..4).map(|n| own.compute_logprobs(vec![n, 1])).collect();
    server.wait_for("retrieve_future", 4).await;
    settle().await;
    assert_eq!(server.count("asample"), 4);
}

/// A time-out of nothing is refused before anything is sent; the longest one never passes.
#[tokio::test(start_paused = true)]
async fn time_outs_at_the_edges() {
    let (_behind, server, service) = stuck_service(json!({})).await;
    let sent = server.all_requests().len();
    let builder = service.sampling_client().base_model(MODEL).progress_timeout(Duration::ZERO);
    let refused = builder.create().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("progress_timeout"), "{refused}");
    assert_eq!(server.all_requests().len(), sent);
    let endless = with_timeout(&service, Duration::MAX).await;
    let sample = tokio::spawn(endless.sample(harness::request(&[1])));
    pass(50 * HOUR).await;
    assert!(!sample.is_finished());

    let (_server, _client, trainer) = harness::trainer_of(&Service::default()).await;
    let snapshot = SamplingSnapshot::new().progress_timeout(Duration::ZERO);
    assert_eq!(trainer.sampling_snapshot(snapshot).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// A snapshot's sampler takes the same settings.
#[tokio::test(start_paused = true)]
async fn samplers_of_snapshots_are_watched_too() {
    let behind = Service::default();
    let (_server, _client, trainer) = harness::trainer_of(&behind).await;
    let watched = trainer.sampling_snapshot(SamplingSnapshot::new().progress_timeout(MINUTE)).await.unwrap();
    let patient = trainer.sampling_snapshot(SamplingSnapshot::new().without_stuck_detection()).await.unwrap();
    behind.set_latency(100 * HOUR);
    let unwatched = tokio::spawn(patient.sample(harness::request(&[1])));
    assert_stuck(&watched.sample(harness::request(&[1])).await.unwrap_err(), 60.0);
    pass(10 * HOUR).await;
    assert!(!unwatched.is_finished());
}

/// The detection ends with its sampler and keeps nothing alive; a handle that is kept does not keep its task.
#[tokio::test(start_paused = true)]
async fn the_detection_ends_with_its_sampler() {
    let (behind, server, service) = stuck_service(json!({})).await;
    // Otherwise the first cancellation would begin a task of its own.
    behind.set_dynamic_config(&json!({}));
    pass(5 * MINUTE).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let sampler = with_timeout(&service, HOUR).await;
    assert_eq!(tasks(), before + 1);
    let kept = sampler.sample(harness::request(&[1]));
    server.wait_for("retrieve_future", 1).await;
    drop(sampler);
    pass(2 * HOUR).await;
    assert_eq!(tasks(), before, "the sample was given up, and took the sampler along");
    assert_eq!(kept.await.unwrap_err().kind(), ErrorKind::Stuck);
}

/// The progress line, at debug level: every two seconds at most, and whenever the sampler becomes idle.
#[tokio::test(start_paused = true)]
async fn the_progress_line() {
    let (log, _guard) = LogCapture::start();
    let (behind, server) = steered();
    let service = harness::service(&server).await;
    let sampler = service.sampling_client().base_model(MODEL).max_in_flight(2).create().await.unwrap();
    let lines = || {
        let name = format!("[{}]: ", sampler.sampling_session_id());
        let all = log.messages(Level::DEBUG).into_iter();
        all.filter_map(|line| line.strip_prefix(&name).map(str::to_owned)).collect::<Vec<_>>()
    };
    join_all((0..3).map(|n| sampler.sample(harness::request(&[n])))).await;
    assert_eq!(lines(), ["0 waiting, 0 in progress, 3 completed"], "nothing is due before it is idle");

    behind.set_latency(3 * SECOND);
    join_all((0..5).map(|n| sampler.sample(harness::request(&[n])))).await;
    let told = lines();
    assert!(told[1].ends_with("in progress, 4 completed") && told.len() < 8, "{told:?}");
    assert_eq!(told.last().unwrap(), "0 waiting, 0 in progress, 8 completed");

    behind.expire_next();
    sampler.sample(harness::request(&[1])).await.unwrap();
    behind.fail_next(ErrorCategory::Server, "broken");
    sampler.sample(harness::request(&[1])).await.unwrap_err();
    sampler.sample(harness::request(&[1])).await.unwrap();
    let told = lines();
    assert_eq!(
        told[told.len() - 3..],
        [
            "0 waiting, 0 in progress, 9 completed, 1 retries, Expired: 1",
            "0 waiting, 0 in progress, 9 completed, 1 retries, RequestFailed: 1",
            "0 waiting, 0 in progress, 10 completed",
        ]
    );
}
