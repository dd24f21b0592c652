//! Connecting, the session's life, flags, sampler handles, and what two services must not share.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tinkex_client::{ErrorKind, FinishReason, SamplerHandle, SamplingClient, ServiceClient};
use tinkex_testkit::service::{Dialect, Service};
use tinkex_testkit::{FakeServer, Gate, Received, Step};
use tokio::time::Instant;
use tracing::Level;

use crate::capture::Log;
use crate::environment::in_environment;
use crate::harness::{self, MODEL};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const CONNECTING: [&str; 3] = ["client/config", "client/dynamic_config", "create_session"];

/// A server and the service behind it, to be steered.
fn steered() -> (Service, FakeServer) {
    let behind = Service::new(Dialect::production());
    let server = FakeServer::with(behind.clone());
    (behind, server)
}

/// Lets virtual time pass.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Lets every task run that can run now.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// When the requests of a route came, since an instant.
fn arrivals(server: &FakeServer, route: &str, since: Instant) -> Vec<Duration> {
    server.requests(route).iter().map(|request| request.at - since).collect()
}

async fn of_model(service: &ServiceClient) -> SamplingClient {
    service.sampling_client().base_model(MODEL).create().await.unwrap()
}

/// Appendix A, PROTOCOL 9: what the environment says is used, and what the builder says wins.
#[test]
fn the_environment() {
    let variables = [
        ("TINKER_API_KEY", "tml-from-env"),
        ("TINKER_BASE_URL", "http://env.test/base/"),
        ("TINKER_PROJECT_ID", "proj-env"),
        ("TINKER_TAGS", "b,a,b"),
        ("CLOUDFLARE_ACCESS_CLIENT_ID", "cf-id"),
        ("CLOUDFLARE_ACCESS_CLIENT_SECRET", "cf-secret"),
    ];
    if !in_environment("session::the_environment", &variables) {
        return;
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let server = FakeServer::new();
        let bare = || ServiceClient::builder().transport(server.transport());
        assert_eq!(bare().build().await.unwrap_err().kind(), ErrorKind::InvalidInput, "not read unasked");

        bare().from_env().build().await.unwrap();
        let request = &server.requests("create_session")[0];
        assert_eq!(request.header("x-api-key"), Some("tml-from-env"));
        assert_eq!(request.base_path, "/base");
        assert_eq!(request.header("cf-access-client-id"), Some("cf-id"));
        assert_eq!(request.header("cf-access-client-secret"), Some("cf-secret"));
        let body = request.json().unwrap();
        assert_eq!(body["project_id"], "proj-env");
        assert_eq!(body["tags"], json!(["a", "b"]));

        let explicit =
            bare().api_key("tml-mine").base_url(server.url()).project_id("proj").tag("t").from_env();
        explicit.build().await.unwrap();
        let request = &server.requests("create_session")[1];
        assert_eq!(request.header("x-api-key"), Some("tml-mine"));
        assert_eq!(request.base_path, "");
        assert_eq!(request.json().unwrap()["project_id"], "proj");
        assert_eq!(request.json().unwrap()["tags"], json!(["t"]));
    });
}

/// An eager client is connected when it is there, a lazy one with its first operation (PROTOCOL 4.3).
#[tokio::test(start_paused = true)]
async fn lazy_and_eager_connecting() {
    let server = FakeServer::new();
    let eager = harness::service(&server).await;
    server.assert_order(&CONNECTING);
    assert!(eager.session_id().is_some());
    drop(eager);

    let server = FakeServer::new();
    let lazy = harness::builder(&server).connect_lazily().build().await.unwrap();
    settle().await;
    assert_eq!(server.all_requests().len(), 0);
    assert_eq!((lazy.session_id(), lazy.dispatch_available()), (None, None));
    assert!(!lazy.in_backoff() && lazy.inflight().is_empty());
    lazy.rest_client().health().await.unwrap();
    assert_eq!(server.count("create_session"), 0, "the REST client needs no session");
    of_model(&lazy).await;
    server.assert_order(&CONNECTING);
    assert!(lazy.session_id().is_some());
}

