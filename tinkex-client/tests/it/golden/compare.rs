//! Comparing what was sent with what was recorded (golden/README, "What to assert").

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use serde_json::{Value, json};
use tinkex_testkit::Received;
use tinkex_types::proto;

use super::fixtures::Exchange;

/// Request fields that are left out while they have this value, so that older servers accept the request
/// (OPEN_SERVERS, decision 1).
const DEFAULTS: [(&str, Value); 5] = [
    ("topk_prompt_logprobs", Value::Null),
    ("topk_sample_logprobs", Value::Null),
    ("prompt_alt_tokens_k", Value::Null),
    ("record_stability_info", Value::Bool(false)),
    ("overwrite", Value::Bool(false)),
];

/// Parameters of Adam of which the same holds.
const NEWER_ADAM: [&str; 2] = ["weight_decay", "grad_clip_norm"];

/// What a comparison looks past.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tolerance {
    /// The older protocol: no `type`, explicit nulls, no `allow_metadata_only`, another version, no protobuf.
    pub(super) classic: bool,
    /// Idempotency keys and retry counts follow this client's rule: one key per logical call.
    pub(super) one_key: bool,
}

/// Asserts that a request is the recorded one: method, path, query, body, headers. Idempotency keys are compared by
/// [`assert_identities`].
#[track_caller]
pub(super) fn assert_request(what: &str, sent: &Received, recorded: &Exchange, tolerance: Tolerance) {
    let request = &recorded.request;
    assert_eq!(sent.method.as_str(), request["method"].as_str().unwrap(), "{what}: method");
    assert_eq!(sent.path, request["path"].as_str().unwrap(), "{what}: path");
    assert_eq!(
        sent.query.as_deref().unwrap_or_default(),
        request["query"].as_str().unwrap(),
        "{what}: query"
    );
    assert_eq!(sent.header("content-encoding"), request["content_encoding"].as_str(), "{what}: encoding");
    if let Some(message) = request["body_proto_message"].as_str() {
        let theirs = STANDARD.decode(request["body_base64"].as_str().unwrap()).unwrap();
        let theirs = Received::new(sent.method.clone(), &sent.path).with_body(theirs);
        let theirs = match request["content_encoding"].as_str() {
            Some(encoding) => theirs.with_header("content-encoding", encoding),
            None => theirs,
        };
        let decode = |request: &Received| {
            assert_eq!(
                message, "tinker_public.ForwardBackwardRequest",
                "{what}: a message unknown to this test"
            );
            proto::ForwardBackwardRequest::decode(request.decoded_body().unwrap()).unwrap()
        };
        assert_eq!(decode(sent), decode(&theirs), "{what}: body");
    } else if request["body"].is_null() {
        assert!(sent.body.is_empty(), "{what}: a body where none was recorded");
    } else {
        let (ours, theirs) = (normal(sent.json().unwrap(), tolerance), normal(&request["body"], tolerance));
        assert!(same(&ours, &theirs), "{what}: body\n  sent:     {ours}\n  recorded: {theirs}");
    }
    assert_headers(what, sent, recorded, tolerance);
}

#[track_caller]
fn assert_headers(what: &str, sent: &Received, recorded: &Exchange, tolerance: Tolerance) {
    let theirs = recorded.request["headers"].as_object().unwrap();
    let tinker = |name: &str| name.starts_with("x-tinker-");
    let own = |name: &str| name.starts_with("cf-") || name.starts_with("x-test");
    for (name, value) in theirs {
        let value = value.as_str().unwrap();
        let compared =
            ["x-api-key", "content-type", "accept"].contains(&name.as_str()) || tinker(name) || own(name);
        if !compared || (tolerance.classic && name == "accept") {
            continue;
        }
        let ours = sent.header(name);
        if value == "<float seconds>" {
            let seconds: f64 = ours.unwrap_or_default().parse().unwrap_or(f64::NAN);
            assert!(seconds >= 0.0, "{what}: {name} is {ours:?}");
        } else {
            assert_eq!(ours, Some(value), "{what}: {name}");
        }
    }
    for name in sent.headers.keys().map(http::HeaderName::as_str).filter(|name| tinker(name)) {
        assert!(theirs.contains_key(name), "{what}: {name} was not recorded");
    }
    // Presence alone counts for the ones whose values are an implementation's own.
    let ours_alone =
        ["content-type", "x-idempotency-key", "x-stainless-retry-count", "user-agent", "accept-encoding"];
    for name in ours_alone {
        assert_eq!(sent.header(name).is_some(), theirs.contains_key(name), "{what}: presence of {name}");
    }
    if !tolerance.classic {
        for name in ["x-sdk-method", "x-sdk-version"] {
            assert_eq!(sent.header(name).is_some(), theirs.contains_key(name), "{what}: presence of {name}");
        }
    }
}

