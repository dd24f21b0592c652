//! Connecting: the environment, lazily or at once, once for all, and what a session is told.

use futures_util::future::join_all;
use serde_json::json;
use tinkex_client::{ErrorKind, FinishReason, ServiceClient};
use tinkex_testkit::{FakeServer, Gate, Received, Step};
use tracing::Level;

use super::{CONNECTING, MINUTE, SECOND, of_model, pass, settle, steered};
use crate::environment::in_environment;
use crate::harness::{self, MODEL};
use crate::log_capture::LogCapture;

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
    if !in_environment("session::connecting::the_environment", &variables) {
        return;
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let server = FakeServer::new();
        let bare = || ServiceClient::builder().transport(harness::transport(&server));
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
    let (log, _guard) = LogCapture::start();
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

/// PROTOCOL 4.2, OPEN_SERVERS rows 14, 15: a server without flags has their defaults, and is not asked again.
#[tokio::test(start_paused = true)]
async fn servers_without_flags() {
    let server = FakeServer::new();
    server.script("client/config", [Step::status(404)]);
    server.script("client/dynamic_config", [Step::status(404)]);
    let (_service, sampler) = harness::sampler(&server).await;
    let holder = sampler.handle().holder;
    assert_eq!(holder.client_config, Default::default());
    assert_eq!(holder.client_dynamic_config, Default::default());
    pass(20 * MINUTE).await;
    assert_eq!(server.count("client/dynamic_config"), 1);
    assert!(server.count("session_heartbeat") >= 119);
    server.verify().unwrap();
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