/// S1-02: many clients made at once share one session, also where its creation takes a while.
#[tokio::test(start_paused = true)]
async fn one_session_for_all() {
    let server = FakeServer::new();
    let gate = Gate::new();
    server.script("create_session", [Step::behave().gate(&gate)]);
    let service = harness::builder(&server).connect_lazily().build().await.unwrap();
    let making: Vec<_> = (0..20)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move { of_model(&service).await })
        })
        .collect();
    gate.arrived(1).await;
    settle().await;
    gate.open();
    let samplers: Vec<_> = join_all(making).await.into_iter().map(Result::unwrap).collect();
    server.assert_order(&CONNECTING);
    let mut numbers: Vec<_> = server
        .requests("create_sampling_session")
        .iter()
        .map(|request| request.field("sampling_session_seq_id").unwrap().as_u64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    let mut ids: Vec<_> = samplers.iter().map(|s| s.sampling_session_id().to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

/// A connection that failed is made anew by the next operation.
#[tokio::test(start_paused = true)]
async fn connecting_again_after_a_failure() {
    let server = FakeServer::new();
    server.script("create_session", [Step::status(403)]).then_behave();
    let service = harness::builder(&server).connect_lazily().build().await.unwrap();
    let failed = service.sampling_client().base_model(MODEL).create().await.unwrap_err();
    assert_eq!((failed.kind(), failed.status()), (ErrorKind::Status, Some(403)));
    assert_eq!(service.session_id(), None);
    of_model(&service).await;
    assert_eq!(server.count("create_session"), 2);
}

/// PROTOCOL 10.1: every optional field of a session, and what is sent without them.
#[tokio::test(start_paused = true)]
async fn session_fields() {
    let server = FakeServer::new();
    harness::service(&server).await;
    harness::builder(&server)
        .project_id("proj-1")
        .display_name("My run")
        .tag("b")
        .tag("a")
        .user_metadata("k", "v")
        .user_metadata("n", 3)
        .header("x-team", "blue")
        .build()
        .await
        .unwrap();
    let sessions = server.requests("create_session");
    let version = sessions[0].field("sdk_version").unwrap().clone();
    let minimal =
        json!({ "tags": [], "user_metadata": {}, "sdk_version": version, "type": "create_session" });
    assert_eq!(*sessions[0].json().unwrap(), minimal);
    let mut full = sessions[1].json().unwrap().clone();
    full["tags"].as_array_mut().unwrap().sort_by_key(|tag| tag.to_string());
    let expected = json!({
        "tags": ["a", "b"],
        "user_metadata": { "k": "v", "n": 3 },
        "sdk_version": version,
        "project_id": "proj-1",
        "display_name": "My run",
        "type": "create_session",
    });
    assert_eq!(full, expected);
    let with_header: Vec<_> =
        server.all_requests().iter().map(|request| request.header("x-team").is_some()).collect();
    assert_eq!(with_header, [false, false, false, true, true, true]);
}

/// PROTOCOL 10.1: what the service wants its user to know is logged, at its level; blanks are not.
#[tokio::test(start_paused = true)]
async fn server_messages() {
    let (log, _guard) = Log::start();
    let server = FakeServer::new();
    let talkative = json!({
        "session_id": "s-1", "info_message": "hello", "warning_message": "old version", "error_message": "broken",
    });
    let quiet = json!({ "session_id": "s-2", "info_message": "", "warning_message": null });
    server.script("create_session", [Step::json(talkative), Step::json(quiet)]);
    let first = harness::service(&server).await;
    let second = harness::service(&server).await;
    assert_eq!((first.session_id().as_deref(), second.session_id().as_deref()), (Some("s-1"), Some("s-2")));
    assert_eq!(log.messages(Level::INFO), ["hello"]);
    assert_eq!(log.messages(Level::WARN), ["old version"]);
    assert_eq!(log.messages(Level::ERROR), ["broken"]);
}

/// PROTOCOL 10.2: a heartbeat every 10 s, the first after 10 s.
#[tokio::test(start_paused = true)]
async fn heartbeats() {
    let (behind, server) = steered();
    let service = harness::service(&server).await;
    let connected = Instant::now();
    pass(35 * SECOND).await;
    let came = arrivals(&server, "session_heartbeat", connected);
    assert_eq!(came.len(), 3);
    for (n, at) in came.iter().enumerate() {
        let due = (n as u32 + 1) * 10 * SECOND;
        assert!(*at >= due && *at < due + Duration::from_millis(100), "heartbeat {n} came at {at:?}");
    }
    let id = service.session_id().unwrap();
    assert_eq!(behind.heartbeats(&id), 3);
    let body = server.requests("session_heartbeat")[0].json().unwrap().clone();
    assert_eq!(body, json!({ "session_id": *id, "type": "session_heartbeat" }));
}

/// PROTOCOL 10.2: 410 ends the heartbeat for good, quietly.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_over() {
    let (log, _guard) = Log::start();
    let server = FakeServer::new();
    server.script("session_heartbeat", [Step::behave(), Step::status(410)]);
    let service = harness::service(&server).await;
    pass(10 * MINUTE).await;
    assert_eq!(server.count("session_heartbeat"), 2);
    let told: Vec<_> = log.lines().into_iter().filter(|line| line.level == Level::INFO).collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].fields["session_id"], *service.session_id().unwrap());
    assert!(log.messages(Level::WARN).is_empty());
}

