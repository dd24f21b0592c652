//! What is reported of which failure (PROTOCOL 20).

use std::time::Duration;

use serde_json::{Value, json};
use tinkex_client::{
    AdamParams, BoxError, CustomLossOutput, Datum, ErrorKind, FinishReason, Logprobs, PollPolicy,
    RetryPolicy, SampleOptions, SamplingClient, SaveState, ServiceClient, TrainingClient,
};
use tinkex_http::{ApiRequest, HttpClient};
use tinkex_testkit::{FakeServer, Step};

use super::{SECOND, events, name, names, reporting, settle};
use crate::harness::{self, MODEL, example, request};

/// What was reported since the session began, once everything is sent.
async fn reported(server: &FakeServer, service: ServiceClient) -> Vec<Value> {
    settle().await;
    service.close(FinishReason::Success).await.unwrap();
    let mut events = events(server);
    assert_eq!(name(&events.remove(0)), "SESSION_START");
    assert_eq!(name(&events.pop().unwrap()), "SESSION_END");
    events
}

/// The events of a sample that meets these answers.
async fn of_a_sample(route: &str, steps: Vec<Step>, poll: PollPolicy) -> Vec<Value> {
    let server = FakeServer::new();
    let service = harness::reporting_builder(&server).poll_policy(poll).build().await.unwrap();
    let builder =
        service.sampling_client().base_model(MODEL).retry_policy(RetryPolicy::default().max_retries(2));
    let sampler: SamplingClient = builder.create().await.unwrap();
    server.script(route, steps).then_behave();
    let _ = sampler.sample(request(&[1])).await;
    reported(&server, service).await
}

async fn trainer(server: &FakeServer) -> (ServiceClient, TrainingClient) {
    let service = harness::reporting_builder(server).retry_policy(RetryPolicy::none()).build().await.unwrap();
    let trainer = service.lora_training_client(MODEL).rank(4).create().await.unwrap();
    (service, trainer)
}

/// Asserts that an event has these members, and gives its data.
#[track_caller]
fn assert_data<'a>(event: &'a Value, severity: &str, expected: Value) -> &'a Value {
    assert_eq!(event["severity"], severity, "{event}");
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(event["event_data"][name], *value, "{name} of {event}");
    }
    &event["event_data"]
}

/// What goes well is not reported: neither samples nor training, nor what is only not ready yet.
#[tokio::test(start_paused = true)]
async fn success() {
    let server = FakeServer::new();
    let (service, trainer) = trainer(&server).await;
    trainer.forward_backward(vec![example("abc")], tinkex_client::LossFn::CrossEntropy).await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    let pending = json!({ "type": "try_again", "queue_state": "paused_capacity" });
    let paid = Step::status(402);
    server
        .script("retrieve_future", [Step::status(408), Step::json(pending), Step::hang(), paid])
        .then_behave();
    sampler.sample(request(&[1])).await.unwrap();
    drop(sampler.sample(request(&[1])));
    assert_eq!(reported(&server, service).await, [Value::Null; 0]);
}

/// A submission that is refused: the call, the sample, and the user's error, with status and body.
#[tokio::test(start_paused = true)]
async fn a_refused_submission() {
    let body = json!({ "detail": "no such thing", "extra": 1 });
    let refusal = Step::status(403).json_body(body.clone());
    let events = of_a_sample("asample", vec![refusal], PollPolicy::default()).await;
    let expected = [
        "InternalClientHolder.execute_with_retries.exception",
        "RetryHandler.execute.exception",
        "user_error",
    ];
    assert_eq!(names(&events), expected);
    let said = json!({
        "exception_type": "PermissionDeniedError", "status_code": 403, "is_user_error": true,
        "elapsed_time": 0.0,
    });
    let call = assert_data(&events[0], "WARNING", said.clone());
    assert_eq!((&call["func"], &call["attempt_count"]), (&json!("asample"), &json!(1)));
    assert_eq!(call["is_retryable"], false);
    assert!(call["current_time"].as_f64().unwrap() >= call["start_time"].as_f64().unwrap());
    let sample = assert_data(&events[1], "WARNING", said);
    assert_eq!(sample["should_retry"], false);
    let user = json!({ "error_type": "PermissionDeniedError", "status_code": 403, "body": body.to_string() });
    let user = assert_data(&events[2], "WARNING", user);
    assert!(user["message"].as_str().unwrap().contains("no such thing"));
}

