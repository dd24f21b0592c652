//! Keys and tokens are in no log line, no Debug and no error.

use std::sync::Arc;

use tinkex_client::{CredentialStore, ServiceClient, StoredKey};
use tinkex_testkit::{FakeServer, Step};

use super::{MINUTE, builder, exchanging, keys};
use crate::harness::{self, MODEL};
use crate::log_capture::LogCapture;

/// Everything that is said in a session with an exchange, a rejected token, echoes and failures.
#[tokio::test(start_paused = true)]
async fn a_session_with_tokens() {
    let (log, _guard) = LogCapture::start();
    let (behind, server, wall) = exchanging();
    let service = builder(&server, &wall).build().await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    let mut said = format!("{service:?} {sampler:?} {:?} {:?}", sampler.handle(), service.rest_client());
    behind.reject_next_token();
    sampler.sample(harness::request(&[1])).await.unwrap();
    // A server that echoes the credential, in the operation and in the exchange.
    let echo = Step::respond_with(|request| {
        tinkex_testkit::Reply::detail(400, format!("no: {}", request.header("x-api-key").unwrap()))
    });
    server.script("get_server_capabilities", [echo.clone()]).then_behave();
    let error = service.rest_client().server_capabilities().await.unwrap_err();
    said.push_str(&format!("{error} {error:?}"));
    server.script("auth/token", [echo]).then_repeat_last();
    tokio::time::sleep(35 * MINUTE).await;
    wall.jump(7200);
    let error = service.rest_client().server_capabilities().await.unwrap_err();
    let chain = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
    let chain: Vec<_> = chain.map(|cause| format!("{cause} {cause:?}")).collect();
    said.push_str(&format!("{error} {error:?} {chain:?}"));
    for line in log.lines() {
        said.push_str(&format!("{} {:?}", line.message, line.fields));
    }
    let mut secrets = keys(&server, "**");
    secrets.sort_unstable();
    secrets.dedup();
    assert!(secrets.len() >= 3, "the key and two tokens");
    for secret in secrets {
        assert!(!said.contains(&secret), "{secret} in {said}");
        let payload = secret.split('.').nth(1).unwrap_or(&secret).to_owned();
        assert!(!said.contains(&payload), "{payload} in {said}");
    }
    assert!(said.contains("[REDACTED]"), "the echoes were seen");
}

/// The sources: the builder, a command line, a stored key.
#[tokio::test]
async fn sources_do_not_print() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = CredentialStore::load(folder.path().join("credentials.json")).unwrap();
    store.add("1", StoredKey::manual("tml-s3cret", "a"));
    store.set_default("1").unwrap();
    store.save().unwrap();
    let server = Arc::new(FakeServer::new());
    let from = || ServiceClient::builder().base_url(server.url()).transport(server.transport());
    let builders = [
        from().api_key("tml-s3cret"),
        from().credential_command("echo tml-s3cret"),
        from().credentials_file(store.path()),
    ];
    for builder in builders {
        let mut shown = format!("{builder:?}");
        let service = builder.build().await.unwrap();
        shown.push_str(&format!("{service:?} {:?}", service.rest_client()));
        assert!(!shown.contains("s3cret"), "{shown}");
    }
    assert!(keys(&server, "create_session").iter().all(|key| key == "tml-s3cret"));
}
