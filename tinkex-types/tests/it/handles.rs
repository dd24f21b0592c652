//! Sampler handles (PROTOCOL 15.7, golden `join_sampling_session`).

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tinkex_types::{JoinSamplingSessionRequest, JoinSamplingSessionResponse, SamplerHandle};

use crate::support::{exchanges, fixture, request_body};

fn golden() -> Value {
    fixture(include_str!("../fixtures/join_sampling_session.json"))
}

/// The recorded payload, through text and back, is the recorded payload: every key, and the explicit null.
#[test]
fn the_recorded_handle_comes_back() {
    let payload = &golden()["call"]["handle_payload"];
    let text = URL_SAFE.encode(payload.to_string());
    let handle: SamplerHandle = text.parse().unwrap();
    assert_eq!(handle.sampling_session_id, "s-0001:sample:0");
    assert!(handle.holder.client_config.sample_join_sampling_session);
    assert_eq!(serde_json::to_value(&handle).unwrap(), *payload);
    let again = handle.to_string();
    assert_eq!(again.len() % 4, 0, "padded");
    assert_eq!(again.parse::<SamplerHandle>().unwrap(), handle);
    assert_eq!(format!(" {again}\n").parse::<SamplerHandle>().unwrap(), handle, "pasted with blanks");
    let json: Value = serde_json::from_slice(&URL_SAFE.decode(again).unwrap()).unwrap();
    assert_eq!(json["holder"]["api_key"], Value::Null);
}

/// Handles of other releases: what may be missing takes its default, what is new is ignored.
#[test]
fn handles_of_other_releases_are_read() {
    let small = json!({
        "session_id": "s", "sampling_session_id": "s:0", "base_model": "m", "new": 1,
        "holder": {"base_url": "http://h", "client_config": {"new": true}, "api_key": null, "other": 1},
    });
    let handle: SamplerHandle = URL_SAFE.encode(small.to_string()).parse().unwrap();
    assert_eq!(handle.holder.client_config, Default::default());
    assert_eq!(handle.holder.client_dynamic_config, Default::default());
    assert!(!handle.record_stability_info && handle.holder.default_headers_overrides.is_empty());
}

#[test]
fn what_is_no_handle_is_refused() {
    let unpadded = URL_SAFE_NO_PAD.encode("{\"a\": 1}");
    let foreign = URL_SAFE.encode("{\"session_id\": \"s\"}");
    for text in ["", "not base64!", "AAAA", unpadded.as_str(), foreign.as_str()] {
        let error = text.parse::<SamplerHandle>().unwrap_err();
        assert!(error.to_string().starts_with("sampler handle cannot be read: "), "{text}: {error}");
        assert_eq!(error.field(), "sampler handle");
    }
}

/// Headers may be secrets: their values are in the handle's text, which has to carry them, and in no `Debug`.
#[test]
fn header_values_do_not_print() {
    let mut payload = golden()["call"]["handle_payload"].clone();
    payload["holder"]["default_headers_overrides"] = json!({"CF-Access-Client-Secret": "hush-hush"});
    let handle: SamplerHandle = serde_json::from_value(payload).unwrap();
    let shown = format!("{handle:?} {handle:#?}");
    assert!(!shown.contains("hush-hush") && shown.contains("CF-Access-Client-Secret"), "{shown}");
    assert_eq!(handle.to_string().parse::<SamplerHandle>().unwrap(), handle);
}

/// The request that a clone makes for its block of sequence ids, and the answer.
#[test]
fn joining_is_recorded() {
    let request =
        JoinSamplingSessionRequest { sampling_session_id: "s-0001:sample:0", kind: "join_sampling_session" };
    let recorded = request_body(&golden(), "/api/v1/join_sampling_session", 0);
    assert_eq!(serde_json::to_value(request).unwrap(), recorded);
    let answer = exchanges(&golden())[0]["response"]["body"].clone();
    assert_eq!(serde_json::from_value::<JoinSamplingSessionResponse>(answer).unwrap().client_counter, 3);
}
