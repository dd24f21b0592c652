//! The assertions, both ways.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use serde_json::json;
use tinkex_http::Transport;
use tinkex_testkit::FakeServer;
use tokio::time::Instant;

use crate::client::{echo, ms, post};

fn fails(assertion: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(assertion)).expect_err("the assertion must fail");
    panic.downcast_ref::<String>().expect("a text").clone()
}

async fn sequence(server: &FakeServer, ids: &[u64]) {
    for id in ids {
        post(server, "forward_backward", &json!({ "seq_id": id })).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn order_counts_named_routes_only() {
    let server = echo();
    for route in ["create_session", "session_heartbeat", "create_model", "sessions/a/finish"] {
        post(&server, route, &json!({})).await.unwrap();
    }
    server.assert_order(&["create_session", "create_model", "sessions/*/finish"]);
    let text = fails(|| server.assert_order(&["create_model", "create_session"]));
    assert!(text.contains("arrived"), "{text}");
    fails(|| server.assert_order(&["create_session", "create_model", "create_model"]));
}

/// F-11: sequence numbers never gap; resends and other orders are fine.
#[tokio::test(start_paused = true)]
async fn gaps_in_sequence_numbers_are_found() {
    let server = echo();
    sequence(&server, &[2, 1, 3, 3, 4]).await;
    assert_eq!(server.seq_ids("forward_backward"), [2, 1, 3, 3, 4]);
    server.assert_contiguous_seq_ids("forward_backward");
    sequence(&server, &[7]).await;
    let text = fails(|| server.assert_contiguous_seq_ids("forward_backward"));
    assert!(text.contains("[5, 6]"), "{text}");
    fails(|| server.assert_contiguous_seq_ids("asample"));
}

/// S1-07: nobody comes before the pause is over, and it is seen if somebody does.
#[tokio::test(start_paused = true)]
async fn early_arrivals_are_found() {
    let server = echo();
    let start = Instant::now();
    sequence(&server, &[1]).await;
    tokio::time::advance(ms(200)).await;
    sequence(&server, &[2]).await;
    server.assert_no_arrival_between("forward_backward", start, start + ms(200));
    server.assert_no_arrival_before("forward_backward", start);
    server.assert_no_arrival_before("asample", start + ms(900));
    let text = fails(|| server.assert_no_arrival_before("forward_backward", start + ms(1)));
    assert!(text.contains("(0, 1ms)") && !text.contains("(1,"), "{text}");
    fails(|| server.assert_no_arrival_between("forward_backward", start, start + ms(201)));
}

/// F-14: one logical request, one identity.
#[tokio::test(start_paused = true)]
async fn identities_are_checked() {
    // The complaint there has to be, and requests as (key, retry count, body).
    type Requests<'a> = &'a [(&'a str, &'a str, &'a str)];
    let cases: [(&str, Requests<'_>); 5] = [
        ("", &[("a", "0", "1"), ("b", "0", "2"), ("a", "1", "1"), ("a", "2", "1")]),
        ("no idempotency key", &[("", "0", "1")]),
        ("another request", &[("a", "0", "1"), ("a", "1", "2")]),
        ("retry count", &[("a", "0", "1"), ("a", "0", "1")]),
        ("retry count", &[("a", "0", "1"), ("a", "2", "1")]),
    ];
    for (expected, requests) in cases {
        let server = echo();
        for (key, count, body) in requests {
            let mut request = http::Request::post(format!("{}/api/v1/x", server.url()));
            if !key.is_empty() {
                request = request.header("X-Idempotency-Key", *key);
            }
            let request = request.header("X-Stainless-Retry-Count", *count);
            let request = request.body(Bytes::copy_from_slice(body.as_bytes())).unwrap();
            server.transport().call(request).await.unwrap();
        }
        if expected.is_empty() {
            server.assert_idempotency_pattern("x");
        } else {
            let text = fails(|| server.assert_idempotency_pattern("x"));
            assert!(text.contains(expected), "{text}");
        }
    }
}
