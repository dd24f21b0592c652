//! Sessions: their creation, their heartbeat, their end.

use std::time::Duration;

use serde_json::json;
use tinkex_client::{FinishReason, ServiceClient};
use tinkex_testkit::FakeServer;
use tokio::time::Instant;
use tracing::Level;

use super::fixtures::Scenario;
use super::replay;
use crate::environment::in_environment;
use crate::log_capture::LogCapture;

/// The scenarios of this file.
pub(super) const REPLAYED: &[&str] = &[
    "session_create",
    "session_create_minimal",
    "session_create_retry",
    "session_finish",
    "session_finish_no_detail",
    "session_heartbeat",
];

#[track_caller]
fn assert_created(scenario: &Scenario, server: &FakeServer, service: &ServiceClient) {
    assert_eq!(service.session_id().as_deref(), scenario.decoded()["session_id"].as_str());
    replay::assert_requests(server, scenario, &[], false);
}

/// Every optional field; tags and headers from the environment; the server's messages at their levels.
#[test]
fn session_create() {
    let scenario = Scenario::load("session_create");
    let variables: Vec<_> = scenario.raw["env"].as_object().unwrap().iter().collect();
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
    if !in_environment("golden::sessions::session_create", &variables) {
        return;
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (log, _guard) = LogCapture::start();
        let server = replay::server(&scenario);
        let call = scenario.call();
        let text = |name: &str| call[name].as_str().unwrap();
        let mut builder = replay::client(&server)
            .from_env()
            .project_id(text("project_id"))
            .display_name(text("display_name"));
        for (key, value) in call["user_metadata"].as_object().unwrap() {
            builder = builder.user_metadata(key, value.clone());
        }
        for (name, value) in call["default_headers_overrides"].as_object().unwrap() {
            builder = builder.header(name, value.as_str().unwrap());
        }
        let service = builder.build().await.unwrap();
        assert_created(&scenario, &server, &service);
        for line in scenario.raw["logs"].as_array().unwrap() {
            let level = match line["level"].as_str().unwrap() {
                "INFO" => Level::INFO,
                "WARNING" => Level::WARN,
                _ => Level::ERROR,
            };
            assert_eq!(log.messages(level), [line["message"].as_str().unwrap()]);
        }
    });
}

#[tokio::test(start_paused = true)]
async fn session_create_minimal_and_retry() {
    for name in ["session_create_minimal", "session_create_retry"] {
        let scenario = Scenario::load(name);
        let server = replay::server(&scenario);
        let service = replay::client(&server).build().await.unwrap();
        assert_created(&scenario, &server, &service);
    }
}

#[tokio::test(start_paused = true)]
async fn session_finish() {
    for (name, reason) in
        [("session_finish", FinishReason::Success), ("session_finish_no_detail", FinishReason::Interrupted)]
    {
        let scenario = Scenario::load(name);
        let server = replay::server(&scenario);
        let service = replay::client(&server).build().await.unwrap();
        match scenario.call().get("detail").and_then(|detail| detail.as_str()) {
            Some(detail) => service.close_with_detail(reason, detail).await.unwrap(),
            None => service.close(reason).await.unwrap(),
        }
        replay::assert_requests(&server, &scenario, &[], false);
    }
}

/// 200, 503, 410, ten seconds apart, and no more. The last line has this client's own words; it names the session.
#[tokio::test(start_paused = true)]
async fn session_heartbeat() {
    let (log, _guard) = LogCapture::start();
    let scenario = Scenario::load("session_heartbeat");
    let server = FakeServer::with(replay::stage(json!({}), json!({})));
    replay::play(&server, &scenario);
    let _service = replay::client(&server).build().await.unwrap();
    let connected = Instant::now();
    tokio::time::sleep(Duration::from_secs(42)).await;
    assert_eq!(scenario.raw["observed_count_in_42s"], server.count("session_heartbeat"));
    let came: Vec<_> =
        server.requests("session_heartbeat").iter().map(|r| (r.at - connected).as_millis()).collect();
    assert_eq!(came, [10_000, 20_000, 30_000]);
    replay::assert_requests(&server, &scenario, &[], false);
    let told: Vec<_> = log.lines().into_iter().filter(|line| line.level == Level::INFO).collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].fields["session_id"], "s-0001");
}

/// The older protocol's session: the same but for the version and the `type`.
#[tokio::test(start_paused = true)]
async fn classic_create_session() {
    let scenario = Scenario::load_classic("create_session");
    let server = replay::server(&scenario);
    let builder = replay::client(&server).user_metadata("a", "b");
    let service = builder.build().await.unwrap();
    assert_eq!(service.session_id().as_deref(), Some("s-0001"));
    replay::assert_requests(&server, &scenario, &[], true);
}
