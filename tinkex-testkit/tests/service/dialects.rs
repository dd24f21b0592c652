//! Every switch of a dialect has an effect, and the presets set the right ones.

use std::time::Duration;

use prost::Message;
use serde_json::{Value, json};
use tinkex_testkit::service::{
    ConfigAnswer, Dialect, FailureStyle, KeyRule, PendingStyle, PromptLogprobShape, RequestIdShape,
    ResultEncoding, SamplerPathShape, SamplingOrder, Service, ServiceOptions, SuccessCodes,
};
use tinkex_testkit::{Behaviour, Received};
use tinkex_types::proto;
use tinkex_types::{ErrorCategory, QueueState};
use tokio::time::Instant;

use crate::caller::{BASE, Caller, prompt, refusal, text};

const PROTOBUF: &str = "application/x-protobuf";

/// The production service with changes.
fn changed(change: impl FnOnce(&mut Dialect)) -> Dialect {
    let mut dialect = Dialect::production();
    change(&mut dialect);
    dialect
}

async fn caller(change: impl FnOnce(&mut Dialect)) -> Caller {
    Caller::new(changed(change)).await
}

/// A sample goes through under every preset.
#[tokio::test(start_paused = true)]
async fn a_sample_goes_through_under_every_preset() {
    for dialect in Dialect::presets() {
        let name = dialect.name;
        let caller = Caller::new(dialect).await;
        let id = caller.submit(0, json!({})).await;
        let reply = caller.retrieve_with(&id, json!({}), PROTOBUF).await;
        assert_eq!(reply.status, 200, "{name}");
        assert_eq!(Dialect::named(name).as_ref(), Some(caller.service.dialect()));
    }
    assert_eq!(Dialect::named("other"), None);
}

/// The rows of the table of open servers.
#[test]
fn the_presets_are_those_of_the_table() {
    let (production, skyrl, tuft, hatchery) =
        (Dialect::production(), Dialect::skyrl(), Dialect::tuft(), Dialect::hatchery());
    assert_eq!(Dialect::default(), production);
    assert!(tuft.refuse_unknown_fields && !skyrl.refuse_unknown_fields && !hatchery.refuse_unknown_fields);
    assert!(tuft.user_metadata_required && !skyrl.user_metadata_required);
    assert!(production.sequence_ids && !skyrl.sequence_ids && !tuft.sequence_ids && !hatchery.sequence_ids);
    assert_eq!(skyrl.result_encoding, ResultEncoding::Protobuf);
    assert_eq!(tuft.result_encoding, ResultEncoding::FollowsAccept);
    assert_eq!(hatchery.result_encoding, ResultEncoding::Json);
    assert_eq!((skyrl.pending, skyrl.hold.as_secs()), (PendingStyle::Bare408, 300));
    assert_eq!((tuft.pending, tuft.hold.as_secs()), (PendingStyle::TryAgain, 120));
    assert_eq!((skyrl.failure, tuft.failure), (FailureStyle::Status(400), FailureStyle::Status(422)));
    assert_eq!(tuft.success, SuccessCodes { created: 201, accepted: 202, done: 204 });
    assert_eq!(
        (skyrl.request_ids, tuft.request_ids, hatchery.request_ids),
        (RequestIdShape::Number, RequestIdShape::Uuid, RequestIdShape::Fut)
    );
    assert_eq!(skyrl.prompt_logprobs, PromptLogprobShape::Shorter);
    assert_eq!(tuft.prompt_logprobs, PromptLogprobShape::LeadingZero);
    assert_eq!(hatchery.prompt_logprobs, PromptLogprobShape::LeadingNull);
    assert_eq!((skyrl.keys, tuft.keys), (KeyRule::Ignored, KeyRule::ApiKey));
    assert_eq!(hatchery.keys, KeyRule::ApiKeyOrBearer);
    assert_eq!((skyrl.client_config, tuft.client_config), (ConfigAnswer::JwtOff, ConfigAnswer::Missing));
    assert_eq!(hatchery.client_config, ConfigAnswer::Missing);
    assert!(
        [skyrl.dynamic_config, tuft.dynamic_config, hatchery.dynamic_config] == [ConfigAnswer::Missing; 3]
    );
    assert!(skyrl.max_tokens_required && skyrl.refuse_topk_prompt_logprobs && hatchery.stop_strings_ignored);
    assert!(hatchery.zstd_from_bytes.is_some());
}