/// A submission that the server never manages: an error that is not the user's, with the number of attempts.
#[tokio::test(start_paused = true)]
async fn a_submission_that_fails() {
    let events = of_a_sample("asample", vec![Step::status(500).repeat(3)], PollPolicy::default()).await;
    let last = &events[2];
    assert_eq!(names(&events)[2], "UNHANDLED_EXCEPTION");
    assert_eq!((&last["error_type"], &last["severity"]), (&json!("InternalServerError"), &json!("ERROR")));
    let message = last["error_message"].as_str().unwrap();
    assert!(message.starts_with("SamplingClient.sample: asample: HTTP 500"), "{message}");
    let call = assert_data(&events[0], "WARNING", json!({ "attempt_count": 3, "is_retryable": true }));
    assert!(call["elapsed_time"].as_f64().unwrap() > 0.3, "{call}");
}

/// Polls that fail, each in its own way; what the poller does about it decides how grave it is.
#[tokio::test(start_paused = true)]
async fn polls() {
    let detail = |status| Step::status(status).json_body(json!({ "detail": "trouble" }));
    for (step, kind, severity, error_type, retries) in [
        (detail(500), "retry", "WARNING", "InternalServerError", true),
        (detail(429), "retry_with_backoff", "WARNING", "RateLimitError", true),
        (detail(400), "retry_if_budget", "ERROR", "BadRequestError", true),
        (detail(410), "retryable_exception", "WARNING", "APIStatusError", true),
        (detail(404), "fatal", "ERROR", "NotFoundError", false),
        (detail(501), "fatal", "ERROR", "InternalServerError", false),
    ] {
        let status = step.clone();
        let events = of_a_sample("retrieve_future", vec![status], PollPolicy::default()).await;
        assert_eq!(name(&events[0]), "APIFuture.result_async.api_status_error", "{kind}");
        let data = json!({
            "kind": kind, "should_retry": retries, "exception_type": error_type, "detail": "trouble",
            "request_type": "Sample", "iteration": 0, "elapsed_time": 0.0, "bad_request_retries": 0,
            "connection_error_retries": 0,
        });
        let data = assert_data(&events[0], severity, data);
        assert!(data["request_id"].as_str().unwrap().starts_with("req-"), "{data}");
        let status = data["status_code"].as_u64().unwrap();
        assert_eq!(data["is_user_error"], (400..500).contains(&status), "{data}");
        let grave = severity == "ERROR";
        assert_eq!(data.get("response_body").is_some(), grave);
        let headers = data.get("response_headers").map(|headers| headers["content-type"].clone());
        assert_eq!(headers, grave.then(|| json!("application/json")));
        assert_eq!(data.get("request_headers"), None);
    }
    let lost = [Step::refuse(), Step::reset()].into_iter().collect();
    let events = of_a_sample("retrieve_future", lost, PollPolicy::default()).await;
    assert_eq!(names(&events), ["APIFuture.result_async.connection_error"; 2]);
    let second = json!({ "status_code": 0, "kind": "retry_with_backoff", "iteration": 1, "connection_error_retries": 1 });
    let second = assert_data(&events[1], "WARNING", second);
    assert!(second["elapsed_time"].as_f64().unwrap() >= 0.9, "{second}");
}

