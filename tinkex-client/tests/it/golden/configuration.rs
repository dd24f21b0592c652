//! The flags: what is asked, and what the answers mean.

use serde_json::{Value, json};
use tinkex_client::SamplerHandle;
use tinkex_testkit::FakeServer;

use super::fixtures::Scenario;
use super::replay;
use crate::harness::MODEL;

/// The scenarios of this file.
pub(super) const REPLAYED: &[&str] = &[
    "client_config_all_flags",
    "client_config_defaults",
    "client_dynamic_config",
    "client_dynamic_config_404",
];

/// Connects against the recorded answers; the flags as a sampler handle tells them.
async fn flags(scenario: &Scenario) -> (FakeServer, SamplerHandle) {
    let server = replay::server(scenario);
    let service = replay::client(&server).build().await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    let handle = sampler.handle();
    replay::assert_requests(&server, scenario, &[], false);
    (server, handle)
}

#[tokio::test(start_paused = true)]
async fn start_up_flags() {
    for name in ["client_config_all_flags", "client_config_defaults"] {
        let scenario = Scenario::load(name);
        let (_server, handle) = flags(&scenario).await;
        let ours: Value = serde_json::to_value(&handle.holder.client_config).unwrap();
        assert_eq!(&ours, scenario.decoded(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn dynamic_flags() {
    for name in ["client_dynamic_config", "client_dynamic_config_404"] {
        let scenario = Scenario::load(name);
        let (_server, handle) = flags(&scenario).await;
        let ours: Value = serde_json::to_value(&handle.holder.client_dynamic_config).unwrap();
        assert_eq!(&ours, scenario.decoded(), "{name}");
        assert_eq!(
            serde_json::to_value(&handle.holder.client_config).unwrap()["pjwt_auth_enabled"],
            json!(false)
        );
    }
}