/// Asserts the pattern of idempotency keys and retry counts over the requests of one route.
///
/// Recorded keys `#n` are equal where our keys are. Where `one_key` is set, all requests of the route are attempts of
/// one logical call, so they share one key and count 0, 1, 2, ... (F-14): the reference SDK takes a new key for each
/// attempt of its outer retry layer, which leaves a server no way to see that they are one.
#[track_caller]
pub(super) fn assert_identities(
    what: &str,
    sent: &[&Received],
    recorded: &[&Exchange],
    tolerance: Tolerance,
) {
    let key = |request: &Received| request.idempotency_key().map(str::to_owned);
    let count = |request: &Received| request.header("x-stainless-retry-count").map(str::to_owned);
    let ours: Vec<_> = sent.iter().map(|request| key(request)).collect();
    let counts: Vec<_> = sent.iter().map(|request| count(request)).collect();
    if tolerance.one_key {
        let different: BTreeSet<_> = ours.iter().collect();
        assert_eq!(different.len(), 1, "{what}: one key for the whole call");
        assert!(ours[0].as_ref().is_some_and(|key| !key.is_empty()), "{what}: a key");
        let expected: Vec<_> = (0..sent.len()).map(|n| Some(n.to_string())).collect();
        assert_eq!(counts, expected, "{what}: retry counts");
        return;
    }
    let theirs: Vec<_> = recorded.iter().map(|exchange| exchange.header("x-idempotency-key")).collect();
    for (n, (our, their)) in ours.iter().zip(&theirs).enumerate() {
        for (m, (other, recorded)) in ours.iter().zip(&theirs).enumerate().skip(n + 1) {
            assert_eq!(our == other, their == recorded, "{what}: keys of {n} and {m}");
        }
    }
    let expected: Vec<_> = recorded
        .iter()
        .map(|exchange| exchange.header("x-stainless-retry-count").map(str::to_owned))
        .collect();
    assert_eq!(counts, expected, "{what}: retry counts");
}

/// A body in the form in which equal requests are equal: defaults left out, tags as a set.
fn normal(body: &Value, tolerance: Tolerance) -> Value {
    let mut body = body.clone();
    if let Some(object) = body.as_object_mut() {
        for (field, value) in &DEFAULTS {
            let default = match value {
                Value::Null => object.get(*field).is_some_and(|sent| sent.as_f64() == Some(0.0)),
                value => object.get(*field) == Some(value),
            };
            if default {
                object.remove(*field);
            }
        }
        if object.get("kind").is_some_and(|kind| kind == "snapshot") {
            object.remove("kind");
        }
        if object.get("optimizer_config") == Some(&json!({ "type": "adamw" })) {
            object.remove("optimizer_config");
        }
        if let Some(adam) = object.get_mut("adam_params").and_then(Value::as_object_mut) {
            adam.retain(|name, value| !(NEWER_ADAM.contains(&name.as_str()) && value.as_f64() == Some(0.0)));
        }
        if let Some(tags) = object.get_mut("tags").and_then(Value::as_array_mut) {
            tags.sort_by_key(ToString::to_string);
            tags.dedup();
        }
        if tolerance.classic {
            object.remove("sdk_version");
            object.remove("allow_metadata_only");
        }
    }
    if tolerance.classic { without_newer_parts(body) } else { body }
}

/// The older SDK sends no `type`, no defaults of sampling parameters, and nulls that were passed explicitly.
fn without_newer_parts(value: Value) -> Value {
    let default_param = |name: &str, value: &Value| match name {
        "temperature" | "top_p" => value.as_f64() == Some(1.0),
        "top_k" => value.as_i64() == Some(-1),
        _ => false,
    };
    match value {
        Value::Object(object) => {
            let kept = object
                .into_iter()
                .filter(|(name, value)| name != "type" && !value.is_null() && !default_param(name, value));
            kept.map(|(name, value)| (name, without_newer_parts(value))).collect()
        }
        Value::Array(list) => list.into_iter().map(without_newer_parts).collect(),
        other => other,
    }
}

/// Equality of JSON values, in which `1` is `1.0`.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(key, x)| y.get(key).is_some_and(|y| same(x, y)))
        }
        _ => a == b,
    }
}
