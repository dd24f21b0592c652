//! Keys that are ordinary words or numbers, which servers other than production take (PROTOCOL 3.1): what the server says
//! is understood as it said it, whatever of it happens to be the key.

use serde_json::json;
use tinkex_client::{ErrorKind, ServiceClient};
use tinkex_testkit::{FakeServer, Step};

use crate::harness::{self, MODEL, request};

async fn service(server: &FakeServer, key: &str) -> ServiceClient {
    harness::builder(server).api_key(key).build().await.unwrap()
}

/// A checkpoint that is called as the key is has the path that the server gave it.
#[tokio::test(start_paused = true)]
async fn the_name_of_a_checkpoint() {
    let server = FakeServer::new();
    let service = service(&server, "test").await;
    let trainer = service.lora_training_client(MODEL).rank(4).create().await.unwrap();
    let path = trainer.save_state("test").await.unwrap().path.to_string();
    assert!(path.starts_with("tinker://") && path.ends_with("/weights/test"), "{path}");
}

/// Numbers of a result, and ids of the session and its clients, hold the key.
#[tokio::test(start_paused = true)]
async fn numbers_and_ids() {
    let server = FakeServer::new();
    let greeting =
        json!({ "type": "create_session", "session_id": "session-1", "info_message": "welcome 1" });
    server.script("create_session", [Step::json(greeting)]).then_behave();
    let service = service(&server, "1").await;
    server
        .script("create_sampling_session", [Step::json(json!({ "sampling_session_id": "sampler-1" }))])
        .then_behave();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    let accepted = json!({ "request_id": "request-1" });
    server.script("asample", [Step::json(accepted)]).then_behave();
    // The word `error` makes the client look whether it is a failure.
    let sequence =
        json!({ "stop_reason": "length", "tokens": [1, 21, 101], "logprobs": [-1.0, -0.5, -1.25] });
    let result = json!({ "status": "completed", "error": null, "result": { "sequences": [sequence] } });
    server.script("retrieve_future", [Step::json(result)]).then_behave();
    let response = sampler.sample(request(&[1])).await.unwrap();
    assert_eq!(response.sequences[0].tokens.to_vec(), [1, 21, 101]);
    assert_eq!(server.requests("retrieve_future")[0].json().unwrap()["request_id"], "request-1");
    assert_eq!(server.requests("asample")[0].json().unwrap()["sampling_session_id"], "sampler-1");
}

/// Failures and pauses are recognised, and the key is taken out of what they say.
#[tokio::test(start_paused = true)]
async fn words_of_failures() {
    for key in ["error", "user", "type", "failed"] {
        let server = FakeServer::new();
        let service = service(&server, key).await;
        let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
        let pause = json!({ "type": "try_again", "queue_state": "paused_capacity", "queue_state_reason": format!("no room for {key}") });
        let failure = json!({ "error": format!("because of {key}"), "category": "user" });
        server.script("retrieve_future", [Step::json(pause), Step::json(failure)]).then_behave();
        let error = sampler.sample(request(&[1])).await.unwrap_err();
        assert_eq!((error.kind(), error.is_user_error()), (ErrorKind::RequestFailed, true), "{error}");
        assert!(error.to_string().contains("because of [REDACTED]"), "{error}");
        assert_eq!(server.count("retrieve_future"), 2);
        let refusal = json!({ "detail": "no", "category": "user" });
        server.script("asample", [Step::status(400).json_body(refusal)]).then_behave();
        assert!(sampler.sample(request(&[1])).await.unwrap_err().is_user_error());
    }
}

/// Long messages are cut, and the key is taken out before that.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_long_message() {
    let server = FakeServer::new();
    let service = service(&server, "odd-key").await;
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    for at in 0..12 {
        let error = json!({ "detail": format!("{}odd-key{}", "x".repeat(990 + at), "y".repeat(3000)) });
        for error in [json!({ "error": error }), json!({ "error": error["detail"], "category": "user" })] {
            server.script("retrieve_future", [Step::json(error)]).then_behave();
            let error = sampler.sample(request(&[1])).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::RequestFailed);
            assert!(!format!("{error} {error:?}").contains("xo"), "{error}");
        }
    }
}

/// A result that cannot be read is not quoted, since it may echo the key.
#[tokio::test(start_paused = true)]
async fn unreadable_results() {
    let server = FakeServer::new();
    let service = service(&server, "test").await;
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    for body in [json!({ "sequences": "a test" }), json!("a test"), json!(["a test"])] {
        server.script("retrieve_future", [Step::json(body)]).then_behave();
        let error = sampler.sample(request(&[1])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert!(!format!("{error} {error:?}").contains("a test"), "{error:?}");
    }
}
