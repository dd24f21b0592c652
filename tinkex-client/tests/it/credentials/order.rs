//! The order of credentials, from the builder and the environment to the header (PROTOCOL 3.2).

use serde_json::json;
use tinkex_client::{CredentialStore, ErrorKind, ServiceClient, ServiceClientBuilder, StoredKey};
use tinkex_testkit::FakeServer;
use tinkex_testkit::service::{Dialect, Service};

use super::{filled, keys, vectors};
use crate::environment::in_environment;

/// The production service, as far as keys are concerned, in memory.
fn production(server: &FakeServer) -> ServiceClientBuilder {
    let url = "https://tinker.thinkingmachines.dev/services/tinker-prod";
    ServiceClient::builder().base_url(url).transport(server.transport())
}

fn elsewhere(server: &FakeServer) -> ServiceClientBuilder {
    ServiceClient::builder().base_url("http://open.example").transport(server.transport())
}

/// `vectors/credentials`, `static_key`, on the production service: keys of another form and broken JWTs are refused before
/// anything is sent, and an expired JWT before it is used.
#[tokio::test(start_paused = true)]
async fn keys_that_are_sent_as_they_are() {
    let vectors = vectors();
    for case in vectors["static_key"].as_array().unwrap() {
        let server = FakeServer::new();
        let key = filled(case["api_key"].as_str().unwrap());
        let built = production(&server).api_key(&key).build().await;
        match case["result"]["token"].as_str() {
            Some(_) => {
                built.unwrap();
                assert!(keys(&server, "**").iter().all(|sent| *sent == key), "{case}");
                assert!(server.count("create_session") == 1, "{case}");
            }
            None => {
                let error = built.unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Auth), "{case}: {error}");
                assert_eq!(error.kind() == ErrorKind::Auth, error.to_string().contains("expired"), "{error}");
                assert_eq!(server.count("**"), 0, "{case}");
            }
        }
    }
}

/// A server other than the production one takes any key, also one that only looks like a JWT, before any command.
#[tokio::test(start_paused = true)]
async fn other_servers_take_any_key() {
    for key in ["sk-1", "TML-a", "eyJx", "dummy"] {
        let server = FakeServer::new();
        elsewhere(&server).api_key(key).credential_command("exit 1").build().await.unwrap();
        assert!(keys(&server, "**").iter().all(|sent| sent == key));
    }
}

/// Without a key the stored default is sent, unless there is a command; a broken file harms only whoever needs it.
#[tokio::test]
async fn the_stored_default_comes_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credentials.json");
    let mut store = CredentialStore::load(&path).unwrap();
    store.add("1", StoredKey::manual("tml-other", "a"));
    store.add("2", StoredKey::manual("tml-stored", "b"));
    store.set_default("2").unwrap();
    store.save().unwrap();
    let server = FakeServer::new();
    production(&server).credentials_file(&path).build().await.unwrap();
    assert_eq!(keys(&server, "create_session"), ["tml-stored"]);

    std::fs::write(&path, "tml-secret is no JSON").unwrap();
    let error = production(&server).credentials_file(&path).build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("credentials.json is malformed"), "{error}");
    assert!(!error.to_string().contains("tml-secret"), "{error}");
    production(&server).credentials_file(&path).api_key("tml-a").build().await.unwrap();
    assert_eq!(keys(&server, "create_session"), ["tml-stored", "tml-a"]);

    let missing = folder.path().join("nowhere.json");
    let error = production(&server).credentials_file(missing).build().await.unwrap_err();
    assert!(error.to_string().starts_with("API key is missing; pass api_key(..)"), "{error}");
}