/// The count of polls refused with 400 goes on until the last one, which is the failure.
#[tokio::test(start_paused = true)]
async fn rejected_polls_are_counted() {
    let events =
        of_a_sample("retrieve_future", vec![Step::status(400).repeat(4)], PollPolicy::default()).await;
    let polls = events.iter().filter(|event| name(event).ends_with("api_status_error"));
    let counts: Vec<_> = polls.map(|event| event["event_data"]["bad_request_retries"].clone()).collect();
    assert_eq!(counts, [0, 1, 2, 3]);
    assert_eq!(name(events.last().unwrap()), "user_error");
}

/// Results that do not come in time, or cannot be read.
#[tokio::test(start_paused = true)]
async fn results() {
    let patient = PollPolicy::default();
    let hasty = PollPolicy::default().deadline(Duration::from_secs(30));
    let garbage = || Step::raw("no protobuf", "application/x-protobuf");
    for (steps, policy, event, error_type) in [
        (vec![Step::hang()], hasty, "timeout", "APITimeoutError"),
        (
            vec![Step::raw("[]", "application/json")],
            patient,
            "validation_error",
            "APIResponseValidationError",
        ),
        (
            vec![Step::json(json!({ "sequences": "protobuf" }))],
            patient,
            "validation_error",
            "APIResponseValidationError",
        ),
        (vec![garbage()], patient, "proto_deserialization_error", "APIResponseValidationError"),
    ] {
        let events = of_a_sample("retrieve_future", steps, policy).await;
        assert_eq!(name(&events[0]), format!("APIFuture.result_async.{event}"), "{events:?}");
        let data = assert_data(&events[0], "ERROR", json!({ "iteration": 0 }));
        assert!(data["request_id"].as_str().unwrap().starts_with("req-"), "{data}");
        let last = events.last().unwrap();
        assert_eq!((name(last), &last["error_type"]), ("UNHANDLED_EXCEPTION", &json!(error_type)));
    }
}

/// A sample that the server lost is reported as an attempt that will be repeated; the one after it went well.
#[tokio::test(start_paused = true)]
async fn a_lost_sample() {
    let events = of_a_sample("retrieve_future", vec![Step::status(410)], PollPolicy::default()).await;
    let expected = ["APIFuture.result_async.api_status_error", "RetryHandler.execute.exception"];
    assert_eq!(names(&events), expected);
    assert_data(&events[1], "WARNING", json!({ "should_retry": true, "status_code": 410 }));
}

/// A deadline that passes is heard of; a sample that nobody waits for is not.
#[tokio::test(start_paused = true)]
async fn deadlines_and_dropped_handles() {
    let server = FakeServer::new();
    let (service, sampler) = reporting(&server).await;
    server.script("retrieve_future", [Step::hang()]).then_repeat_last();
    let dropped = sampler.sample_with(request(&[1]), SampleOptions::default().deadline(SECOND * 5));
    settle().await;
    drop(dropped);
    let options = SampleOptions::default().deadline(SECOND * 5);
    sampler.sample_with(request(&[1]), options).await.unwrap_err();
    let events = reported(&server, service).await;
    assert_eq!(names(&events), ["RetryHandler.execute.exception", "UNHANDLED_EXCEPTION"]);
    assert_eq!(events[1]["error_type"], "APITimeoutError");
}

