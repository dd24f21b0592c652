//! One span for each logical request, one for each attempt below it, wherever the work is done.

use std::time::Duration;

use serde_json::json;
use tinkex_client::{AdamParams, ErrorCategory, ErrorKind, LossFn, RetryPolicy, SampleOptions};
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, Step};
use tracing::{Instrument as _, Level};

use crate::harness::{self, MODEL};
use crate::trace_capture::{CapturedSpan, TraceCapture};

fn shown(spans: &[CapturedSpan]) -> Vec<(&str, &str, &str)> {
    spans
        .iter()
        .map(|span| {
            (
                span.value("otel.name"),
                span.value("http.response.status_code"),
                span.value("http.request.resend_count"),
            )
        })
        .collect()
}

/// A sample that is turned away once, paused, and polled: its attempts are below it, and it is below the span of the
/// caller, although all of it is done in a task.
#[tokio::test(start_paused = true)]
async fn a_sample_and_its_attempts() {
    let (capture, _guard) = TraceCapture::start();
    let (server, _client, sampler) = harness::in_front_of(&Service::default()).await;
    server.script("asample", [Step::status(503)]).then_behave();
    let paused = json!({"type": "try_again", "request_id": "any", "queue_state": "paused_capacity"});
    server.script("retrieve_future", [Step::json(paused).delay(Duration::from_secs(30))]).then_behave();
    let caller = tracing::info_span!("caller");
    // The span is that of the call; where the handle is awaited does not matter.
    let handle = caller.in_scope(|| sampler.sample(harness::request(&[1])));
    let id = loop {
        match handle.request_id() {
            Some(id) => break id,
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    handle.await.unwrap();

    let operation = capture.operation("SamplingClient.sample");
    assert_eq!((operation.level, operation.target), (Level::INFO, "tinkex_client::operation"));
    assert_eq!(operation.parent, caller.id().map(|id| id.into_u64()));
    let value = |field| operation.value(field);
    assert_eq!((value("otel.kind"), value("tinker.request_type")), ("internal", "Sample"));
    assert_eq!(value("tinker.client_id"), sampler.sampling_session_id());
    assert_eq!((value("tinker.request_id"), value("tinker.queue_state")), (&*id, "active"), "paused before");
    assert_eq!((value("error.type"), value("otel.status_code")), ("", ""));
    let polls = server.count("retrieve_future");
    assert_eq!((value("tinker.polls"), polls > 1), (&*polls.to_string(), true));

    let attempts = capture.attempts_below(&operation);
    let shown = shown(&attempts);
    assert_eq!(shown[..2], [("POST asample", "503", ""), ("POST asample", "200", "1")]);
    assert_eq!(shown.len() as u64, 2 + polls);
    assert!(shown[2..].iter().all(|attempt| attempt.0 == "POST retrieve_future" && attempt.2.is_empty()));
    let (first, second) = (&attempts[0], &attempts[1]);
    assert_eq!((first.value("error.type"), first.value("otel.status_code")), ("503", "ERROR"));
    assert_eq!((second.value("error.type"), second.value("otel.status_code")), ("", ""));
    for attempt in &attempts {
        assert_eq!((attempt.level, attempt.target), (Level::DEBUG, "tinkex_http::attempt"));
        assert_eq!((attempt.value("otel.kind"), attempt.value("http.request.method")), ("client", "POST"));
        let address = (attempt.value("server.address"), attempt.value("server.port"));
        assert_eq!(address, (server.url().trim_start_matches("http://"), "80"));
        assert!(attempt.closed);
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(capture.operation("SamplingClient.sample").closed, "the span ends with the work");
}

/// What fails says so in both spans, and an answer that never came has its own words.
#[tokio::test(start_paused = true)]
async fn failures_are_told_by_kind() {
    let (capture, _guard) = TraceCapture::start();
    let behind = Service::default();
    let server = FakeServer::with(behind.clone());
    let client = harness::builder(&server).sampling_retry_policy(RetryPolicy::none()).build().await.unwrap();
    let sampler = client.sampling_client().base_model(MODEL).create().await.unwrap();
    let steps = [Step::refuse(), Step::reset(), Step::hang(), Step::garbage("no HTTP"), Step::status(404)];
    server.script("asample", steps).then_behave();
    for _ in 0..5 {
        sampler.sample(harness::request(&[1])).await.unwrap_err();
    }
    behind.fail_next(ErrorCategory::Server, "no luck");
    sampler.sample(harness::request(&[1])).await.unwrap_err();

    let operations = capture.spans("operation");
    let samples = operations.iter().filter(|span| span.value("otel.name") == "SamplingClient.sample");
    let samples: Vec<_> = samples.cloned().collect();
    let kinds: Vec<_> = samples.iter().map(|span| span.value("error.type")).collect();
    assert_eq!(kinds, ["connection", "connection", "timeout", "decode", "status", "request_failed"]);
    assert!(samples.iter().all(|span| span.value("otel.status_code") == "ERROR"));
    let first_attempts: Vec<_> = samples.iter().map(|span| capture.attempts_below(span).remove(0)).collect();
    let kinds: Vec<_> = first_attempts.iter().map(|span| span.value("error.type")).collect();
    assert_eq!(kinds, ["connect", "interrupted", "timeout", "decode", "404", ""]);
}

/// Servers say by a 408 that there is no result yet, so that a trace of a sample that waits must not be all red.
#[tokio::test(start_paused = true)]
async fn a_pending_answer_is_no_error() {
    let (capture, _guard) = TraceCapture::start();
    let (server, _client, sampler) = harness::in_front_of(&Service::default()).await;
    server.script("retrieve_future", [Step::status(408).json_body(json!({}))]).then_behave();
    sampler.sample(harness::request(&[1])).await.unwrap();
    let attempts = capture.attempts_below(&capture.operation("SamplingClient.sample"));
    let poll = attempts.iter().find(|span| span.value("http.response.status_code") == "408").unwrap();
    assert_eq!((poll.value("error.type"), poll.value("otel.status_code")), ("", ""));
    // Anywhere else it is one.
    server.script("asample", [Step::status(408)]).then_behave();
    sampler.sample(harness::request(&[1])).await.unwrap();
    let attempts = capture.spans("http_request");
    let red = attempts.iter().filter(|span| span.value("error.type") == "408").count();
    assert_eq!(red, 1);
}

/// Dropping a handle is no error, a deadline is one.
#[tokio::test(start_paused = true)]
async fn giving_up() {
    let (capture, _guard) = TraceCapture::start();
    let (server, _client, sampler) = harness::in_front_of(&Service::default()).await;
    let paused = json!({"type": "try_again", "request_id": "any", "queue_state": "paused_capacity"});
    let paused = Step::json(paused).delay(Duration::from_secs(1));
    server.script("retrieve_future", [Step::hang(), paused, Step::hang()]).then_behave();
    let handle = sampler.sample(harness::request(&[1]));
    server.wait_for("retrieve_future", 1).await;
    drop(handle);
    server.wait_for_in_flight("retrieve_future", 0).await;
    let operation = capture.operation("SamplingClient.sample");
    assert_eq!((operation.value("error.type"), operation.value("otel.status_code")), ("abandoned", ""));
    let poll = capture.attempts_below(&operation).pop().unwrap();
    assert!(poll.closed && poll.value("http.response.status_code").is_empty());
    assert_eq!((poll.value("error.type"), poll.value("otel.status_code")), ("", ""));

    let (capture, _guard) = TraceCapture::start();
    let options = SampleOptions::default().deadline(Duration::from_secs(5));
    let error = sampler.sample_with(harness::request(&[1]), options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    tokio::task::yield_now().await;
    let operation = capture.operation("SamplingClient.sample");
    assert_eq!((operation.value("error.type"), operation.value("otel.status_code")), ("timeout", "ERROR"));
    assert_eq!(operation.value("tinker.queue_state"), "paused_capacity");
    assert_eq!(operation.value("tinker.polls"), "2");
}

/// Creations are operations below the caller's span, with the id of what they made; so are operations of training, and
/// what a custom loss traces is within its step.
#[tokio::test(start_paused = true)]
async fn creations_and_training() {
    let (capture, _guard) = TraceCapture::start();
    let server = FakeServer::new();
    let caller = tracing::info_span!("caller");
    let (service, trainer, sampler) = async {
        let service = harness::service(&server).await;
        let trainer = service.lora_training_client(MODEL).rank(4).seed(7).create().await.unwrap();
        let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
        (service, trainer, sampler)
    }
    .instrument(caller.clone())
    .await;
    let gradient =
        caller.in_scope(|| trainer.forward_backward([harness::example("ab")], LossFn::CrossEntropy));
    let update = caller.in_scope(|| trainer.optim_step(AdamParams::new(1e-3)));
    gradient.await.unwrap();
    update.await.unwrap();

    let session = service.session_id().unwrap();
    for (method, kind, id, routes) in [
        (
            "ServiceClient.build",
            "",
            &*session,
            vec!["client/config", "client/dynamic_config", "create_session"],
        ),
        (
            "ServiceClient.create_lora_training_client",
            "CreateModel",
            trainer.model_id(),
            vec!["create_model", "retrieve_future", "get_info"],
        ),
        (
            "ServiceClient.create_sampling_client",
            "",
            sampler.sampling_session_id(),
            vec!["create_sampling_session"],
        ),
        (
            "TrainingClient.forward_backward",
            "ForwardBackward",
            trainer.model_id(),
            vec!["forward_backward", "retrieve_future"],
        ),
        ("TrainingClient.optim_step", "OptimStep", trainer.model_id(), vec!["optim_step", "retrieve_future"]),
    ] {
        let operation = capture.operation(method);
        assert_eq!(operation.parent, caller.id().map(|id| id.into_u64()), "{method}");
        assert_eq!(operation.value("tinker.request_type"), kind, "{method}");
        assert_eq!(operation.value("tinker.client_id"), id, "{method}");
        let promised = routes.contains(&"retrieve_future");
        assert_eq!(!operation.value("tinker.request_id").is_empty(), promised, "{method}");
        assert_eq!(operation.value("tinker.polls"), if promised { "1" } else { "" }, "{method}");
        let attempts = capture.attempts_below(&operation);
        let below: Vec<_> = attempts.iter().map(|span| span.value("url.template")).collect();
        assert_eq!(below, routes, "{method}");
    }
}

/// Where operations are filtered out, attempts are below the span of the caller.
#[tokio::test(start_paused = true)]
async fn attempts_without_operations_stay_with_the_caller() {
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

    let capture = TraceCapture::default();
    let wanted = Targets::new().with_target("tinkex_http", Level::DEBUG).with_target("it", Level::INFO);
    let subscriber = tracing_subscriber::registry().with(capture.clone().with_filter(wanted));
    let _guard = tracing::subscriber::set_default(subscriber);
    let (_server, _client, sampler) = harness::in_front_of(&Service::default()).await;
    let caller = tracing::info_span!("caller");
    caller.in_scope(|| sampler.sample(harness::request(&[1]))).await.unwrap();
    assert!(capture.spans("operation").is_empty());
    let caller = capture.spans("caller").remove(0);
    let attempts = capture.attempts_below(&caller);
    assert_eq!(shown(&attempts), [("POST asample", "200", ""), ("POST retrieve_future", "200", "")]);
    assert!(caller.values.is_empty(), "nothing is written into the caller's own span");
}

/// A span's name and the name an exporter shows are from a closed set: ids are in fields.
#[tokio::test(start_paused = true)]
async fn names_hold_no_ids() {
    let (capture, _guard) = TraceCapture::start();
    let (_server, service, trainer) = harness::trainer_of(&Service::default()).await;
    trainer.optim_step(AdamParams::new(1e-3)).await.unwrap();
    service.close(tinkex_client::FinishReason::Success).await.unwrap();
    let session = service.session_id().unwrap();
    for name in ["operation", "http_request"] {
        for span in capture.spans(name) {
            let title = span.value("otel.name");
            assert!(!title.is_empty() && !title.contains(&*session), "{title}");
            assert!(!title.contains(|c: char| c.is_ascii_digit()), "{title}");
        }
    }
    let finish =
        capture.spans("http_request").into_iter().find(|span| span.value("url.template").ends_with("finish"));
    assert_eq!(finish.unwrap().value("otel.name"), "POST sessions/finish");
}
