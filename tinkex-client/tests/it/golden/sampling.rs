//! Samples: requests, futures, the session poller, cancellation, handles.

use serde_json::{Value, json};
use tinkex_client::{
    AudioChunk, ImageAssetPointerChunk, ImageChunk, ImageFormat, LogPolicy, LogWording, ModelInput,
    SampleRequest, SamplerHandle, SamplingClient, SamplingParams, ServiceClient, TensorData,
};
use tinkex_testkit::{FakeServer, Step};

use super::compare;
use super::deviations::{self, Expected};
use super::fixtures::Scenario;
use super::rendered::{self, Failure};
use super::replay::{self, Observation, Observed};
use crate::harness::MODEL;
use crate::log_capture::LogCapture;

macro_rules! replayed {
    (samples: $($name:ident)*; others: $($other:ident)*;) => {
        /// The scenarios of this file.
        pub(super) const REPLAYED: &[&str] = &[$(stringify!($name),)* $(stringify!($other),)*];

        $(#[tokio::test(start_paused = true)]
        async fn $name() {
            sample(&Scenario::load(stringify!($name)), None).await;
        })*
    };
}

replayed! {
    samples:
        asample_402_billing_pause asample_429_backoff asample_5xx_retry asample_all_fields asample_minimal
        asample_stop_none asample_stop_string asample_stop_tokens
        retrieve_future_400_budget retrieve_future_401_fatal retrieve_future_403_fatal retrieve_future_404_fatal
        retrieve_future_409_fatal retrieve_future_422_fatal retrieve_future_429_then_ok retrieve_future_5xx_then_ok
        retrieve_future_complete_metadata retrieve_future_failed_garbage retrieve_future_failed_missing
        retrieve_future_failed_server retrieve_future_failed_unknown retrieve_future_failed_user
        retrieve_future_json_for_proto_type retrieve_future_try_again_408_proto retrieve_future_try_again_no_state
        retrieve_futures_5xx_then_ok retrieve_futures_failed retrieve_futures_fatal retrieve_futures_flow;
    others:
        asample_multimodal_prompt cancel_future compute_logprobs create_sampling_session_base_model
        create_sampling_session_model_path join_sampling_session;
}

/// Replays a sample: makes the recorded call against the recorded answers and compares everything.
async fn sample(scenario: &Scenario, request: Option<SampleRequest>) {
    let expected = deviations::expected(scenario);
    let (log, _guard) = LogCapture::start();
    let observed = Observed::default();
    let server = replay::server(scenario);
    let (_service, sampler) = sampler(&server, &observed).await;
    let request = request.unwrap_or_else(|| request_of(scenario));
    let outcome = sampler.sample(request).await;
    let outcome = outcome.map(|reply| rendered::response(&reply)).map_err(|error| Failure::of(&error));
    let announced = scenario.of_route("retrieve_futures").len() as u64;
    server.wait_for("retrieve_futures", announced).await;
    server.wait_for_in_flight("**", 0).await;
    assert_outcome(scenario, &outcome, &expected.result);
    assert_flow(&server, scenario, &expected);
    assert_lines(scenario, &log, &expected);
    assert!(sampler.flush_observers(std::time::Duration::from_secs(5)));
    assert_eq!(observed.list(), transitions(&expected.observations), "{}: transitions", scenario.name);
}

async fn sampler(server: &FakeServer, observed: &Observed) -> (ServiceClient, SamplingClient) {
    let service = replay::client(server).queue_state_observer(observed.clone()).build().await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    (service, sampler)
}

/// The call's arguments. Where the call names no parameters, those of the recorded request were used.
fn request_of(scenario: &Scenario) -> SampleRequest {
    let call = scenario.call();
    let given = call
        .get("sampling_params")
        .unwrap_or_else(|| &scenario.of_route("asample")[0].request["body"]["sampling_params"]);
    let params: SamplingParams = serde_json::from_value(given.clone()).unwrap();
    let prompt: Vec<i32> = serde_json::from_value(call["prompt"].clone()).unwrap();
    let number = |name: &str| call.get(name).and_then(Value::as_u64).map(|n| u32::try_from(n).unwrap());
    let switch = |name: &str| call.get(name).and_then(Value::as_bool).unwrap_or(false);
    let mut request = SampleRequest::new(prompt, params)
        .num_samples(number("num_samples").unwrap_or(1))
        .prompt_logprobs(switch("include_prompt_logprobs"))
        .topk_prompt_logprobs(number("topk_prompt_logprobs").unwrap_or(0))
        .topk_sample_logprobs(number("topk_sample_logprobs").unwrap_or(0))
        .prompt_alt_tokens_k(number("prompt_alt_tokens_k").unwrap_or(0))
        .record_stability_info(switch("record_stability_info"));
    request.prompt_logprobs_last_n = number("prompt_logprobs_last_n");
    if let Some(rows) = call.get("target_prompt_logprobs") {
        let rows: Vec<Vec<i64>> = serde_json::from_value(rows.clone()).unwrap();
        let shape = [rows.len() as u64, rows[0].len() as u64];
        request = request.target_prompt_logprobs(TensorData::int64(rows.concat(), &shape).unwrap());
    }
    request
}

