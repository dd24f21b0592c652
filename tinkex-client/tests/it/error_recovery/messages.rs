//! What errors say, kind by kind.

use std::error::Error as _;
use std::time::Duration;

use serde_json::json;
use tinkex_client::{
    AuthError, AuthProvider, CredentialFuture, Error, ErrorCategory, ErrorKind, RetryPolicy, SampleOptions,
    ServiceClient,
};
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, Received, Reply, Step};

use super::repeats_a_source;
use crate::harness::{self, MODEL, request};

/// S1-11: each kind in words: what happened, and where something can be done, what. No text twice down the chain.
#[tokio::test(start_paused = true)]
async fn every_kind_of_error_reads_well() {
    let service = Service::default();
    let (server, client, sampler) = harness::in_front_of(&service).await;
    let check = |error: Error, kind: ErrorKind, says: &[&str]| {
        let message = error.to_string();
        assert_eq!(error.kind(), kind, "{message}");
        says.iter().for_each(|part| assert!(message.contains(part), "{message:?} lacks {part:?}"));
        assert!(!repeats_a_source(&error), "{error:?}: {:?}", error.source().map(ToString::to_string));
        assert!(!message.contains("tml-test"), "{message}");
        let debug = format!("{error:?}");
        assert!(debug.contains(&message) || debug.contains("message"), "{debug}");
    };

    let error = sampler.sample(request(&[1]).num_samples(0)).await.unwrap_err();
    assert_eq!((error.attempts(), error.is_user_error(), error.is_retryable()), (0, true, false));
    check(error, ErrorKind::InvalidInput, &["num_samples", "must be"]);

    let failing =
        harness::builder(&server).auth(std::sync::Arc::new(NoCredential)).build().await.unwrap_err();
    assert!(failing.is_user_error() && !failing.is_retryable());
    check(failing, ErrorKind::Auth, &["client/config", "the vault is sealed; run `vault open`"]);

    server.script("asample", [Step::refuse()]).then_behave();
    let hasty =
        client.sampling_client().base_model(MODEL).retry_policy(RetryPolicy::none()).create().await.unwrap();
    check(
        hasty.sample(request(&[1])).await.unwrap_err(),
        ErrorKind::Connection,
        &["asample", "refused", "after 1 attempt"],
    );

    service.pause(tinkex_client::QueueState::PausedCapacity, None, Some(Duration::from_secs(30)));
    let options = SampleOptions::default().deadline(Duration::from_secs(1));
    let error = hasty.sample_with(request(&[1]), options).await.unwrap_err();
    let id = error.request_id().unwrap().to_owned();
    check(error, ErrorKind::Timeout, &["no result within the deadline of 1.0 s", &id]);
    service.resume();

    server
        .script("retrieve_future", [Step::status(404).json_body(json!({"detail": "what promise?"}))])
        .then_behave();
    let error = hasty.sample(request(&[1])).await.unwrap_err();
    check(error, ErrorKind::Status, &["HTTP 404: what promise?", "sample request req-", "after 1 poll"]);

    service.fail_next(ErrorCategory::Server, "a worker died");
    check(
        hasty.sample(request(&[1])).await.unwrap_err(),
        ErrorKind::RequestFailed,
        &["sample request req-", "a worker died"],
    );

    service.expire_next();
    check(hasty.sample(request(&[1])).await.unwrap_err(), ErrorKind::Expired, &["submit a new request"]);

    server.script("retrieve_future", [Step::json(json!({"sequences": 3}))]).then_behave();
    check(
        hasty.sample(request(&[1])).await.unwrap_err(),
        ErrorKind::Decode,
        &["result of request req-", "sample response"],
    );

    client.close(tinkex_client::FinishReason::Success).await.unwrap();
    let error = sampler.sample(request(&[1])).await.unwrap_err();
    assert_eq!((error.attempts(), error.is_retryable()), (0, false));
    check(error, ErrorKind::Closed, &["was closed; make a new one"]);
}

/// A handle outlives its runtime: an error, not a wait for ever.
#[test]
fn a_handle_whose_runtime_is_gone_is_an_error() {
    let paused =
        || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let first = paused();
    let mut left = None;
    first.block_on(async {
        let service = Service::default();
        service.pause(tinkex_client::QueueState::PausedCapacity, None, None);
        let (server, _client, sampler) = harness::in_front_of(&service).await;
        let handle = sampler.sample(request(&[1]));
        server.wait_for("retrieve_future", 1).await;
        left = Some(handle);
    });
    drop(first);
    let error = paused().block_on(left.unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TaskEnded);
    assert!(error.to_string().contains("the runtime it ran on has shut down"), "{error}");
}

/// Preparing the prompt fails with the same type, for `?` in one function.
#[test]
fn a_tokenizer_error_becomes_an_error() {
    let error = tinkex_client::Error::from(tinkex_client::TokenizerError::new("no such token"));
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.is_user_error() && !error.is_retryable());
    assert_eq!(error.to_string(), "no such token");
}

/// An auth provider that never has a credential.
#[derive(Debug)]
struct NoCredential;

impl AuthProvider for NoCredential {
    fn credential(&self) -> CredentialFuture<'_> {
        Box::pin(std::future::ready(Err(AuthError::new("the vault is sealed; run `vault open`"))))
    }

    fn identity(&self) -> secrecy::SecretString {
        secrecy::SecretString::from("nobody")
    }
}

/// The error at start-up is the same type, with the same facts.
#[tokio::test(start_paused = true)]
async fn start_up_errors_are_typed_too() {
    let server = FakeServer::with(|_: &Received| Reply::detail(401, "unknown key"));
    let error = harness::builder(&server).build().await.unwrap_err();
    assert_eq!((error.kind(), error.status(), error.attempts()), (ErrorKind::Status, Some(401), 1));
    assert!(error.to_string().starts_with("client/config: HTTP 401: unknown key"), "{error}");
    assert!(error.to_string().ends_with("; check the API key"), "{error}");
    assert!(std::error::Error::source(&error).is_none(), "nothing is said twice");
    let error = ServiceClient::builder().base_url("https://example.test").build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("TINKER_API_KEY"), "{error}");
}