/// SE-1: after 120 s without a success every failing heartbeat is a warning, until one succeeds.
#[tokio::test(start_paused = true)]
async fn failing_heartbeats() {
    let (log, _guard) = Log::start();
    let server = FakeServer::new();
    let failing = Step::status(500);
    server
        .script("session_heartbeat", [Step::behave(), failing.clone().repeat(15), Step::behave(), failing])
        .then_repeat_last();
    let _service = harness::service(&server).await;
    let connected = Instant::now();
    // The last success is at 10 s; at 130 s exactly 120 s have passed, which is not yet too long.
    pass(135 * SECOND).await;
    assert_eq!(log.messages(Level::WARN), Vec::<String>::new());
    pass(30 * SECOND).await;
    let silences = |log: &Log| -> Vec<String> {
        let warnings = log.messages(Level::WARN).into_iter();
        warnings.map(|text| text.split_once(" s;").unwrap().0.to_owned()).collect()
    };
    let expected = [130, 140, 150].map(|s| format!("no successful heartbeat for {s}"));
    assert_eq!(silences(&log), expected);
    // One attempt each time: failures are not repeated in between.
    assert_eq!(arrivals(&server, "session_heartbeat", connected).len(), 16);
    // The success at 170 s begins the count anew.
    pass(125 * SECOND).await;
    assert_eq!(silences(&log), expected);
    pass(15 * SECOND).await;
    assert_eq!(silences(&log)[3..], ["no successful heartbeat for 130"]);
}

/// SE-1, F-17: a heartbeat that hangs is given up after 10 s, and does not delay those of another session.
#[tokio::test(start_paused = true)]
async fn hanging_heartbeats() {
    let server = FakeServer::new();
    let a = harness::service(&server).await;
    let b = harness::service(&server).await;
    let connected = Instant::now();
    let id = a.session_id().unwrap();
    server
        .script_when(
            "session_heartbeat",
            {
                let id = id.clone();
                move |request| request.text("session_id") == Some(&id)
            },
            [Step::hang()],
        )
        .then_repeat_last();
    pass(65 * SECOND).await;
    let of = |session: &Arc<str>| -> Vec<u64> {
        let all = server.requests("session_heartbeat");
        let own = all.iter().filter(|request| request.text("session_id") == Some(session));
        own.map(|request| (request.at - connected).as_secs()).collect()
    };
    assert_eq!(of(&b.session_id().unwrap()), [10, 20, 30, 40, 50, 60]);
    assert_eq!(of(&id), [10, 30, 50], "10 s of pause and 10 s of waiting");
}

/// PROTOCOL 10.3: the end of a session, with a detail and without; the body says null then.
#[tokio::test(start_paused = true)]
async fn closing() {
    let (behind, server) = steered();
    let reasons = [
        (FinishReason::Success, Some("training complete"), "success"),
        (FinishReason::Errored, Some("it broke"), "errored"),
        (FinishReason::Interrupted, None, "interrupted"),
    ];
    for (reason, detail, word) in reasons {
        let service = harness::service(&server).await;
        let id = service.session_id().unwrap();
        match detail {
            Some(detail) => service.close_with_detail(reason, detail).await.unwrap(),
            None => service.close(reason).await.unwrap(),
        }
        let requests = server.requests("sessions/*/finish");
        let request = requests.last().unwrap();
        assert_eq!(request.route(), format!("sessions/{id}/finish"));
        assert_eq!(*request.json().unwrap(), json!({ "reason": { "type": word }, "detail": detail }));
    }
    assert!(behind.sessions().iter().all(|session| session.finished.is_some()));
}

/// After `close` new calls fail with a kind of their own and nothing is sent any more; what is in flight goes on.
#[tokio::test(start_paused = true)]
async fn calls_after_close() {
    let server = FakeServer::new();
    let (service, sampler) = harness::sampler(&server).await;
    let gate = Gate::new();
    server.script("retrieve_future", [Step::behave().gate(&gate)]);
    let pending = sampler.sample(harness::request(&[1]));
    gate.arrived(1).await;
    service.close(FinishReason::Success).await.unwrap();

    let late = sampler.sample(harness::request(&[2])).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
    assert!(!late.is_retryable());
    let late = sampler.compute_logprobs(vec![1]).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
    let late = sampler.resume("req-00000001").await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
    let late = service.sampling_client().base_model(MODEL).create().await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
    service.clone().close(FinishReason::Errored).await.unwrap();
    assert_eq!(server.count("sessions/*/finish"), 1, "closing twice is closing once");
    assert_eq!(server.count("asample"), 1);

    gate.open();
    pending.await.unwrap();
    let before = server.all_requests().len();
    pass(10 * MINUTE).await;
    let after: Vec<_> = server.all_requests()[before..].iter().map(|r| r.route().to_owned()).collect();
    assert_eq!(after, Vec::<String>::new(), "heartbeat and refresh have ended");
}

/// Closing what was never connected sends nothing.
#[tokio::test(start_paused = true)]
async fn closing_before_connecting() {
    let server = FakeServer::new();
    let service = harness::builder(&server).connect_lazily().build().await.unwrap();
    service.close(FinishReason::Success).await.unwrap();
    let late = service.sampling_client().base_model(MODEL).create().await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
    assert_eq!(server.all_requests().len(), 0);
}