#[tokio::test(start_paused = true)]
async fn unknown_fields_are_refused_even_at_their_default_and_nested() {
    let caller = caller(|d| d.refuse_unknown_fields = true).await;
    for (changes, field) in [
        (json!({ "topk_sample_logprobs": 0 }), "topk_sample_logprobs"),
        (json!({ "prompt_alt_tokens_k": 0 }), "prompt_alt_tokens_k"),
        (json!({ "record_stability_info": false }), "record_stability_info"),
        (json!({ "sampling_params": { "min_p": 0.1 } }), "sampling_params.min_p"),
    ] {
        let (status, detail) = refusal(&caller.asample(0, changes).await);
        assert!(status == 422 && detail.contains(field), "{detail}");
    }
    let session = json!({ "user_metadata": {}, "display_name": "x" });
    assert_eq!(refusal(&caller.post("create_session", session).await).0, 422);
    caller.submit(0, json!({})).await;
    let tolerant = Caller::production().await;
    tolerant.submit(0, json!({ "sampling_params": { "min_p": 0.1 }, "whatever": 1 })).await;
}

#[tokio::test(start_paused = true)]
async fn a_rejected_request_uses_up_its_id_where_the_server_is_so() {
    for uses_up in [false, true] {
        let caller = caller(|d| {
            d.refuse_unknown_fields = true;
            d.rejected_requests_use_ids = uses_up;
            d.sampling_order = SamplingOrder::Strict;
        })
        .await;
        assert_eq!(refusal(&caller.asample(0, json!({ "prompt_alt_tokens_k": 0 })).await).0, 422);
        let again = caller.asample(0, json!({})).await;
        if uses_up {
            let (status, detail) = refusal(&again);
            assert!(status == 409 && detail.contains("expected 1"), "{detail}");
            assert_eq!(
                refusal(&caller.asample(1, json!({ "prompt": "text" })).await).0,
                422,
                "cannot be decoded"
            );
            assert_eq!(refusal(&caller.asample(1, json!({})).await).0, 409);
        } else {
            assert_eq!(again.status, 200);
        }
        assert_eq!(caller.service.seq_ids(&caller.sampler).len(), usize::from(!uses_up));
    }
}

