//! The off switches: the builder's, and `TINKER_TELEMETRY` (PROTOCOL 9).

use tinkex_client::{FinishReason, ServiceClientBuilder};
use tinkex_testkit::{FakeServer, Step};

use super::{SECOND, invalid};
use crate::environment::in_environment;
use crate::harness::{self, MODEL, request};

/// How many requests of telemetry a session with failures makes, and how many tasks it has.
async fn session(with: impl FnOnce(ServiceClientBuilder) -> ServiceClientBuilder) -> (u64, usize) {
    let server = FakeServer::new();
    let tasks = tokio::runtime::Handle::current().metrics();
    let before = tasks.num_alive_tasks();
    let service = with(harness::reporting_builder(&server)).build().await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    let running = tasks.num_alive_tasks() - before;
    server.script("asample", [Step::status(422)]).then_behave();
    sampler.sample(request(&[1])).await.unwrap_err();
    drop(sampler.sample(invalid()));
    sampler.sample(request(&[1])).await.unwrap();
    tokio::time::sleep(SECOND * 35).await;
    service.close(FinishReason::Success).await.unwrap();
    drop((service, sampler));
    tokio::time::sleep(SECOND).await;
    assert_eq!(tasks.num_alive_tasks(), before);
    (server.count("telemetry"), running)
}

#[tokio::test(start_paused = true)]
async fn by_the_builder() {
    let (sent, tasks) = session(|builder| builder).await;
    assert!(sent >= 2, "it is on by default");
    let off = session(ServiceClientBuilder::without_telemetry).await;
    assert_eq!(off, (0, tasks - 1), "without a task of its own");
}

#[tokio::test(start_paused = true)]
async fn by_the_environment() {
    for value in ["0", "off", ""] {
        if !in_environment("telemetry::switches::by_the_environment", &[("TINKER_TELEMETRY", value)]) {
            continue;
        }
        assert_eq!(session(ServiceClientBuilder::from_env).await.0, 0);
        // The variable is for those who ask for the environment.
        assert!(session(|builder| builder).await.0 > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn on_by_the_environment() {
    if !in_environment("telemetry::switches::on_by_the_environment", &[("TINKER_TELEMETRY", "YES")]) {
        return;
    }
    assert!(session(ServiceClientBuilder::from_env).await.0 > 0);
    assert_eq!(session(|builder| builder.without_telemetry().from_env()).await.0, 0);
}
