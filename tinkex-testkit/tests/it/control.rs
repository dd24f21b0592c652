//! The control routes.

use bytes::Bytes;
use futures_core::future::BoxFuture;
use serde_json::{Value, json};
use tinkex_http::{Transport, TransportErrorKind};
use tinkex_testkit::{Behaviour, FakeServer, Received, Reply};

use crate::client::{echo, post, post_error};

/// Answers 200 and lets itself be configured.
struct Configurable;

impl Behaviour for Configurable {
    fn respond<'a>(&'a self, _: &'a Received) -> BoxFuture<'a, Reply> {
        Box::pin(async { Reply::empty(200) })
    }

    fn control(&self, command: &str, body: &Value) -> Option<Reply> {
        (command == "config").then(|| Reply::json(200, &json!({ "set": body })))
    }
}

async fn control(server: &FakeServer, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let request = http::Request::builder()
        .method(method)
        .uri(format!("{}/control/{path}", server.url()))
        .header("content-type", "application/json")
        .body(Bytes::from(body.to_string()))
        .unwrap();
    let response = server.transport().call(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect(1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn control_is_closed_unless_it_is_opened() {
    let server = FakeServer::with(Configurable);
    assert_eq!(control(&server, "POST", "config", &json!({"a": 1})).await, (200, Value::Null));
    assert_eq!(server.count("control/config"), 1, "an ordinary request");
    server.control(true);
    assert_eq!(control(&server, "POST", "config", &json!({"a": 1})).await, (200, json!({"set": {"a": 1}})));
    assert_eq!(server.count("**"), 1, "commands are not logged");
    assert_eq!(control(&server, "POST", "nonsense", &json!({})).await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn scripts_come_over_the_control_routes() {
    let server = echo();
    server.control(true);
    let script = json!({
        "route": "asample",
        "steps": [
            {"status": 429, "headers": {"retry-after-ms": "200", "x-many": ["1", "2"]}, "json": {}, "repeat": 2},
            {"behave": true},
            {"fault": "reset"},
            {"fault": "refuse"},
            {"fault": "lose"},
            {"fault": "close_mid_body", "bytes": 1, "status": 200, "text": "abc"},
            {"text": "hello", "gzip": true}
        ],
        "then": "behave"
    });
    assert_eq!(control(&server, "POST", "script", &script).await, (200, json!({})));
    for _ in 0..2 {
        let answer = post(&server, "asample", &json!({})).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.header("retry-after-ms")), (429, Some("200")));
        assert_eq!((answer.json(), answer.headers.get_all("x-many").iter().count()), (json!({}), 2));
    }
    assert_eq!(post(&server, "asample", &json!({})).await.unwrap().status, 200);
    for kind in [
        TransportErrorKind::Interrupted,
        TransportErrorKind::Connect,
        TransportErrorKind::Interrupted,
        TransportErrorKind::Interrupted,
    ] {
        assert_eq!(post_error(&server, "asample").await, kind);
    }
    assert_eq!(post(&server, "asample", &json!({})).await.unwrap().header("content-encoding"), Some("gzip"));
    assert_eq!(post(&server, "asample", &json!({})).await.unwrap().status, 200, "then it behaves");
    server.verify().unwrap();
}

#[tokio::test(start_paused = true)]
async fn steps_that_make_no_sense_are_refused() {
    let server = echo();
    server.control(true);
    for (script, expected) in [
        (json!({"route": "x", "steps": [{"fault": "explode"}]}), "unknown fault"),
        (json!({"route": "x", "steps": [{"stauts": 200}]}), "unknown field"),
        (json!({"route": "x"}), "missing field"),
        (json!({"route": "x", "steps": [], "then": "explode"}), "unknown variant"),
    ] {
        let (status, body) = control(&server, "POST", "script", &script).await;
        assert_eq!(status, 400);
        assert!(body["detail"].as_str().unwrap().contains(expected), "{body}");
    }
    assert_eq!(post(&server, "x", &json!({})).await.unwrap().status, 200, "nothing was added");
}

#[tokio::test(start_paused = true)]
async fn scripts_can_depend_on_fields_and_end_in_failure() {
    let server = echo();
    server.control(true);
    let script = json!({"route": "x", "steps": [{"status": 410}], "when": {"request_id": "b"}});
    control(&server, "POST", "script", &script).await;
    let mut seen = Vec::new();
    for id in ["a", "b", "b"] {
        seen.push(post(&server, "x", &json!({"request_id": id})).await.unwrap().status.as_u16());
    }
    assert_eq!(seen, [200, 410, 418]);
    let (_, verdict) = control(&server, "GET", "verify", &json!({})).await;
    assert_eq!(verdict["ok"], json!(false));
    assert_eq!(verdict["violations"], json!(["script for x exhausted after 1 steps"]));
}

#[tokio::test(start_paused = true)]
async fn the_log_comes_over_the_control_routes_without_secrets() {
    let server = echo();
    server.control(true);
    let request = http::Request::post(format!("{}/api/v1/sessions/a?x=1", server.url()))
        .header("x-api-key", "tml-secret")
        .header("x-other", "1")
        .header("x-other", "2")
        .body(Bytes::from_static(b"{\"seq_id\": 3}"))
        .unwrap();
    server.transport().call(request).await.unwrap();
    post(&server, "y", &json!({})).await.unwrap();
    assert_eq!(control(&server, "GET", "requests", &json!({})).await.1.as_array().unwrap().len(), 2);
    let (_, log) = control(&server, "GET", "requests?route=sessions%2F*", &json!({})).await;
    let [entry] = &log.as_array().unwrap()[..] else { panic!("one entry: {log}") };
    assert_eq!((&entry["method"], &entry["path"]), (&json!("POST"), &json!("/api/v1/sessions/a")));
    assert_eq!((&entry["query"], &entry["seq_id"]), (&json!("x=1"), &json!(3)));
    assert_eq!((&entry["json"], &entry["at_seconds"]), (&json!({"seq_id": 3}), &json!(0.0)));
    assert_eq!(
        (&entry["headers"]["x-other"], &entry["headers"]["x-api-key"]),
        (&json!("1, 2"), &json!("[redacted]"))
    );
    assert!(!log.to_string().contains("tml-secret"));
}

#[tokio::test(start_paused = true)]
async fn gates_have_names_and_a_reset_forgets_everything() {
    let server = echo();
    server.control(true);
    let script = json!({"route": "x", "steps": [{"behave": true, "gate": "g"}, {"status": 500}]});
    control(&server, "POST", "script", &script).await;
    let held = tokio::spawn({
        let server = server.clone();
        async move { post(&server, "x", &json!({})).await.unwrap().status.as_u16() }
    });
    server.wait_for("x", 1).await;
    assert_eq!(server.in_flight("x"), 1);
    control(&server, "POST", "gate", &json!({"name": "g", "open": true})).await;
    assert_eq!(held.await.unwrap(), 200);
    control(&server, "POST", "reset", &json!({})).await;
    assert_eq!((server.count("**"), server.all_requests().len()), (0, 0));
    assert_eq!(post(&server, "x", &json!({})).await.unwrap().status, 200, "the script is gone");
    server.verify().unwrap();
}