/// Closing while the client connects: the session that comes of it is finished, and what wanted it fails.
#[tokio::test(start_paused = true)]
async fn closing_while_connecting() {
    let (behind, server) = steered();
    let gate = Gate::new();
    server.script("create_session", [Step::behave().gate(&gate)]);
    let service = harness::builder(&server).connect_lazily().build().await.unwrap();
    let creating = tokio::spawn(service.sampling_client().base_model(MODEL).create());
    gate.arrived(1).await;
    let closing = tokio::spawn({
        let service = service.clone();
        async move { service.close(FinishReason::Interrupted).await }
    });
    settle().await;
    gate.open();
    let late = creating.await.unwrap().unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
    closing.await.unwrap().unwrap();
    assert!(behind.sessions()[0].finished.is_some());
    pass(MINUTE).await;
    assert_eq!((server.count("create_sampling_session"), server.count("session_heartbeat")), (0, 0));
}

/// A server that cannot be told is an error of `close`, and the client is closed all the same.
#[tokio::test(start_paused = true)]
async fn closing_that_fails() {
    let server = FakeServer::new();
    server.script("sessions/*/finish", [Step::status(404)]);
    let service = harness::service(&server).await;
    let error = service.close(FinishReason::Success).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(404)));
    pass(MINUTE).await;
    assert_eq!(server.count("session_heartbeat"), 0);
}

/// F-18: tasks end with their last owner, and not before: a pending sample keeps the session alive.
#[tokio::test(start_paused = true)]
async fn tasks_end_with_the_last_client() {
    let (behind, server) = steered();
    behind.set_dynamic_config(&json!({ "refresh_interval_sec": 15 }));
    behind.set_latency(10 * MINUTE);
    let (service, sampler) = harness::sampler(&server).await;
    let clone = sampler.clone();
    let pending = sampler.sample(harness::request(&[1]));
    drop((service, sampler));
    pass(MINUTE).await;
    assert_eq!(server.count("session_heartbeat"), 5, "at 10, 20, 30, 40, 50 s");
    drop(clone);
    pass(MINUTE).await;
    assert!(server.count("session_heartbeat") >= 10, "the sample still wants its result");
    assert!(server.count("client/dynamic_config") >= 5);

    drop(pending);
    settle().await;
    let before = server.all_requests().len();
    pass(10 * MINUTE).await;
    assert_eq!(server.all_requests().len(), before, "{}", server.summary());
    assert_eq!(server.in_flight("**"), 0);
}

/// PROTOCOL 4.2: the dynamic flags are fetched again after their own interval, 10 s at least. A failure keeps what was
/// known, and is not repeated before its time.
#[tokio::test(start_paused = true)]
async fn dynamic_flags_are_refreshed() {
    let (behind, server) = steered();
    behind.set_dynamic_config(&json!({ "refresh_interval_sec": 1 }));
    let (_service, sampler) = harness::sampler(&server).await;
    let flags = |sampler: &SamplingClient| sampler.handle().unwrap().holder.client_dynamic_config;
    let connected = Instant::now();
    pass(15 * SECOND).await;
    behind.set_dynamic_config(&json!({ "refresh_interval_sec": 60, "sample_cancel_max_batch_size": 3 }));
    pass(10 * SECOND).await;
    assert_eq!(flags(&sampler).sample_cancel_max_batch_size, 3);
    // At 80 s it fails, at 140 s too, at 200 s it is well again.
    server.script("client/dynamic_config", [Step::status(500), Step::reset()]).then_behave();
    behind.set_dynamic_config(&json!({ "refresh_interval_sec": 30, "sample_cancel_max_batch_size": 9 }));
    pass(120 * SECOND).await;
    assert_eq!(flags(&sampler).sample_cancel_max_batch_size, 3, "failures keep what was known");
    pass(95 * SECOND).await;
    assert_eq!(flags(&sampler).sample_cancel_max_batch_size, 9);
    let seconds: Vec<_> =
        arrivals(&server, "client/dynamic_config", connected)[1..].iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [10, 20, 80, 140, 200, 230]);
}

/// PROTOCOL 4.2, OPEN_SERVERS rows 14, 15: a server without flags has their defaults, and is not asked again.
#[tokio::test(start_paused = true)]
async fn servers_without_flags() {
    let server = FakeServer::new();
    server.script("client/config", [Step::status(404)]);
    server.script("client/dynamic_config", [Step::status(404)]);
    let (_service, sampler) = harness::sampler(&server).await;
    let holder = sampler.handle().unwrap().holder;
    assert_eq!(holder.client_config, Default::default());
    assert_eq!(holder.client_dynamic_config, Default::default());
    pass(20 * MINUTE).await;
    assert_eq!(server.count("client/dynamic_config"), 1);
    assert!(server.count("session_heartbeat") >= 119);
    server.verify().unwrap();
}