/// The same from the environment: `HOME` says where the file is, and the variables come before it.
#[test]
fn from_the_environment() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".tinker");
    let mut store = CredentialStore::load(folder.join("credentials.json")).unwrap();
    store.add("1", StoredKey::manual("tml-stored", "a"));
    store.set_default("1").unwrap();
    store.save().unwrap();
    let home = home.path().to_str().unwrap();
    let variable = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
    let variables =
        [(variable, home), ("TINKER_API_KEY", ""), ("TINKER_CREDENTIAL_CMD", ""), ("TINKER_BASE_URL", "")];
    if !in_environment("credentials::order::from_the_environment", &variables) {
        return;
    }
    // The folder of the first process, not one of this one's own.
    let home = std::env::var(variable).unwrap();
    let path = CredentialStore::default_path().unwrap();
    assert_eq!(path, std::path::Path::new(&home).join(".tinker").join("credentials.json"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = FakeServer::new();
        production(&server).from_env().build().await.unwrap();
        elsewhere(&server).from_env().credential_command("echo from-command").build().await.unwrap();
        production(&server).from_env().api_key("tml-key").credential_command("exit").build().await.unwrap();
        assert_eq!(keys(&server, "create_session"), ["tml-stored", "from-command", "tml-key"]);
    });
}

/// `TINKER_CREDENTIAL_CMD` is run where there is no key.
#[test]
fn the_command_of_the_environment() {
    let variables = [("TINKER_API_KEY", ""), ("TINKER_CREDENTIAL_CMD", "echo tml-from-env")];
    if !in_environment("credentials::order::the_command_of_the_environment", &variables) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = FakeServer::new();
        elsewhere(&server).from_env().build().await.unwrap();
        assert_eq!(keys(&server, "create_session"), ["tml-from-env"]);
    });
}

/// PROTOCOL 3.2: the production service takes the output of a command for its flags and for the exchange only; with the
/// exchange off, the command alone is an error, also where a key of the wrong form fell back to it.
#[tokio::test]
async fn a_command_is_for_the_exchange() {
    let behind = Service::new(Dialect::production());
    let server = FakeServer::with(behind.clone());
    for builder in [production(&server), production(&server).api_key("sk-wrong")] {
        let error = builder.credential_command("echo tml-cmd").build().await.unwrap_err();
        assert_eq!((error.kind(), error.is_user_error()), (ErrorKind::Auth, true));
        assert!(error.to_string().contains("does not exchange credentials for tokens"), "{error}");
    }
    assert_eq!(keys(&server, "**"), ["tml-cmd", "tml-cmd"], "the flags were asked for with it");
    behind.set_client_config(&json!({ "pjwt_auth_enabled": true }));
    production(&server).credential_command("echo tml-cmd").build().await.unwrap();
    assert_eq!(keys(&server, "auth/token"), ["tml-cmd"]);
    assert!(keys(&server, "create_session")[0].starts_with("eyJ"));
}

/// `credential_default_source`: the command is exchanged even where there is a key, but a JWT goes before it; without a
/// command nothing is exchanged, and the error says what to do (PROTOCOL 3.2, 4.1).
#[tokio::test]
async fn the_flag_for_the_source() {
    let behind = Service::new(Dialect::production());
    let server = FakeServer::with(behind.clone());
    let flags = json!({ "pjwt_auth_enabled": true, "credential_default_source": "credential_cmd" });
    behind.set_client_config(&flags);
    let with_key = || production(&server).api_key("tml-key");
    with_key().credential_command("echo tml-cmd").build().await.unwrap();
    assert_eq!(keys(&server, "client/config"), ["tml-key"]);
    assert_eq!(keys(&server, "auth/token"), ["tml-cmd"]);

    let error = with_key().build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth);
    assert!(
        error.to_string().contains("pass credential_command(..), or set TINKER_CREDENTIAL_CMD"),
        "{error}"
    );
    assert_eq!(server.count("auth/token"), 1);

    let jwt = filled("<jwt valid>");
    production(&server).api_key(&jwt).build().await.unwrap();
    assert_eq!(keys(&server, "auth/token")[1], jwt);
}