#[tokio::test(start_paused = true)]
async fn user_metadata_may_be_required() {
    let strict = caller(|d| d.user_metadata_required = true).await;
    assert_eq!(refusal(&strict.post("create_session", json!({ "tags": [] })).await).0, 422);
    assert_eq!(strict.post("create_session", json!({ "user_metadata": {} })).await.status, 200);
    assert_eq!(Caller::production().await.post("create_session", json!({ "tags": [] })).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn sequence_ids_may_be_absent() {
    let reply = caller(|d| d.sequence_ids = false).await.asample(0, json!({})).await.to_json().unwrap();
    assert_eq!(reply.as_object().unwrap().keys().collect::<Vec<_>>(), ["request_id"]);
}

#[tokio::test(start_paused = true)]
async fn results_are_encoded_as_asked_or_not() {
    for (encoding, to_json, to_protobuf) in [
        (ResultEncoding::FollowsAccept, "application/json", PROTOBUF),
        (ResultEncoding::Protobuf, PROTOBUF, PROTOBUF),
        (ResultEncoding::Json, "application/json", "application/json"),
    ] {
        let caller = caller(|d| d.result_encoding = encoding).await;
        let id = caller.submit(0, json!({})).await;
        assert_eq!(caller.retrieve(&id).await.headers["content-type"], to_json);
        assert_eq!(caller.retrieve_with(&id, json!({}), PROTOBUF).await.headers["content-type"], to_protobuf);
    }
}

#[tokio::test(start_paused = true)]
async fn long_json_answers_may_come_as_zstd_whatever_was_asked() {
    let caller = caller(|d| d.zstd_from_bytes = Some(400)).await;
    let id = caller.submit(0, json!({ "num_samples": 6 })).await;
    let reply = caller.retrieve(&id).await;
    assert_eq!(reply.headers["content-encoding"], "zstd");
    let plain: Value = serde_json::from_slice(&zstd::decode_all(reply.body.as_ref()).unwrap()).unwrap();
    assert_eq!(plain["sequences"].as_array().unwrap().len(), 6);
    assert!(
        caller.create_session().await.headers.get("content-encoding").is_none(),
        "short ones stay as they are"
    );
}

#[tokio::test(start_paused = true)]
async fn pending_promises_are_told_in_three_ways() {
    for (style, status, told) in [
        (PendingStyle::TryAgain, 200, true),
        (PendingStyle::Status408, 408, true),
        (PendingStyle::Bare408, 408, false),
    ] {
        let caller = caller(|d| {
            d.pending = style;
            d.hold = Duration::from_secs(3);
        })
        .await;
        caller.service.pause(QueueState::PausedCapacity, Some("full"), None);
        let id = caller.submit(0, json!({})).await;
        let start = Instant::now();
        let reply = caller.retrieve(&id).await;
        assert_eq!(reply.status, status);
        if told {
            assert_eq!(
                (text(&reply, "queue_state").as_str(), start.elapsed().as_secs()),
                ("paused_capacity", 0)
            );
        } else {
            assert_eq!((reply.body.len(), start.elapsed().as_secs()), (0, 3), "no news, no early end");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_hold_time_is_the_dialects_unless_the_options_say_otherwise() {
    for (hold, expected) in [(None, 300), (Some(Duration::from_secs(4)), 4)] {
        let latency = Duration::from_secs(1000);
        let caller =
            Caller::with_options(ServiceOptions { hold, latency, ..ServiceOptions::of(Dialect::skyrl()) })
                .await;
        let id = caller.submit(0, json!({})).await;
        let start = Instant::now();
        assert_eq!(caller.retrieve(&id).await.status, 408);
        assert_eq!(start.elapsed().as_secs(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn failures_may_come_as_statuses() {
    for (failure, status) in
        [(FailureStyle::Body, 200), (FailureStyle::Status(400), 400), (FailureStyle::Status(422), 422)]
    {
        let caller = caller(|d| d.failure = failure).await;
        caller.service.fail_next(ErrorCategory::User, "bad");
        let reply = caller.retrieve(&caller.submit(0, json!({})).await).await;
        assert_eq!(reply.status, status);
        let name = if status == 200 { "error" } else { "detail" };
        assert_eq!(text(&reply, name), "bad");
    }
}

#[tokio::test(start_paused = true)]
async fn sequence_ids_are_free_used_once_or_strictly_in_order() {
    let once = caller(|d| d.sampling_order = SamplingOrder::NoReuse).await;
    once.submit(5, json!({})).await;
    once.submit(2, json!({})).await;
    let (status, detail) = refusal(&once.asample(5, json!({})).await);
    assert!(status == 409 && detail.contains("expected 6"), "{detail}");

    let strict = caller(|d| d.sampling_order = SamplingOrder::Strict).await;
    let (status, detail) = refusal(&strict.asample(1, json!({})).await);
    assert!(status == 409 && detail.contains("expected 0, got 1"), "{detail}");
    strict.submit(0, json!({})).await;
    strict.submit(1, json!({})).await;
    assert!(refusal(&strict.asample(1, json!({})).await).1.contains("expected 2"), "a resend is a conflict");
    let (status, detail) = refusal(&strict.asample(2_000_000_001, json!({})).await);
    assert!(
        status == 409 && detail.contains("expected 2000000000"),
        "each clone counts for itself: {detail}"
    );
    strict.submit(2_000_000_000, json!({})).await;
    assert_eq!(strict.service.seq_ids(&strict.sampler), [0, 1, 2_000_000_000]);
}

#[tokio::test(start_paused = true)]
async fn success_has_other_codes_elsewhere() {
    let caller = caller(|d| d.success = SuccessCodes { created: 201, accepted: 202, done: 204 }).await;
    assert_eq!(caller.create_session().await.status, 201);
    assert_eq!(caller.create_sampler(1, json!({ "base_model": BASE })).await.status, 201);
    let reply = caller.asample(0, json!({})).await;
    assert_eq!(reply.status, 202);
    let cancelled = caller.post("cancel_future", json!({ "request_id": text(&reply, "request_id") })).await;
    assert_eq!((cancelled.status.as_u16(), cancelled.body.len()), (204, 0));
    let finished = caller.post(&format!("sessions/{}/finish", caller.session), json!({})).await;
    assert_eq!((finished.status.as_u16(), finished.body.len()), (204, 0));
}

#[tokio::test(start_paused = true)]
async fn request_ids_have_the_shape_of_the_server() {
    for (shape, id) in [
        (RequestIdShape::Text, "req-00000001"),
        (RequestIdShape::Number, "1"),
        (RequestIdShape::Uuid, "5e7f3a10-9c2b-4d61-8a44-000000000001"),
        (RequestIdShape::Fut, "fut_000000000001"),
    ] {
        let caller = caller(|d| d.request_ids = shape).await;
        assert_eq!(caller.submit(0, json!({})).await, id);
        assert_eq!(caller.retrieve(id).await.status, 200);
        for unknown in ["", "0", "01", "-", "req-1", "fut_1", "00000000-0000-0000-0000-000000000001"] {
            assert_eq!(caller.retrieve(unknown).await.status, 404, "{shape:?} {unknown}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn prompt_logprobs_have_the_form_of_the_server() {
    for (shape, length, first) in [
        (PromptLogprobShape::LeadingNull, 5, Some(Value::Null)),
        (PromptLogprobShape::LeadingZero, 5, Some(json!(0.0))),
        (PromptLogprobShape::Shorter, 4, None),
    ] {
        let caller = caller(|d| d.prompt_logprobs = shape).await;
        let id = caller.submit(0, json!({ "prompt": prompt("Hello"), "prompt_logprobs": true })).await;
        let reply = caller.retrieve(&id).await.to_json().unwrap();
        let logprobs = reply["prompt_logprobs"].as_array().unwrap();
        assert_eq!(logprobs.len(), length, "{shape:?}");
        match first {
            Some(first) => assert_eq!(logprobs[0], first),
            None => assert!(logprobs[0].as_f64() < Some(0.0)),
        }
        let binary = caller.retrieve_with(&id, json!({}), PROTOBUF).await.body;
        assert_eq!(proto::SampleResponse::decode(binary).unwrap().prompt_logprobs.unwrap().len(), 4 * length);
    }
}

#[tokio::test]
async fn keys_are_ignored_needed_or_may_be_bearers() {
    let ask = async |rule: KeyRule, header: Option<(&str, &str)>| {
        let service = Service::new(changed(|d| d.keys = rule));
        service.set_accepted_keys(Some(vec!["secret".into()]));
        let request = Received::get("get_server_capabilities");
        let request =
            header.into_iter().fold(request, |request, (name, value)| request.with_header(name, value));
        service.respond(&request).await.status.as_u16()
    };
    assert_eq!(ask(KeyRule::Ignored, None).await, 200);
    assert_eq!(ask(KeyRule::ApiKey, Some(("authorization", "Bearer secret"))).await, 401);
    assert_eq!(ask(KeyRule::ApiKeyOrBearer, Some(("authorization", "Bearer secret"))).await, 200);
    assert_eq!(ask(KeyRule::ApiKeyOrBearer, Some(("authorization", "Bearer wrong"))).await, 403);
    assert_eq!(ask(KeyRule::ApiKeyOrBearer, Some(("x-api-key", "secret"))).await, 200);
    assert_eq!(ask(KeyRule::ApiKeyOrBearer, None).await, 401);
}

#[tokio::test(start_paused = true)]
async fn configuration_may_be_reduced_or_missing() {
    let caller = caller(|d| {
        d.client_config = ConfigAnswer::JwtOff;
        d.dynamic_config = ConfigAnswer::Missing;
    })
    .await;
    caller.service.set_client_config(&json!({ "sample_no_retries": true }));
    let reply = caller.post("client/config", json!({})).await;
    assert_eq!(reply.to_json(), Some(json!({ "pjwt_auth_enabled": false })));
    assert_eq!(caller.post("client/dynamic_config", json!({})).await.status, 404);
    let missing = Caller::new(Dialect::hatchery()).await;
    assert_eq!(missing.post("client/config", json!({})).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn sampling_limits_of_other_servers() {
    let needing = caller(|d| d.max_tokens_required = true).await;
    let (status, detail) =
        refusal(&needing.asample(0, json!({ "sampling_params": { "max_tokens": null } })).await);
    assert!(status == 422 && detail.contains("max_tokens"), "{detail}");
    let refusing = caller(|d| d.refuse_topk_prompt_logprobs = true).await;
    assert_eq!(refusal(&refusing.asample(0, json!({ "topk_prompt_logprobs": 1 })).await).0, 400);
    refusing.submit(0, json!({ "topk_prompt_logprobs": 0 })).await;
    let ignoring = caller(|d| d.stop_strings_ignored = true).await;
    let ask = |stop: Value| json!({ "sampling_params": { "max_tokens": 60, "seed": 1, "stop": stop } });
    let strings = ignoring.sample(0, ask(json!(["e", "a", "t", " "]))).await;
    assert_eq!(strings["sequences"], ignoring.sample(1, ask(Value::Null)).await["sequences"]);
    let tokens = ignoring.sample(2, ask(json!([101, 97, 116, 32]))).await;
    assert_eq!(tokens["sequences"][0]["stop_reason"], "stop");
}

#[tokio::test(start_paused = true)]
async fn newer_features_may_be_missing() {
    let caller = caller(|d| {
        d.newer_routes = false;
        d.complete_metadata = false;
    })
    .await;
    caller.service.set_metadata_threshold(0);
    let id = caller.submit(0, json!({})).await;
    assert!(caller.retrieve(&id).await.to_json().unwrap()["sequences"].is_array());
    for route in ["join_sampling_session", "cancel_future", "retrieve_futures"] {
        assert_eq!(caller.post(route, json!({})).await.status, 404, "{route}");
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_things_have_other_statuses_and_paths_other_forms() {
    let caller = caller(|d| {
        d.unknown_model_status = 404;
        d.unknown_heartbeat_status = 500;
        d.sampler_paths = SamplerPathShape::Checkpoints;
    })
    .await;
    assert_eq!(refusal(&caller.create_sampler(1, json!({ "base_model": "none" })).await).0, 404);
    assert_eq!(refusal(&caller.post("session_heartbeat", json!({ "session_id": "none" })).await).0, 500);
    let path = caller.service.checkpoints()[0].clone();
    assert_eq!(path, "tinker://run-0001/checkpoints/demo");
    assert_eq!(caller.create_sampler(1, json!({ "model_path": path })).await.status, 200);
    assert_eq!(SamplerPathShape::Bare.path("r", "n"), "tinker://r/n");
    assert_eq!(SamplerPathShape::SamplerWeights.path("r", "n"), "tinker://r/sampler_weights/n");
}