/// A start-up failure that is neither 404 nor passing is the builder's error.
#[tokio::test(start_paused = true)]
async fn refused_flags() {
    for route in ["client/config", "client/dynamic_config"] {
        let server = FakeServer::new();
        server.script(route, [Step::status(503), Step::status(403)]).then_behave();
        let error = harness::builder(&server).build().await.unwrap_err();
        assert_eq!((error.kind(), error.status(), error.attempts()), (ErrorKind::Status, Some(403), 2));
        assert_eq!(server.count("create_session"), 0);
    }
}

fn payload(request: &Received) -> bool {
    request.route() == "retrieve_future" && request.field("allow_metadata_only") == Some(&json!(false))
}

async fn with_flags(flags: Value) -> (Service, FakeServer, ServiceClient, SamplingClient) {
    let (behind, server) = steered();
    behind.set_client_config(&flags);
    let (service, sampler) = harness::sampler(&server).await;
    (behind, server, service, sampler)
}

/// `sample_max_concurrent_requests` limits samples from submission to result; the client's own limit can be lower.
#[tokio::test(start_paused = true)]
async fn the_flag_for_concurrent_samples() {
    let (_behind, server, service, sampler) =
        with_flags(json!({ "sample_max_concurrent_requests": 3 })).await;
    let gate = Gate::new();
    server.script("retrieve_future", [Step::behave().gate(&gate)]).then_repeat_last();
    let handles: Vec<_> = (0..8).map(|n| sampler.sample(harness::request(&[n]))).collect();
    gate.arrived(3).await;
    settle().await;
    assert_eq!(server.count("asample"), 3);
    let lower = service.sampling_client().base_model(MODEL).max_in_flight(2).create().await.unwrap();
    let higher = service.sampling_client().base_model(MODEL).max_in_flight(9).create().await.unwrap();
    let more: Vec<_> =
        (0..5).flat_map(|n| [&lower, &higher].map(|s| s.sample(harness::request(&[n])))).collect();
    gate.arrived(8).await;
    settle().await;
    assert_eq!(server.count("asample"), 3 + 2 + 3, "each sampling client has its own limit");
    gate.open();
    assert!(join_all(handles).await.iter().chain(&join_all(more).await).all(Result::is_ok));
    assert_eq!(server.max_in_flight("retrieve_future"), 8);
}

/// `sample_dispatch_bytes_semaphore_size` limits the estimated bytes being submitted; the budget may be overdrawn by
/// one (PROTOCOL 12.5), so with 10 bytes two prompts of 10 are on their way.
#[tokio::test(start_paused = true)]
async fn the_flag_for_submission_bytes() {
    let (_behind, server, service, sampler) =
        with_flags(json!({ "sample_dispatch_bytes_semaphore_size": 10 })).await;
    let gate = Gate::new();
    server.script("asample", [Step::behave().gate(&gate)]).then_repeat_last();
    let handles: Vec<_> = (0..6).map(|n| sampler.sample(harness::request(&[n]))).collect();
    gate.arrived(2).await;
    settle().await;
    assert_eq!(server.count("asample"), 2);
    assert_eq!(service.dispatch_available().unwrap().1, -10);
    gate.open();
    assert!(join_all(handles).await.iter().all(Result::is_ok));
    assert_eq!(server.max_in_flight("asample"), 2);
    assert_eq!(service.dispatch_available().unwrap().1, 10);
}

/// `inflight_response_bytes_semaphore_size` limits announced results being fetched.
#[tokio::test(start_paused = true)]
async fn the_flag_for_response_bytes() {
    let (behind, server, _service, sampler) =
        with_flags(json!({ "inflight_response_bytes_semaphore_size": 1 })).await;
    behind.set_metadata_threshold(0);
    let gate = Gate::new();
    server.script_when("retrieve_future", payload, [Step::behave().gate(&gate)]).then_repeat_last();
    let handles: Vec<_> = (0..5).map(|n| sampler.sample(harness::request(&[n]))).collect();
    for _ in 0..5 {
        gate.arrived(1).await;
        settle().await;
        assert_eq!(gate.waiting(), 1, "one result is larger than the budget, so they come one by one");
        gate.release(1);
        settle().await;
    }
    assert!(join_all(handles).await.iter().all(Result::is_ok));
    let fetched = server.requests("retrieve_future").iter().filter(|request| payload(request)).count();
    assert_eq!(fetched, 5);
}

/// `sample_no_retries` lifts the limit of samples in flight and lets a lost promise surface.
#[tokio::test(start_paused = true)]
async fn the_flag_for_no_retries() {
    let flags = json!({ "sample_no_retries": true, "sample_max_concurrent_requests": 1 });
    let (behind, server, _service, sampler) = with_flags(flags).await;
    let gate = Gate::new();
    server.script("asample", [Step::behave().gate(&gate)]).then_repeat_last();
    let handles: Vec<_> = (0..4).map(|n| sampler.sample(harness::request(&[n]))).collect();
    gate.arrived(4).await;
    gate.open();
    assert!(join_all(handles).await.iter().all(Result::is_ok));
    behind.expire_next();
    let lost = sampler.sample(harness::request(&[1])).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Expired);
    assert!(lost.is_retryable());
    assert_eq!(server.count("asample"), 5);

    let (behind, server, _service, sampler) = with_flags(json!({})).await;
    behind.expire_next();
    sampler.sample(harness::request(&[1])).await.unwrap();
    assert_eq!(server.seq_ids("asample"), [0, 1], "without the flag it is submitted anew");
}

