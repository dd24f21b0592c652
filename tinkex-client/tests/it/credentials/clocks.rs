//! Wall clocks that jump (PROTOCOL 3.1, 3.4): whose fault it is, nobody is locked out.

use serde_json::json;
use tinkex_client::{ErrorKind, ServiceClient};
use tinkex_testkit::FakeServer;
use tracing::Level;

use super::{HOUR, MINUTE, Wall, builder, exchanging, jwt};
use crate::log_capture::LogCapture;

/// The client's clock is set two hours ahead of the service's: one exchange, one warning, and from then on tokens live as
/// long as they say.
#[tokio::test(start_paused = true)]
async fn ahead_of_the_service() {
    let (log, _guard) = LogCapture::start();
    let (_behind, server, _its_own) = exchanging();
    let ours = Wall::new();
    let service = builder(&server, &ours).build().await.unwrap();
    ours.jump(7200);
    for _ in 0..50 {
        service.rest_client().server_capabilities().await.unwrap();
        tokio::time::sleep(MINUTE / 10).await;
    }
    assert_eq!(server.count("auth/token"), 2);
    let warnings = log.warnings("ahead of the service's");
    assert!(warnings.len() == 1 && warnings[0].message.contains("7200 s ahead"), "{warnings:?}");
    tokio::time::sleep(5 * HOUR).await;
    service.rest_client().server_capabilities().await.unwrap();
    let exchanges = server.count("auth/token");
    assert!((10..=14).contains(&exchanges), "{exchanges}");
    assert!(log.messages(Level::ERROR).is_empty());
}

/// The client's clock is set back: tokens seem to live longer than they do, and the refresh, which goes by no wall clock,
/// comes in time all the same.
#[tokio::test(start_paused = true)]
async fn behind_the_service() {
    let (_behind, server, _its_own) = exchanging();
    let ours = Wall::new();
    let service = builder(&server, &ours).build().await.unwrap();
    ours.jump(-7200);
    for _ in 0..20 {
        tokio::time::sleep(15 * MINUTE).await;
        service.rest_client().server_capabilities().await.unwrap();
    }
    assert_eq!(server.count("get_server_capabilities"), 20, "no token was rejected");
    assert!((9..=13).contains(&server.count("auth/token")), "{}", server.count("auth/token"));
}

/// A machine that slept: both clocks have moved on and no timer has. The token is exchanged before it is used.
#[tokio::test(start_paused = true)]
async fn after_a_long_sleep() {
    let (behind, server, wall) = exchanging();
    let service = builder(&server, &wall).build().await.unwrap();
    wall.jump(12 * 3600);
    behind.revoke_tokens();
    service.rest_client().server_capabilities().await.unwrap();
    assert_eq!((server.count("get_server_capabilities"), server.count("auth/token")), (1, 2));
}

/// PROTOCOL 3.1: a JWT that serves as the credential is refused from its last second on, by the wall clock.
#[tokio::test(start_paused = true)]
async fn a_jwt_as_credential() {
    let wall = Wall::new();
    let server = FakeServer::new();
    let key = jwt(&json!({ "exp": 1_701_000_000 + 100, "iat": 1_701_000_000 }));
    let url = "https://tinker.thinkingmachines.dev/services/tinker-prod";
    let service = ServiceClient::builder().base_url(url).transport(server.transport()).api_key(&key);
    let service = service.wall_clock(wall.clock()).build().await.unwrap();
    let rest = service.rest_client();
    wall.jump(99);
    rest.server_capabilities().await.unwrap();
    wall.jump(1);
    let error = rest.server_capabilities().await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Auth, 0));
    assert!(error.to_string().contains("expired 0 s ago; get a new one"), "{error}");
    assert!(!error.to_string().contains("eyJ"), "{error}");
    assert_eq!(server.count("get_server_capabilities"), 1);
    wall.jump(-50);
    rest.server_capabilities().await.unwrap();
}
