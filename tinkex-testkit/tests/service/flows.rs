//! Sessions, samplers, configuration, keys, telemetry: the routes that answer at once.

use http::Method;
use serde_json::json;
use tinkex_testkit::service::{Dialect, Service, ServiceOptions};
use tinkex_testkit::{Behaviour, Received};

use crate::caller::{BASE, Caller, refusal, text};

/// S1-01, S1-02, PROTOCOL 22: the whole way from a session to a result.
#[tokio::test(start_paused = true)]
async fn a_session_a_sampler_a_sample_and_its_result() {
    let caller = Caller::production().await;
    let reply = caller.asample(0, json!({ "num_samples": 3 })).await;
    let promise = reply.to_json().unwrap();
    assert_eq!(reply.status, 200);
    let ids: Vec<&str> =
        promise["sample_sequence_ids"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);
    let result = caller.retrieve(promise["request_id"].as_str().unwrap()).await.to_json().unwrap();
    assert_eq!(result["sequences"].as_array().unwrap().len(), 3);
    assert_eq!(caller.service.samples_accepted(), 1);
    let sessions = caller.service.sessions();
    assert_eq!(
        (sessions.len(), &sessions[0].id, sessions[0].samplers.clone()),
        (1, &caller.session, vec![caller.sampler.clone()])
    );
}

#[tokio::test(start_paused = true)]
async fn a_repeated_create_session_with_the_same_idempotency_key_is_the_same_session() {
    let caller = Caller::production().await;
    let request = |key: &str| {
        Received::post("create_session", &json!({ "user_metadata": {} }))
            .with_header("x-idempotency-key", key)
    };
    let first = text(&caller.send(request("a")).await, "session_id");
    assert_eq!(text(&caller.send(request("a")).await, "session_id"), first);
    assert_ne!(text(&caller.send(request("b")).await, "session_id"), first);
}