/// `sample_use_retrieve_futures`: one poll announces results, and only finished ones are fetched.
#[tokio::test(start_paused = true)]
async fn the_flag_for_the_session_poller() {
    let flags = json!({ "sample_use_retrieve_futures": true, "sample_max_concurrent_requests": 1 });
    let (behind, server, service, sampler) = with_flags(flags).await;
    behind.set_latency(50 * SECOND);
    let replies = join_all((0..10).map(|n| sampler.sample(harness::request(&[n])))).await;
    assert!(replies.iter().all(Result::is_ok));
    assert_eq!(server.count("retrieve_future"), 10, "no poll of a pending promise");
    assert_eq!(server.max_in_flight("retrieve_futures"), 1);
    assert!(server.max_in_flight("asample") == 10, "the flag lifts the limit of samples in flight");
    let polls = server.requests("retrieve_futures");
    let target = json!({
        "type": "sampling_session",
        "sampling_session_id": sampler.sampling_session_id(),
        "cloned_sampler_id": 0,
    });
    assert!(polls.iter().all(|poll| poll.field("target") == Some(&target)));
    sampler.close().await;
    let late = sampler.sample(harness::request(&[1])).await.unwrap_err();
    assert_ne!(late.kind(), ErrorKind::InvalidInput);
    assert!(service.inflight().is_empty());
}

/// `sample_cancel_enabled` and `sample_cancel_max_batch_size` (PROTOCOL 15.8), read when they are needed.
#[tokio::test(start_paused = true)]
async fn the_flags_for_cancellation() {
    let (behind, server) = steered();
    behind.set_latency(60 * MINUTE);
    behind.set_dynamic_config(&json!({ "refresh_interval_sec": 10 }));
    let (service, sampler) = harness::sampler(&server).await;
    let start = |count: u64| {
        let handles: Vec<_> = (0..count).map(|n| sampler.sample(harness::request(&[n as i32]))).collect();
        let before = server.count("retrieve_future");
        (handles, before + count)
    };
    let (quiet, polls) = start(2);
    server.wait_for("retrieve_future", polls).await;
    drop(quiet);
    pass(5 * SECOND).await;
    assert_eq!(server.count("cancel_future"), 0, "not wanted");

    behind.set_dynamic_config(&json!({ "sample_cancel_enabled": true, "sample_cancel_max_batch_size": 2 }));
    pass(10 * SECOND).await;
    let gate = Gate::new();
    server.script("cancel_future", [Step::behave().gate(&gate)]).then_repeat_last();
    let (handles, polls) = start(5);
    server.wait_for("retrieve_future", polls).await;
    let mut wanted: Vec<_> = handles.iter().map(|handle| handle.request_id().unwrap().to_string()).collect();
    drop(handles);
    gate.arrived(1).await;
    settle().await;
    assert!(gate.waiting() <= 2, "{} at once", gate.waiting());
    gate.open();
    server.wait_for("cancel_future", 5).await;
    settle().await;
    assert!(server.max_in_flight("cancel_future") <= 2);
    let mut cancelled = behind.cancelled();
    cancelled.sort();
    wanted.sort();
    assert_eq!(cancelled, wanted);
    // What the batch limit holds back when the session is closed is sent before the session is finished.
    let (handles, polls) = start(5);
    server.wait_for("retrieve_future", polls).await;
    drop(handles);
    settle().await;
    service.close(FinishReason::Interrupted).await.unwrap();
    assert_eq!(behind.cancelled().len(), 10);
    assert_eq!(server.all_requests().last().unwrap().segments().last(), Some("finish"));
}