/// Making clients, and what is refused at the call.
#[tokio::test(start_paused = true)]
async fn clients_and_arguments() {
    let server = FakeServer::new();
    let (service, trainer) = trainer(&server).await;
    let refusal = || [Step::status(403)];
    server.script("create_sampling_session", refusal()).then_behave();
    service.sampling_client().base_model(MODEL).create().await.unwrap_err();
    server.script("create_model", refusal()).then_behave();
    service.lora_training_client(MODEL).create().await.unwrap_err();
    server.script("load_weights", refusal()).then_behave();
    service.training_client_from_state("tinker://a/weights/b").create().await.unwrap_err();
    service.copy_weights("tinker://a/weights/b").await.unwrap_err();
    trainer.save_state(SaveState::new("")).await.unwrap_err();
    trainer.optim_step(AdamParams::new(f64::NAN)).await.unwrap_err();
    service.sampling_client().base_model("").create().await.unwrap_err();
    server.script("get_info", refusal()).then_behave();
    trainer.get_info().await.unwrap_err();
    let events = reported(&server, service).await;
    let call = "InternalClientHolder.execute_with_retries.exception";
    let user = "user_error";
    assert_eq!(names(&events), [call, user, call, user, call, user, user, user, user, user, call, user]);
    let funcs: Vec<_> =
        events.iter().filter(|e| name(e) == call).map(|e| e["event_data"]["func"].clone()).collect();
    assert_eq!(funcs, ["create_sampling_session", "create_model", "load_weights", "get_info"]);
    assert_data(&events[9], "WARNING", json!({ "error_type": "InvalidInput" }));
}

/// A training operation whose handle was dropped reports its failure; of a custom loss only that it failed, since its
/// words are the user's own.
#[tokio::test(start_paused = true)]
async fn training() {
    let server = FakeServer::new();
    let (service, trainer) = trainer(&server).await;
    server.script("optim_step", [Step::status(422)]).then_behave();
    drop(trainer.optim_step(AdamParams::new(1e-3)));
    trainer.optim_step(AdamParams::new(1e-3)).await.unwrap();
    let loss = |_: &[Datum], _: &[Logprobs<'_>]| {
        Err::<CustomLossOutput, BoxError>("the private data of a user".into())
    };
    // An error of the user's own may be one of a call somewhere else, which is nobody's business here.
    let elsewhere = FakeServer::new();
    elsewhere.script("private", [Step::status(403).body("private")]).then_behave();
    let http = HttpClient::builder(elsewhere.url().parse().unwrap(), harness::transport(&elsewhere));
    let http = http.build().unwrap();
    let theirs = http.send(&ApiRequest::get("private", "/api/v1/private")).await.unwrap_err();
    let theirs = std::sync::Mutex::new(Some(theirs));
    let calling = move |_: &[Datum], _: &[Logprobs<'_>]| {
        let theirs = theirs.lock().unwrap().take().unwrap();
        Err::<CustomLossOutput, BoxError>(Box::new(theirs))
    };
    let calling = trainer.forward_backward_custom(vec![example("abc")], calling);
    assert_eq!(calling.await.unwrap_err().kind(), ErrorKind::CustomLoss);
    let failing = trainer.forward_backward_custom(vec![example("abc")], loss);
    let behind = trainer.optim_step(AdamParams::new(1e-3));
    assert_eq!(failing.await.unwrap_err().kind(), ErrorKind::CustomLoss);
    assert_eq!(behind.await.unwrap_err().kind(), ErrorKind::Poisoned);
    let events = reported(&server, service).await;
    let call = "InternalClientHolder.execute_with_retries.exception";
    assert_eq!(names(&events), [call, "user_error", "user_error", "user_error", "user_error"]);
    assert_data(&events[0], "WARNING", json!({ "func": "optim_step", "status_code": 422 }));
    let types: Vec<_> = events[2..].iter().map(|event| &event["event_data"]["error_type"]).collect();
    assert_eq!(types, ["CustomLoss", "CustomLoss", "Poisoned"]);
    assert!(events.iter().all(|event| !event.to_string().contains("private")), "{events:?}");
}

