//! The socket face, in real time, with a bare TCP client that sees what is on the wire.

use std::io;

use bytes::Bytes;
use serde_json::json;
use tinkex_testkit::{Gate, Step};

use crate::client::{Wire, bare, echo, ms};

#[tokio::test]
async fn connections_are_kept_and_counted() {
    let server = echo();
    let socket = server.listen().await.unwrap();
    assert!(socket.url().starts_with("http://127.0.0.1:"));
    let mut first = Wire::open(socket.address()).await;
    for n in 0..3 {
        first.send("x", &json!({ "n": n })).await.unwrap();
        let (head, body) = first.response().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["body"], json!({ "n": n }));
    }
    let mut second = Wire::open(socket.address()).await;
    second.send("x", &json!({})).await.unwrap();
    second.response().await;
    assert_eq!(server.connections(), 2);
    assert_eq!(server.requests_per_connection(), [3, 1]);
    assert_eq!(server.count("x"), 4);
}

#[tokio::test]
async fn a_reset_is_a_reset_on_the_wire() {
    let server = echo();
    let socket = server.listen().await.unwrap();
    server.script("x", [Step::reset(), Step::refuse(), Step::behave().then_lose()]);
    for _ in 0..3 {
        let mut wire = Wire::open(socket.address()).await;
        wire.send("x", &json!({})).await.unwrap();
        let (bytes, ended) = wire.rest().await;
        assert_eq!(bytes, b"");
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
    server.wait_for_in_flight("x", 0).await;
    server.verify().unwrap();
}

#[tokio::test]
async fn a_close_before_headers_ends_in_good_order() {
    let server = echo();
    let socket = server.listen().await.unwrap();
    server.script("x", [Step::close_before_headers()]);
    let mut wire = Wire::open(socket.address()).await;
    wire.send("x", &json!({})).await.unwrap();
    let (bytes, ended) = wire.rest().await;
    assert!(bytes.is_empty() && ended.is_ok(), "{bytes:?} {ended:?}");
}

/// HT-1: half a body, and a length that is not kept.
#[tokio::test]
async fn a_body_breaks_off_on_the_wire() {
    let server = bare();
    let socket = server.listen().await.unwrap();
    let body = Step::raw("0123456789", "text/plain");
    server.script("x", [body.clone().then_close_mid_body(4), body.then_wrong_content_length()]);
    for (announced, sent) in [("10", "0123"), ("26", "0123456789")] {
        let mut wire = Wire::open(socket.address()).await;
        wire.send("x", &json!({})).await.unwrap();
        let (bytes, ended) = wire.rest().await;
        ended.unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {announced}")), "{head}");
        assert_eq!(body, sent);
    }
}

#[tokio::test]
async fn a_stalled_body_ends_when_the_client_goes() {
    let server = echo();
    let socket = server.listen().await.unwrap();
    server.script("x", [Step::stall_after_headers()]);
    let mut wire = Wire::open(socket.address()).await;
    wire.send("x", &json!({})).await.unwrap();
    let head = wire.head().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("content-length: "), "{head}");
    assert_eq!(server.in_flight("x"), 1);
    drop(wire);
    server.wait_for_in_flight("x", 0).await;
}

#[tokio::test]
async fn a_hanging_request_ends_when_the_client_goes() {
    let server = echo();
    let socket = server.listen().await.unwrap();
    server.script("x", [Step::hang()]);
    let mut wire = Wire::open(socket.address()).await;
    wire.send("x", &json!({})).await.unwrap();
    server.wait_for("x", 1).await;
    assert_eq!(server.in_flight("x"), 1);
    drop(wire);
    server.wait_for_in_flight("x", 0).await;
}

#[tokio::test]
async fn garbage_reaches_the_client_as_it_is() {
    let server = echo();
    let socket = server.listen().await.unwrap();
    server.script("x", [Step::garbage(&b"\x00\x01 this is not HTTP"[..])]);
    let mut wire = Wire::open(socket.address()).await;
    wire.send("x", &json!({})).await.unwrap();
    let (bytes, ended) = wire.rest().await;
    assert_eq!(bytes, b"\x00\x01 this is not HTTP");
    ended.unwrap();
}

#[tokio::test]
async fn pieces_come_without_a_length_and_leave_the_connection_usable() {
    let server = bare();
    let socket = server.listen().await.unwrap();
    let pieces = vec![(ms(0), Bytes::from_static(b"ab")), (ms(1), Bytes::from_static(b"c"))];
    server.script("x", [Step::status(200).chunks(pieces), Step::close_before_headers()]);
    let mut wire = Wire::open(socket.address()).await;
    wire.send("x", &json!({})).await.unwrap();
    let head = wire.head().await.to_lowercase();
    assert!(head.contains("transfer-encoding: chunked") && !head.contains("content-length"), "{head}");
    wire.send("x", &json!({})).await.unwrap();
    let (bytes, _) = wire.rest().await;
    assert_eq!(bytes, b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_large_body_arrives_whole_behind_a_wrong_length() {
    let server = bare();
    let socket = server.listen().await.unwrap();
    let large = vec![b'x'; 8 << 20];
    server.script("x", [Step::raw(large.clone(), "text/plain").then_wrong_content_length()]);
    let mut wire = Wire::open(socket.address()).await;
    wire.send("x", &json!({})).await.unwrap();
    wire.head().await;
    let (bytes, ended) = wire.rest().await;
    assert_eq!(bytes.len(), large.len());
    ended.unwrap();
}

#[tokio::test]
async fn shutting_down_lets_answers_under_way_finish() {
    let server = echo();
    let socket = server.listen().await.unwrap();
    let address = socket.address();
    let gate = Gate::new();
    server.script("x", [Step::behave().gate(&gate)]);
    let mut idle = Wire::open(address).await;
    idle.send("y", &json!({})).await.unwrap();
    idle.response().await;
    let mut busy = Wire::open(address).await;
    busy.send("x", &json!({})).await.unwrap();
    gate.arrived(1).await;

    let stopping = tokio::spawn(socket.shutdown());
    // The idle connection ends at once, the busy one after its answer.
    assert_eq!(idle.rest().await.0, b"");
    gate.open();
    let (head, _) = busy.response().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    busy.rest().await.1.unwrap();
    stopping.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn dropping_the_socket_server_ends_its_connections() {
    let server = echo();
    let socket = server.listen().await.unwrap();
    server.script("x", [Step::hang()]);
    let mut wire = Wire::open(socket.address()).await;
    wire.send("x", &json!({})).await.unwrap();
    server.wait_for("x", 1).await;
    drop(socket);
    assert_eq!(wire.rest().await.0, b"");
    server.wait_for_in_flight("x", 0).await;
}

/// S1-12: two instances side by side know nothing of each other.
#[tokio::test]
async fn two_servers_stand_side_by_side() {
    let (a, b) = (echo(), echo());
    let (at_a, at_b) = (a.listen().await.unwrap(), b.listen().await.unwrap());
    a.script("x", [Step::status(429)]);
    for (address, status) in [(at_a.address(), "429"), (at_b.address(), "200")] {
        let mut wire = Wire::open(address).await;
        wire.send("x", &json!({})).await.unwrap();
        let (head, _) = wire.response().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
    }
    assert_eq!((a.count("x"), b.count("x")), (1, 1));
}