/// PROTOCOL 5.1: requests on behalf of a public method name it; start-up traffic and background loops do not.
#[tokio::test(start_paused = true)]
async fn public_methods_are_named() {
    let (behind, server) = steered();
    behind.set_client_config(&json!({ "sample_use_retrieve_futures": true }));
    behind.set_dynamic_config(&json!({ "sample_cancel_enabled": true }));
    let (service, sampler) = harness::sampler(&server).await;
    service.sampling_client().model_path("tinker://run-0001/sampler_weights/demo").create().await.unwrap();
    sampler.sample(harness::request(&[1])).await.unwrap();
    behind.set_latency(MINUTE);
    let pending = sampler.sample(harness::request(&[1]));
    server.wait_for("asample", 2).await;
    settle().await;
    drop(pending);
    service.rest_client().health().await.unwrap();
    service.server_capabilities().await.unwrap();
    service.rest_client().server_capabilities().await.unwrap();
    server.wait_for("cancel_future", 1).await;
    server.wait_for("session_heartbeat", 1).await;
    service.close(FinishReason::Success).await.unwrap();
    let named = |request: &Received| match (request.header("x-sdk-method"), request.header("x-sdk-version")) {
        (None, None) => false,
        (Some(method), Some(_)) => method.contains('.'),
        halves => panic!("{request:?} has only half of it: {halves:?}"),
    };
    let mut seen: Vec<_> = server
        .all_requests()
        .iter()
        .map(|request| (request.segments().last().unwrap().to_owned(), named(request)))
        .collect();
    seen.iter_mut()
        .filter(|(route, _)| route.contains(':'))
        .for_each(|(route, _)| *route = "samplers".into());
    seen.sort();
    seen.dedup();
    let expected = [
        ("asample", true),
        ("cancel_future", false),
        ("config", false),
        ("create_sampling_session", true),
        ("create_session", false),
        ("dynamic_config", false),
        ("finish", true),
        ("get_server_capabilities", true),
        ("healthz", true),
        ("retrieve_future", true),
        ("retrieve_futures", false),
        ("samplers", true),
        ("session_heartbeat", false),
    ];
    assert_eq!(seen, expected.map(|(route, named)| (route.to_owned(), named)));
}

/// The REST client says how the service is and what it has.
#[tokio::test(start_paused = true)]
async fn health_and_capabilities() {
    let server = FakeServer::new();
    let service = harness::builder(&server).connect_lazily().build().await.unwrap();
    let rest = service.rest_client();
    assert_eq!(rest.health().await.unwrap().status, "ok");
    let capabilities = rest.server_capabilities().await.unwrap();
    let names: Vec<_> =
        capabilities.supported_models.iter().filter_map(|m| m.model_name.as_deref()).collect();
    assert!(names.contains(&MODEL), "{names:?}");
    assert_eq!(service.server_capabilities().await.unwrap(), capabilities);
    server.script("healthz", [Step::status(503), Step::status(401)]);
    let error = rest.health().await.unwrap_err();
    assert_eq!((error.kind(), error.status(), error.attempts()), (ErrorKind::Status, Some(401), 2));
    assert!(server.all_requests().iter().all(|request| request.method == "GET"));
}

/// PROTOCOL 15.7: a sampler as text, opened elsewhere: the same sampling session, a block of ids of its own, the
/// heartbeat of the same session, and neither flags nor a session are asked for.
#[tokio::test(start_paused = true)]
async fn a_sampler_handle_opened_elsewhere() {
    let server = FakeServer::new();
    let service = harness::builder(&server).header("x-team", "blue").build().await.unwrap();
    let sampler = of_model(&service).await;
    sampler.sample(harness::request(&[1])).await.unwrap();
    let text = sampler.handle().unwrap().to_string();
    assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=".contains(&b)), "URL-safe: {text}");
    assert!(!text.contains("tml-test"));
    let handle: SamplerHandle = text.parse().unwrap();
    assert_eq!(handle, sampler.handle().unwrap());
    let session = service.session_id().unwrap();
    let connected = server.all_requests().len();
    drop((service, sampler));

    let elsewhere = ServiceClient::builder().api_key("tml-other").transport(server.transport());
    let opened = elsewhere.open_sampler(&handle).await.unwrap();
    assert_eq!(opened.sampling_session_id(), handle.sampling_session_id);
    assert_eq!(opened.base_model(), MODEL);
    opened.sample(harness::request(&[1])).await.unwrap();
    opened.sample(harness::request(&[2])).await.unwrap();
    pass(25 * SECOND).await;
    let later = &server.all_requests()[connected..];
    let routes: Vec<_> = later.iter().map(|request| request.route()).collect();
    let expected = [
        "asample",
        "retrieve_future",
        "asample",
        "retrieve_future",
        "session_heartbeat",
        "session_heartbeat",
    ];
    assert_eq!(routes, expected);
    assert!(later.iter().all(|request| request.header("x-api-key") == Some("tml-other")));
    assert!(later.iter().all(|request| request.header("x-team") == Some("blue")), "overrides travel along");
    assert_eq!(later[4].text("session_id"), Some(&*session));
    let ids: Vec<_> = later.iter().filter_map(|request| request.seq_id()).collect();
    assert_eq!(ids[1], ids[0] + 1);
    assert_eq!(ids[0] % 1_000_000_000, 0);
    assert!((1..=1_000_000_000).contains(&(ids[0] / 1_000_000_000)), "{ids:?}");

    drop(opened);
    let before = server.all_requests().len();
    pass(10 * MINUTE).await;
    assert_eq!(server.all_requests().len(), before, "the opened sampler's tasks have ended with it");
}

