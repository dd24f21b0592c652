//! The socket face over HTTP/2, in real time: many requests on one connection, and faults that spare the others.

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tinkex_testkit::{Gate, SocketServer, Step};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::client::{Wire, bare, echo, ms};

/// An HTTP/2 connection begun with prior knowledge, and the task that ends with it.
async fn open(socket: &SocketServer) -> (SendRequest<Full<Bytes>>, JoinHandle<bool>) {
    let stream = TcpStream::connect(socket.address()).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(async move { connection.await.is_ok() }))
}

fn request(socket: &SocketServer, route: &str) -> Request<Full<Bytes>> {
    let body = Full::from(json!({ "n": 1 }).to_string());
    Request::post(format!("{}/base/api/v1/{route}", socket.url())).body(body).unwrap()
}

async fn body(response: Response<Incoming>) -> Result<Bytes, hyper::Error> {
    Ok(response.into_body().collect().await?.to_bytes())
}

/// Both versions on one port; streams of one connection at once; each request is logged with what it came by.
#[tokio::test]
async fn both_versions_are_spoken_on_one_port() {
    let server = echo();
    let gate = Gate::new();
    server.script("x", [Step::behave().gate(&gate).repeat(20)]);
    let socket = server.listen().await.unwrap();
    let (sender, _task) = open(&socket).await;
    let calls: Vec<_> =
        (0..20).map(|_| tokio::spawn(sender.clone().send_request(request(&socket, "x")))).collect();
    gate.arrived(20).await;
    gate.open();
    for call in calls {
        let response = call.await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        let text = body(response).await.unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&text).unwrap()["body"], json!({ "n": 1 }));
    }
    let mut old = Wire::open(socket.address()).await;
    old.send("y", &json!({})).await.unwrap();
    old.response().await;
    assert_eq!(server.requests_per_connection(), [20, 1]);
    let first = &server.requests("x")[0];
    assert_eq!((first.version, first.base_path.as_str()), (Version::HTTP_2, "/base"));
    assert_eq!(server.requests("y")[0].version, Version::HTTP_11);
}

/// A reset, a refusal, half a body and a false length end their stream; the connection goes on.
#[tokio::test]
async fn faults_of_a_stream_spare_the_connection() {
    let server = bare();
    let whole = Step::raw("0123456789", "text/plain");
    server.script(
        "x",
        [
            Step::reset(),
            Step::refuse(),
            whole.clone().then_close_mid_body(4),
            whole.clone().then_wrong_content_length(),
            whole.clone().chunks(vec![(ms(0), Bytes::from_static(b"01")), (ms(1), Bytes::from_static(b"2"))]),
            whole,
        ],
    );
    let socket = server.listen().await.unwrap();
    let (mut sender, _task) = open(&socket).await;
    for _ in 0..2 {
        assert!(sender.send_request(request(&socket, "x")).await.is_err());
    }
    let mut half = sender.send_request(request(&socket, "x")).await.unwrap();
    assert_eq!(half.headers()["content-length"], "10");
    let piece = half.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(&piece[..], b"0123");
    assert!(half.body_mut().frame().await.unwrap().is_err());
    assert!(body(sender.send_request(request(&socket, "x")).await.unwrap()).await.is_err());
    let pieces = sender.send_request(request(&socket, "x")).await.unwrap();
    assert!(!pieces.headers().contains_key("content-length"));
    assert_eq!(body(pieces).await.unwrap(), "012");
    assert_eq!(body(sender.send_request(request(&socket, "x")).await.unwrap()).await.unwrap(), "0123456789");
    assert_eq!(server.requests_per_connection(), [6]);
    server.wait_for_in_flight("x", 0).await;
}

/// A close takes the whole connection along, with what else is in flight on it.
#[tokio::test]
async fn a_close_ends_the_connection() {
    let server = bare();
    server.script("x", [Step::close_before_headers()]);
    server.script("held", [Step::hang()]);
    let socket = server.listen().await.unwrap();
    let (sender, task) = open(&socket).await;
    let held = tokio::spawn(sender.clone().send_request(request(&socket, "held")));
    server.wait_for_in_flight("held", 1).await;
    assert!(sender.clone().send_request(request(&socket, "x")).await.is_err());
    assert!(held.await.unwrap().is_err());
    task.await.unwrap();
    server.wait_for_in_flight("**", 0).await;
}

/// A hanging and a stalled request end when their client gives them up.
#[tokio::test]
async fn given_up_streams_are_no_longer_in_flight() {
    let server = bare();
    server.script("x", [Step::hang(), Step::stall_after_headers()]);
    let socket = server.listen().await.unwrap();
    let (mut sender, _task) = open(&socket).await;
    let hung = tokio::spawn(sender.clone().send_request(request(&socket, "x")));
    server.wait_for_in_flight("x", 1).await;
    hung.abort();
    server.wait_for_in_flight("x", 0).await;
    let stalled = sender.send_request(request(&socket, "x")).await.unwrap();
    assert_eq!(server.in_flight("x"), 1);
    drop(stalled);
    server.wait_for_in_flight("x", 0).await;
}

/// A server that stops tells its clients to go away, and finishes what it has taken on.
#[tokio::test]
async fn shutdown_finishes_streams_under_way() {
    let server = bare();
    let gate = Gate::new();
    server.script("x", [Step::raw("late", "text/plain").gate(&gate)]);
    let socket = server.listen().await.unwrap();
    let (sender, task) = open(&socket).await;
    let call = tokio::spawn(sender.clone().send_request(request(&socket, "x")));
    gate.arrived(1).await;
    let stopping = tokio::spawn(socket.shutdown());
    gate.open();
    assert_eq!(body(call.await.unwrap().unwrap()).await.unwrap(), "late");
    stopping.await.unwrap();
    assert!(task.await.unwrap(), "the connection ends in good order");
}