/// Failures are told under the name of the method that was called.
#[tokio::test(start_paused = true)]
async fn methods_of_samplers() {
    let server = FakeServer::new();
    let (service, sampler) = reporting(&server).await;
    let failure = json!({ "error": "no", "category": "server" });
    server.script("retrieve_future", [Step::json(failure)]).then_repeat_last();
    sampler.compute_logprobs(tinkex_client::ModelInput::from_ints([1])).await.unwrap_err();
    sampler.resume("elsewhere").await.unwrap_err();
    sampler.sample(request(&[1])).await.unwrap_err();
    let events = reported(&server, service).await;
    let funcs: Vec<_> = events.iter().filter_map(|event| event["event_data"]["func"].as_str()).collect();
    let methods = ["SamplingClient.compute_logprobs", "SamplingClient.resume", "SamplingClient.sample"];
    assert_eq!(funcs, methods);
    let left = events.iter().filter(|event| name(event) == "UNHANDLED_EXCEPTION");
    for (event, method) in left.zip(methods) {
        let message = event["error_message"].as_str().unwrap();
        assert!(message.starts_with(&format!("{method}: ")), "{message}");
    }
}

/// A credential that is refused while a promise is polled is the 401 that ends the poll.
#[tokio::test(start_paused = true)]
async fn a_credential_refused_during_a_poll() {
    let (behind, server, wall) = crate::credentials::exchanging();
    behind.set_latency(Duration::from_secs(3600));
    let builder = harness::reporting_builder(&server).wall_clock(wall.clock());
    let service = builder.build().await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    let handle = sampler.sample(request(&[1]));
    server.wait_for("retrieve_future", 1).await;
    // By then the beginning of the session is sent.
    tokio::time::sleep(SECOND * 12).await;
    wall.jump(3600 - 40);
    behind.refuse_exchange(Some(401));
    assert_eq!(handle.await.unwrap_err().status(), Some(401));
    behind.refuse_exchange(None);
    let events = reported(&server, service).await;
    let refused = events.iter().find(|event| name(event).starts_with("APIFuture")).unwrap();
    assert_eq!(name(refused), "APIFuture.result_async.api_status_error");
    let expected = json!({ "status_code": 401, "is_user_error": true, "kind": "fatal",
                           "exception_type": "AuthenticationError", "should_retry": false });
    assert_data(refused, "ERROR", expected);
}

/// What is given up because its client was closed has not failed.
#[tokio::test(start_paused = true)]
async fn samples_of_a_closed_client() {
    let behind = tinkex_testkit::service::Service::default();
    behind.set_client_config(&json!({ "sample_use_retrieve_futures": true }));
    let server = FakeServer::with(behind);
    let (service, sampler) = reporting(&server).await;
    server.script("retrieve_futures", [Step::hang()]).then_repeat_last();
    let samples: Vec<_> = (0..3).map(|_| sampler.sample(request(&[1]))).collect();
    server.wait_for("asample", 3).await;
    settle().await;
    assert_eq!(names(&reported(&server, service).await), [""; 0]);
    for sample in samples {
        assert_eq!(sample.await.unwrap_err().kind(), ErrorKind::Closed);
    }
}

/// What a server says of content that it could not process may be that content: only the status is told.
#[tokio::test(start_paused = true)]
async fn words_that_quote_the_request() {
    let server = FakeServer::new();
    let (service, sampler) = reporting(&server).await;
    let refusal = || json!({ "detail": [{ "msg": "bad", "input": "my private prompt" }] });
    server.script("asample", [Step::status(422).json_body(refusal())]).then_behave();
    sampler.sample(request(&[1])).await.unwrap_err();
    server.script("retrieve_future", [Step::status(422).json_body(refusal())]).then_behave();
    sampler.sample(request(&[1])).await.unwrap_err();
    let events = reported(&server, service).await;
    let told = names(&events);
    assert_eq!(told.iter().filter(|name| **name == "user_error").count(), 2, "{told:?}");
    assert_eq!(told.iter().filter(|name| name.ends_with("api_status_error")).count(), 1, "{told:?}");
    assert!(events.iter().all(|event| !event.to_string().contains("private")), "{events:?}");
    assert!(events.iter().all(|event| event["event_data"]["status_code"] == 422), "{events:?}");
}