/// A handle that asks for stability records has them asked for by every sample, here and when it is passed on.
#[tokio::test(start_paused = true)]
async fn a_handle_that_records_stability() {
    let server = FakeServer::new();
    let (_service, sampler) = harness::sampler(&server).await;
    let mut handle = sampler.handle().unwrap();
    handle.record_stability_info = true;
    let opened = harness::builder(&server).open_sampler(&handle).await.unwrap();
    assert_eq!(opened.handle().unwrap(), handle);
    sampler.sample(harness::request(&[1])).await.unwrap();
    opened.sample(harness::request(&[1])).await.unwrap();
    let asked = server.requests("asample");
    assert_eq!(asked[0].field("record_stability_info"), None);
    assert_eq!(asked[1].field("record_stability_info"), Some(&json!(true)));
}

/// PROTOCOL 3.4: a server that asks for the JWT exchange, which this version lacks, is told the key itself, and the log
/// says so.
#[tokio::test(start_paused = true)]
async fn the_flag_for_the_jwt_exchange() {
    let (log, _guard) = Log::start();
    let (_behind, server, _service, sampler) = with_flags(json!({ "pjwt_auth_enabled": true })).await;
    sampler.sample(harness::request(&[1])).await.unwrap();
    let warnings = log.messages(Level::WARN);
    assert!(warnings.len() == 1 && warnings[0].contains("JWT"), "{warnings:?}");
    assert!(server.all_requests().iter().all(|request| request.header("x-api-key") == Some("tml-test")));
    assert_eq!(server.count("auth/token"), 0);
}

/// PROTOCOL 15.7: clones draw different blocks, never the creator's.
#[tokio::test(start_paused = true)]
async fn random_blocks_differ() {
    let server = FakeServer::new();
    let (_service, sampler) = harness::sampler(&server).await;
    let handle = sampler.handle().unwrap();
    let mut blocks = Vec::new();
    for _ in 0..20 {
        let opened = harness::builder(&server).open_sampler(&handle).await.unwrap();
        opened.sample(harness::request(&[1])).await.unwrap();
        blocks.push(server.seq_ids("asample").last().unwrap() / 1_000_000_000);
    }
    assert!(blocks.iter().all(|block| (1..=1_000_000_000).contains(block)), "{blocks:?}");
    blocks.sort_unstable();
    blocks.dedup();
    assert_eq!(blocks.len(), 20);
}

/// `sample_join_sampling_session`: the server gives the block (PROTOCOL 15.7).
#[tokio::test(start_paused = true)]
async fn joining_a_sampling_session() {
    let (_behind, server, _service, sampler) =
        with_flags(json!({ "sample_join_sampling_session": true })).await;
    sampler.sample(harness::request(&[1])).await.unwrap();
    let handle = sampler.handle().unwrap();
    for _ in 0..2 {
        let opened = harness::builder(&server).open_sampler(&handle).await.unwrap();
        join_all((0..3).map(|n| opened.sample(harness::request(&[n])))).await;
    }
    let mut ids = server.seq_ids("asample");
    ids.sort_unstable();
    let block = 1_000_000_000;
    assert_eq!(ids, [0, block, block + 1, block + 2, 2 * block, 2 * block + 1, 2 * block + 2]);
    let joins = server.requests("join_sampling_session");
    assert_eq!(joins.len(), 2);
    let body =
        json!({ "sampling_session_id": sampler.sampling_session_id(), "type": "join_sampling_session" });
    assert_eq!(*joins[0].json().unwrap(), body);
}

/// S1-12, S1-15: two services in one process share nothing: keys, headers, ids, and where they send.
#[tokio::test(start_paused = true)]
async fn two_services_are_isolated() {
    let servers = [FakeServer::new(), FakeServer::new()];
    let mut clients = Vec::new();
    for (server, name) in servers.iter().zip(["a", "b"]) {
        let builder = harness::builder(server).api_key(format!("tml-{name}")).header("x-name", name);
        let service = builder.tag(name).build().await.unwrap();
        let sampler = of_model(&service).await;
        clients.push((service, sampler));
    }
    let samples =
        clients.iter().flat_map(|(_, sampler)| (0..10).map(|n| sampler.sample(harness::request(&[n]))));
    assert!(join_all(samples).await.iter().all(Result::is_ok));
    pass(15 * SECOND).await;
    for ((server, name), (service, sampler)) in servers.iter().zip(["a", "b"]).zip(&clients) {
        let all = server.all_requests();
        assert!(all.iter().all(|request| request.header("x-api-key") == Some(&format!("tml-{name}"))));
        assert!(all.iter().all(|request| request.header("x-name") == Some(name)));
        let sessions: Vec<_> = all.iter().filter_map(|request| request.text("session_id")).collect();
        assert!(sessions.iter().all(|id| *id == &*service.session_id().unwrap()));
        let samplers: Vec<_> = all.iter().filter_map(|r| r.text("sampling_session_id")).collect();
        assert!(samplers.iter().all(|id| *id == sampler.sampling_session_id()));
        let mut ids = server.seq_ids("asample");
        ids.sort_unstable();
        assert_eq!(ids, (0..10).collect::<Vec<_>>());
        assert_eq!(server.requests("create_session")[0].field("tags"), Some(&json!([name])));
    }
}