/// PROTOCOL 10.2, 10.3: heartbeats until the session is finished, then 410.
#[tokio::test(start_paused = true)]
async fn heartbeats_are_counted_and_end_with_410_when_the_session_is_finished() {
    let caller = Caller::production().await;
    let beat = || {
        caller.post("session_heartbeat", json!({ "session_id": caller.session, "type": "session_heartbeat" }))
    };
    assert_eq!(beat().await.to_json(), Some(json!({ "type": "session_heartbeat" })));
    assert_eq!(beat().await.status, 200);
    assert_eq!(caller.service.heartbeats(&caller.session), 2);
    let route = format!("sessions/{}/finish", caller.session);
    let reason = json!({ "reason": { "type": "success" }, "detail": null });
    assert_eq!(caller.post(&route, reason.clone()).await.status, 200);
    assert_eq!(caller.post(&route, json!({ "reason": { "type": "errored" } })).await.status, 200);
    assert_eq!(caller.service.sessions()[0].finished, Some(reason), "the first reason stays");
    assert_eq!(beat().await.status, 410);
    assert_eq!(caller.service.heartbeats(&caller.session), 2);
    assert_eq!(caller.asample(0, json!({})).await.status, 400);
    assert_eq!(caller.create_sampler(1, json!({ "base_model": BASE })).await.status, 400);
    let unknown = caller.post("session_heartbeat", json!({ "session_id": "s-none" })).await;
    assert_eq!(unknown.status, 404);
    assert_eq!(caller.post("sessions/s-none/finish", json!({})).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn samplers_come_from_base_models_and_paths_and_tell_which() {
    let caller = Caller::production().await;
    let path = caller.service.checkpoints()[0].clone();
    assert_eq!(path, "tinker://run-0001/sampler_weights/demo");
    caller.service.register_checkpoint("tinker://run-0002/sampler_weights/step-3", "meta-llama/Llama-3.2-1B");
    let demo = text(&caller.create_sampler(1, json!({ "model_path": path })).await, "sampling_session_id");
    let other = json!({ "model_path": "tinker://run-0002/sampler_weights/step-3", "base_model": null });
    let other = text(&caller.create_sampler(2, other).await, "sampling_session_id");
    let get = async |id: &str| caller.get(&format!("samplers/{id}")).await.to_json().unwrap();
    assert_eq!(get(&caller.sampler).await, json!({ "sampler_id": caller.sampler, "base_model": BASE }));
    assert_eq!(get(&demo).await, json!({ "sampler_id": demo, "base_model": BASE, "model_path": path }));
    assert_eq!(get(&other).await["base_model"], "meta-llama/Llama-3.2-1B");
    let escaped = demo.replace(':', "%3A");
    assert_eq!(get(&escaped).await["sampler_id"], demo);
    assert_eq!(caller.get("samplers/none").await.status, 404);
    assert_eq!(caller.service.sampler(&demo).unwrap().model_path, Some(path));
}

#[tokio::test(start_paused = true)]
async fn a_sampler_that_cannot_be_made_is_refused_with_a_clear_reason() {
    let caller = Caller::production().await;
    let (status, detail) = refusal(&caller.create_sampler(1, json!({ "base_model": "gpt-none" })).await);
    assert_eq!(status, 400);
    assert!(
        detail.contains("gpt-none") && detail.contains(BASE) && detail.contains("meta-llama"),
        "{detail}"
    );
    let (status, detail) =
        refusal(&caller.create_sampler(1, json!({ "model_path": "tinker://none/x" })).await);
    assert!(status == 404 && detail.contains("tinker://none/x"), "{detail}");
    let (status, detail) = refusal(&caller.create_sampler(1, json!({ "model_path": "/models/x" })).await);
    assert!(status == 400 && detail.contains("tinker://"), "{detail}");
    assert_eq!(refusal(&caller.create_sampler(1, json!({})).await).0, 400);
    assert_eq!(
        refusal(&caller.create_sampler(1, json!({ "session_id": "s-none", "base_model": BASE })).await).0,
        404
    );
    let no_seq = json!({ "sampling_session_seq_id": null, "base_model": BASE });
    assert_eq!(refusal(&caller.create_sampler(1, no_seq).await).0, 422);
}

/// PROTOCOL 22: a repeated request is told apart from a different one with the same number.
#[tokio::test(start_paused = true)]
async fn a_sampling_session_number_is_used_once() {
    let caller = Caller::production().await;
    let again = caller.create_sampler(0, json!({ "base_model": BASE })).await;
    assert_eq!(text(&again, "sampling_session_id"), caller.sampler);
    let other = caller.create_sampler(0, json!({ "base_model": "meta-llama/Llama-3.2-1B" })).await;
    assert_eq!(refusal(&other).0, 409);
    assert_eq!(caller.service.sessions()[0].samplers.len(), 1);
}

/// PROTOCOL 15.7: counters of clones are unique and start at one.
#[tokio::test(start_paused = true)]
async fn joining_a_sampling_session_counts_clones_from_one() {
    let caller = Caller::production().await;
    for counter in 1..=3 {
        let reply =
            caller.post("join_sampling_session", json!({ "sampling_session_id": caller.sampler })).await;
        assert_eq!(
            reply.to_json().unwrap(),
            json!({ "type": "join_sampling_session", "client_counter": counter })
        );
    }
    assert_eq!(caller.service.sampler(&caller.sampler).unwrap().joined, 3);
    let unknown = caller.post("join_sampling_session", json!({ "sampling_session_id": "none" })).await;
    assert_eq!(unknown.status, 404);
}

#[tokio::test(start_paused = true)]
async fn configuration_flags_are_empty_until_set() {
    let caller = Caller::production().await;
    let get =
        async |route: &str| caller.post(route, json!({ "sdk_version": "0.38.0" })).await.to_json().unwrap();
    assert_eq!(get("client/config").await, json!({}));
    assert_eq!(get("client/dynamic_config").await, json!({}));
    caller.service.set_client_config(&json!({ "sample_no_retries": true }));
    caller.service.set_dynamic_config(&json!({ "sample_cancel_enabled": true }));
    assert_eq!(get("client/config").await, json!({ "sample_no_retries": true }));
    assert_eq!(get("client/dynamic_config").await, json!({ "sample_cancel_enabled": true }));
}

#[tokio::test(start_paused = true)]
async fn capabilities_health_and_unknown_routes() {
    let caller = Caller::production().await;
    let capabilities = caller.get("get_server_capabilities").await.to_json().unwrap();
    assert_eq!(capabilities["supported_models"][0]["model_name"], BASE);
    assert_eq!(capabilities["supported_models"].as_array().unwrap().len(), 3);
    let health = caller.service.respond(&Received::get("healthz")).await;
    assert_eq!(
        (health.status.as_u16(), health.to_json()),
        (200, Some(json!({ "status": "ok" }))),
        "needs no key"
    );
    assert_eq!(caller.post("auth/keys", json!({})).await.status, 404);
    assert_eq!(caller.get("nonsense").await.status, 404);
    assert_eq!(caller.get("asample").await.status, 405);
    assert_eq!(caller.send(Received::new(Method::DELETE, "/api/v1/healthz")).await.status, 405);
}

#[tokio::test]
async fn keys_are_missing_wrong_or_right() {
    let service = Service::default();
    let ask = async |key: Option<(&str, &str)>| {
        let request = Received::get("get_server_capabilities");
        let request = key.into_iter().fold(request, |request, (name, key)| request.with_header(name, key));
        service.respond(&request).await.status.as_u16()
    };
    assert_eq!(ask(None).await, 401);
    assert_eq!(ask(Some(("x-api-key", ""))).await, 401);
    assert_eq!(ask(Some(("authorization", "Bearer tml-a"))).await, 401);
    assert_eq!(ask(Some(("x-api-key", "anything"))).await, 200, "without a list any key is right");
    service.set_accepted_keys(Some(vec!["tml-a".into(), "tml-b".into()]));
    assert_eq!(ask(Some(("x-api-key", "tml-b"))).await, 200);
    assert_eq!(ask(Some(("x-api-key", "tml-c"))).await, 403);
    let options =
        ServiceOptions { accepted_keys: Some(vec!["tml-secret".into()]), ..ServiceOptions::default() };
    assert!(!format!("{:?}", Service::with_options(options)).contains("secret"));
}

/// PROTOCOL 20: exactly this answer is required, and the events are kept.
#[tokio::test(start_paused = true)]
async fn telemetry_is_accepted_and_kept_and_needs_events() {
    let caller = Caller::production().await;
    let batch = json!({ "events": [{ "event": "SESSION_START" }, { "event": "SESSION_END" }], "session_id": caller.session });
    assert_eq!(caller.post("telemetry", batch).await.to_json(), Some(json!({ "status": "accepted" })));
    let events = caller.service.telemetry_events();
    assert_eq!((events.len(), &events[1]["event"]), (2, &json!("SESSION_END")));
    assert_eq!(caller.post("telemetry", json!({ "session_id": "x" })).await.status, 422);
}

#[tokio::test(start_paused = true)]
async fn services_of_different_seeds_have_different_ids_and_samples() {
    let one =
        Caller::with_options(ServiceOptions { seed: 1, ..ServiceOptions::of(Dialect::production()) }).await;
    let twin =
        Caller::with_options(ServiceOptions { seed: 1, ..ServiceOptions::of(Dialect::production()) }).await;
    let other =
        Caller::with_options(ServiceOptions { seed: 2, ..ServiceOptions::of(Dialect::production()) }).await;
    let long = json!({ "sampling_params": { "max_tokens": 40, "stop": [] } });
    assert_eq!(one.session, twin.session);
    assert_ne!(one.session, other.session);
    let result = one.sample(0, long.clone()).await;
    assert_eq!(result, twin.sample(0, long.clone()).await, "equal seeds and requests repeat");
    assert_ne!(result, other.sample(0, long.clone()).await);
    assert_ne!(result, one.sample(1, long).await, "another sequence id is another sample");
}
