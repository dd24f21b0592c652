//! The log: requests, counters, in-flight gauges, waiting, and how much is kept.

use std::io::Write;
use std::panic::AssertUnwindSafe;

use bytes::Bytes;
use futures_util::FutureExt;
use serde_json::json;
use tinkex_http::Transport;
use tinkex_testkit::{Gate, Received, Step};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{echo, ms, post};

#[tokio::test(start_paused = true)]
async fn requests_are_logged_as_they_came() {
    let server = echo();
    let started = Instant::now();
    tokio::time::advance(ms(70)).await;
    let request = http::Request::get(format!("{}/base/api/v1/samplers/a?limit=3", server.url()))
        .header("X-API-Key", "tml-secret")
        .header("x-idempotency-key", "k")
        .body(Bytes::new())
        .unwrap();
    server.transport().call(request).await.unwrap();
    let [request] = &server.all_requests()[..] else { panic!("one request, not more") };
    assert_eq!((request.index, request.at - started), (0, ms(70)));
    assert_eq!((request.method.as_str(), request.base_path.as_str()), ("GET", "/base"));
    assert_eq!((request.path.as_str(), request.route()), ("/api/v1/samplers/a", "samplers/a"));
    assert_eq!(request.query.as_deref(), Some("limit=3"));
    assert_eq!((request.header("X-Api-Key"), request.idempotency_key()), (Some("tml-secret"), Some("k")));
    assert_eq!(request.json(), None);
    assert!(!format!("{request:?}").contains("tml-secret"), "debug output keeps secrets");
}

#[test]
fn bodies_are_decoded_whatever_their_encoding() {
    let value = json!({"seq_id": 7, "request_id": "r"});
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(value.to_string().as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let both = zstd::encode_all(&gzip[..], 1).unwrap();
    for (encoding, body) in [("gzip", gzip), ("gzip, zstd", both), ("identity", value.to_string().into())] {
        let request = Received::get("x").with_header("content-encoding", encoding).with_body(body);
        assert_eq!(request.json(), Some(&value), "{encoding}");
        assert_eq!((request.seq_id(), request.request_id()), (Some(7), Some("r")));
    }
    let wrong = Received::get("x").with_header("content-encoding", "zstd").with_body("no");
    assert!(wrong.decoded_body().is_err() && wrong.json().is_none() && wrong.seq_id().is_none());
    let unknown = Received::get("x").with_header("content-encoding", "rot13").with_body("no");
    assert!(unknown.decoded_body().unwrap_err().contains("rot13"));
}

#[test]
fn protobuf_bodies_have_sequence_numbers_too() {
    let message = tinkex_types::proto::ForwardBackwardRequest {
        model_id: "m".to_owned(),
        seq_id: 12,
        loss_fn: "cross_entropy".to_owned(),
        ..Default::default()
    };
    let request = Received::get("forward_backward")
        .with_header("content-type", "application/x-protobuf")
        .with_body(prost::Message::encode_to_vec(&message));
    assert_eq!(request.seq_id(), Some(12));
    assert_eq!(request.json(), None);
}

#[tokio::test(start_paused = true)]
async fn counters_and_gauges_follow_the_requests() {
    let server = echo();
    let gate = Gate::new();
    server.script("a/*", [Step::behave().gate(&gate).repeat(5)]);
    let mut calls = JoinSet::new();
    for route in ["a/1", "a/1", "a/2"] {
        let server = server.clone();
        calls.spawn(async move { post(&server, route, &json!({})).await.unwrap() });
    }
    gate.arrived(3).await;
    assert_eq!((server.in_flight("a/1"), server.in_flight("a/2"), server.in_flight("a/*")), (2, 1, 3));
    gate.open();
    calls.join_all().await;
    for _ in 0..2 {
        post(&server, "a/3", &json!({})).await.unwrap();
    }
    assert_eq!((server.count("a/1"), server.count("a/*"), server.count("b")), (2, 5, 0));
    assert_eq!((server.in_flight("**"), server.max_in_flight("a/1"), server.max_in_flight("a/3")), (0, 2, 1));
    assert_eq!(server.max_in_flight("a/*"), 3, "together, over both routes");
}

#[tokio::test(start_paused = true)]
async fn waiting_resolves_at_the_nth_arrival() {
    let server = echo();
    let waiting = tokio::spawn({
        let server = server.clone();
        async move {
            server.wait_for("x", 3).await;
            server.count("x")
        }
    });
    for _ in 0..2 {
        post(&server, "x", &json!({})).await.unwrap();
    }
    assert!(!waiting.is_finished());
    post(&server, "x", &json!({})).await.unwrap();
    assert_eq!(waiting.await.unwrap(), 3);
    server.wait_for("x", 3).await;
}

#[tokio::test(start_paused = true)]
async fn waiting_in_vain_fails_with_what_there_was() {
    let server = echo();
    post(&server, "x", &json!({})).await.unwrap();
    let panic = AssertUnwindSafe(server.wait_for("x", 2)).catch_unwind().await.unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("2 requests of x") && text.contains("x: 1"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_soak_can_do_without_bodies_and_with_a_bounded_log() {
    let server = echo();
    server.record_bodies(false);
    server.record_limit(100);
    let transport = server.transport();
    for seq in 0..10_000 {
        let body = json!({"seq_id": seq, "prompt": "x".repeat(64)});
        crate::client::post_over(&transport, &server.url(), "x", &body).await.unwrap();
    }
    let kept = server.requests("x");
    assert_eq!((server.count("x"), kept.len(), server.in_flight("x")), (10_000, 100, 0));
    assert!(kept.iter().all(|request| request.body.is_empty()));
    assert_eq!(kept.last().map(|r| (r.index, r.seq_id())), Some((9_999, Some(9_999))));
    server.record_limit(0);
    assert!(server.all_requests().is_empty());
    assert_eq!(server.requests_per_connection(), [10_000]);
}