#[track_caller]
fn assert_outcome(scenario: &Scenario, outcome: &Result<Value, Failure>, expected: &Result<Value, Failure>) {
    match (outcome, expected) {
        (Ok(ours), Ok(theirs)) => {
            assert!(
                compare::same(ours, theirs),
                "{}\n  got:      {ours}\n  recorded: {theirs}",
                scenario.name
            );
        }
        _ => assert_eq!(outcome, expected, "{}", scenario.name),
    }
}

#[track_caller]
fn assert_flow(server: &FakeServer, scenario: &Scenario, expected: &Expected) {
    replay::assert_requests(server, scenario, expected.one_key, false);
    // The fetch and the acknowledgements of the session poller race; only their order per path is fixed.
    if scenario.of_route("retrieve_futures").is_empty() {
        replay::assert_order(server, scenario);
    } else if expected.result.as_ref().map_or_else(|e| e.request_id.is_some(), |_| true) {
        let last = server.requests("retrieve_futures").pop().unwrap();
        assert_eq!(last.field("retrieved_request_ids"), Some(&json!(["req-s"])), "{}", scenario.name);
    }
    for (route, gaps) in expected.gaps {
        replay::assert_gaps(server, scenario, route, gaps);
    }
}

#[track_caller]
fn assert_lines(scenario: &Scenario, log: &LogCapture, expected: &Expected) {
    let warnings = log.messages(tracing::Level::WARN).into_iter();
    let ours: Vec<_> = warnings.filter(|line| deviations::is_of_interest(line)).collect();
    assert_eq!(ours, expected.lines, "{}: log lines", scenario.name);
}

/// What of the observations is a change, per promise. The end of a promise is one only after a pause.
fn transitions(observations: &[Observation]) -> Vec<Observation> {
    let mut changes = Vec::new();
    for (n, observation) in observations.iter().enumerate() {
        let before = n.checked_sub(1).map(|n| &observations[n]);
        let at_end = n + 1 == observations.len();
        let news = match before {
            None => !at_end,
            Some(before) if at_end => before.0 != observation.0,
            Some(before) => before != observation,
        };
        if news {
            changes.push(observation.clone());
        }
    }
    changes
}

#[tokio::test(start_paused = true)]
async fn asample_multimodal_prompt() {
    let image = ImageChunk {
        data: bytes::Bytes::from_static(&[0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]),
        format: ImageFormat::Png,
        expected_tokens: Some(3),
    };
    let asset = ImageAssetPointerChunk {
        format: ImageFormat::Jpeg,
        location: "tinker://img/1".to_owned(),
        expected_tokens: None,
    };
    let audio = AudioChunk { dmel: bytes::Bytes::from_static(&[0, 2, 3, 4, 7]) };
    let prompt =
        ModelInput::from_ints(vec![1, 2]).with_image(image).with_image_asset(asset).with_audio(audio);
    let scenario = Scenario::load("asample_multimodal_prompt");
    let params = scenario.of_route("asample")[0].request["body"]["sampling_params"].clone();
    let request = SampleRequest::new(prompt, serde_json::from_value(params).unwrap());
    sample(&scenario, Some(request)).await;
}

#[tokio::test(start_paused = true)]
async fn compute_logprobs() {
    let scenario = Scenario::load("compute_logprobs");
    let expected = deviations::expected(&scenario);
    let server = replay::server(&scenario);
    let (_service, sampler) = sampler(&server, &Observed::default()).await;
    let logprobs = sampler.compute_logprobs(vec![1, 2, 3]).await.unwrap();
    assert_outcome(&scenario, &Ok(rendered::logprobs(&logprobs)), &expected.result);
    assert_flow(&server, &scenario, &expected);
}

#[tokio::test(start_paused = true)]
async fn create_sampling_session_base_model() {
    let scenario = Scenario::load("create_sampling_session_base_model");
    let server = replay::server(&scenario);
    let (_service, sampler) = sampler(&server, &Observed::default()).await;
    assert_sampler(&scenario, &sampler);
    replay::assert_requests(&server, &scenario, &[], false);
    assert_eq!(server.count("samplers/*"), 0, "no further request");
}

