//! Tokens in exchange for a key (PROTOCOL 3.4).

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tinkex_http::WallClock;
use tinkex_testkit::service::{Dialect, Service, ServiceOptions};
use tinkex_testkit::{Behaviour, Received, Reply};

const CAPABILITIES: &str = "get_server_capabilities";

async fn ask(service: &Service, key: &str) -> Reply {
    service.respond(&Received::get(CAPABILITIES).with_header("x-api-key", key)).await
}

async fn exchange(service: &Service) -> Reply {
    service.respond(&Received::post("auth/token", &json!({})).with_header("x-api-key", "tml-test")).await
}

async fn token(service: &Service) -> String {
    exchange(service).await.to_json().unwrap()["jwt"].as_str().unwrap().to_owned()
}

fn control(service: &Service, command: &str, body: Value) -> u16 {
    service.control(command, &body).unwrap_or_else(|| panic!("unknown command {command}")).status.as_u16()
}

#[track_caller]
fn assert_invalid(reply: &Reply) {
    assert_eq!(reply.status, 401);
    assert_eq!(reply.headers["www-authenticate"], r#"Bearer realm="tinker", error="invalid_token""#);
}

/// The payload has the claims that clients read, as numbers, by the service's wall clock.
#[tokio::test(start_paused = true)]
async fn a_token_tells_its_life() {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let options =
        ServiceOptions { clock: Some(WallClock::fixed(at)), ..ServiceOptions::of(Dialect::production()) };
    let service = Service::with_options(options);
    assert_eq!(control(&service, "tokens", json!({ "lifetime_seconds": 90 })), 200);
    let token = token(&service).await;
    assert!(token.starts_with("eyJ"));
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!((claims["iat"].as_f64(), claims["exp"].as_f64()), (Some(1.7e9), Some(1.7e9 + 90.0)));
}

/// Once demanded, nothing but a token is taken, as long as it lives, but for flags, health and the exchange.
#[tokio::test(start_paused = true)]
async fn demanded_tokens() {
    let service = Service::new(Dialect::production());
    service.set_token_lifetime(Duration::from_secs(60));
    let first = token(&service).await;
    assert_eq!(ask(&service, "tml-test").await.status, 200);
    assert_eq!(ask(&service, &first).await.status, 200);
    assert_eq!(control(&service, "tokens", json!({ "demand": true })), 200);
    assert_eq!(ask(&service, "tml-test").await.status, 401);
    assert_eq!(ask(&service, &first).await.status, 200);
    assert_invalid(&ask(&service, "eyJhbGci.made-up.x").await);
    let config = Received::post("client/config", &json!({ "sdk_version": "0" }));
    assert_eq!(service.respond(&config.with_header("x-api-key", "tml-test")).await.status, 200);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_invalid(&ask(&service, &first).await);
    assert_eq!(ask(&service, &token(&service).await).await.status, 200);
    assert_eq!(control(&service, "tokens", json!({ "demand": 1 })), 400);
}

#[tokio::test(start_paused = true)]
async fn rejections_revocations_and_refusals() {
    let service = Service::new(Dialect::production());
    let first = token(&service).await;
    assert_eq!(control(&service, "reject_token", json!({ "count": 2 })), 200);
    assert_eq!(ask(&service, "tml-test").await.status, 200, "keys are not concerned");
    assert_invalid(&ask(&service, &first).await);
    assert_invalid(&ask(&service, &first).await);
    assert_eq!(ask(&service, &first).await.status, 200);
    service.demand_tokens(true);
    assert_eq!(control(&service, "revoke_tokens", json!({})), 200);
    assert_invalid(&ask(&service, &first).await);
    assert_eq!(control(&service, "refuse_exchange", json!({ "status": 503 })), 200);
    assert_eq!(exchange(&service).await.status, 503);
    assert_eq!(control(&service, "refuse_exchange", json!({ "status": 200 })), 400);
    assert_eq!(control(&service, "refuse_exchange", json!({ "status": null })), 200);
    assert_eq!(exchange(&service).await.status, 200);
}

/// The open servers have no such route.
#[tokio::test(start_paused = true)]
async fn other_dialects_have_no_exchange() {
    for name in ["skyrl", "tuft", "hatchery"] {
        assert_eq!(exchange(&Service::new(Dialect::named(name).unwrap())).await.status, 404, "{name}");
    }
}
