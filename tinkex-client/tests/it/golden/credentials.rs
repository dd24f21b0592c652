//! Credentials: the key to ask for flags with, the exchange, the replay after a rejected token.

use serde_json::{Value, json};
use tinkex_client::{ServiceClientBuilder, WallClock};

use super::fixtures::Scenario;
use super::replay;

/// The scenarios of this file.
pub(super) const REPLAYED: &[&str] =
    &["auth_credential_cmd", "auth_jwt_exchange", "auth_jwt_invalid_token_replay"];

/// The scenario with real tokens for its placeholders: they expire when it says, and were issued an hour before that.
fn load(name: &str) -> Scenario {
    use base64::Engine as _;
    let scenario = Scenario::load(name);
    let now = WallClock::default().now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let tokens = scenario.raw["jwt_seconds_to_expiry"].as_object().unwrap().clone();
    let part = |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    scenario.filled(|text| {
        tokens.iter().fold(text.to_owned(), |text, (name, seconds)| {
            let expires = now + seconds.as_u64().unwrap();
            let claims = json!({ "exp": expires, "iat": expires - 3600, "jti": name });
            text.replace(name, &format!("{}.{}.s", part(&json!({ "alg": "none" })), part(&claims)))
        })
    })
}

async fn replayed(scenario: &Scenario, with: impl FnOnce(ServiceClientBuilder) -> ServiceClientBuilder) {
    let server = replay::server(scenario);
    let service = with(replay::client(&server)).build().await.unwrap();
    assert_eq!(service.session_id().as_deref(), scenario.decoded()["session_id"].as_str());
    replay::assert_requests(&server, scenario, &[], false);
}

#[tokio::test(start_paused = true)]
async fn auth_jwt_exchange() {
    replayed(&load("auth_jwt_exchange"), |builder| builder).await;
}

/// The replay is the same request: the recorded keys of its two requests are equal, and both counts are 0.
#[tokio::test(start_paused = true)]
async fn auth_jwt_invalid_token_replay() {
    replayed(&load("auth_jwt_invalid_token_replay"), |builder| builder).await;
}

/// In real time, since a process does not wait for virtual time.
#[tokio::test]
async fn auth_credential_cmd() {
    let scenario = load("auth_credential_cmd");
    let command = scenario.raw["env"]["TINKER_CREDENTIAL_CMD"].as_str().unwrap();
    replayed(&scenario, |builder| builder.credential_command(command)).await;
}