#[tokio::test(start_paused = true)]
async fn create_sampling_session_model_path() {
    let scenario = Scenario::load("create_sampling_session_model_path");
    let server = FakeServer::with(replay::stage(json!({}), json!({})));
    // The recorded request is the second of its session.
    let (service, _first) = sampler(&server, &Observed::default()).await;
    replay::play(&server, &scenario);
    let path = scenario.call()["model_path"].as_str().unwrap();
    let second = service.sampling_client().model_path(path).create().await.unwrap();
    assert_sampler(&scenario, &second);
    let sent = server.all_requests();
    for (sent, recorded) in sent[sent.len() - 2..].iter().zip(&scenario.exchanges) {
        compare::assert_request(&scenario.name, sent, recorded, compare::Tolerance::default());
    }
    server.verify().unwrap();
}

#[track_caller]
fn assert_sampler(scenario: &Scenario, sampler: &SamplingClient) {
    let ours =
        json!({ "sampling_session_id": sampler.sampling_session_id(), "base_model": sampler.base_model() });
    assert_eq!(&ours, scenario.decoded());
}

#[tokio::test(start_paused = true)]
async fn cancel_future() {
    let scenario = Scenario::load("cancel_future");
    let server = FakeServer::with(replay::stage(json!({}), json!({ "sample_cancel_enabled": true })));
    replay::play(&server, &scenario);
    server.script("retrieve_future", [Step::hang()]);
    let (_service, sampler) = sampler(&server, &Observed::default()).await;
    let pending = sampler.sample(SampleRequest::new(vec![1], SamplingParams::new().max_tokens(2)));
    server.wait_for("retrieve_future", 1).await;
    drop(pending);
    server.wait_for("cancel_future", 1).await;
    server.wait_for_in_flight("**", 0).await;
    replay::assert_requests(&server, &scenario, &[], false);
}

/// The handle is the recorded one, but for the server's address.
#[tokio::test(start_paused = true)]
async fn join_sampling_session() {
    let scenario = Scenario::load("join_sampling_session");
    let expected = deviations::expected(&scenario);
    let server = replay::server(&scenario);
    let mut payload = scenario.call()["handle_payload"].clone();
    payload["holder"]["base_url"] = json!(server.url());
    let text = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE, payload.to_string());
    let handle: SamplerHandle = text.parse().unwrap();
    let written: Value = {
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE, handle.to_string());
        serde_json::from_slice(&bytes.unwrap()).unwrap()
    };
    assert_eq!(written, payload, "a handle is written as it was read");

    let opened = replay::client(&server).api_key("tml-other").open_sampler(&handle).await.unwrap();
    let outcome = opened.sample(SampleRequest::new(vec![1], SamplingParams::new().max_tokens(2))).await;
    assert_outcome(&scenario, &Ok(rendered::response(&outcome.unwrap())), &expected.result);
    replay::assert_requests(&server, &scenario, &[], false);
    replay::assert_order(&server, &scenario);
    assert_eq!(server.all_requests().len(), scenario.exchanges.len(), "{}", server.summary());
}

/// The older protocol (PROTOCOL 23): JSON results, no sequence ids, no flags.
#[tokio::test(start_paused = true)]
async fn classic_sampling() {
    let (log, _guard) = LogCapture::start();
    let created = Scenario::load_classic("create_sampling_session");
    let scenario = Scenario::load_classic("asample");
    let server = FakeServer::with(replay::stage(json!({}), json!({})));
    for route in ["client/config", "client/dynamic_config"] {
        server.script(route, [Step::status(404)]);
    }
    replay::play(&server, &created);
    replay::play(&server, &scenario);
    let builder = replay::client(&server).queue_log(LogPolicy::of_release(LogWording::V0_7));
    let service = builder.build().await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    let recorded = &scenario.of_route("asample")[0].request["body"];
    let prompt: Vec<i32> = serde_json::from_value(recorded["prompt"]["chunks"][0]["tokens"].clone()).unwrap();
    let params: SamplingParams = serde_json::from_value(recorded["sampling_params"].clone()).unwrap();
    let reply = sampler.sample(SampleRequest::new(prompt, params)).await.unwrap();

    let sequence = &scenario.decoded()["result"]["sequences"][0];
    let ours = rendered::response(&reply);
    for field in ["tokens", "logprobs", "stop_reason"] {
        assert!(compare::same(&ours["sequences"][0][field], &sequence[field]), "{field}: {ours}");
    }
    assert_eq!(ours["sequences"][0]["sequence_id"], Value::Null);
    replay::assert_requests(&server, &created, &[], true);
    replay::assert_requests(&server, &scenario, &[], true);
    replay::assert_order(&server, &scenario);
    // C-5: a 200 `try_again` is an observation too; the line is the one the recorded 408 led to.
    let line = scenario.decoded()["logs"][1]["message"].as_str().unwrap();
    assert_eq!(log.pause_texts(), [line]);
}
