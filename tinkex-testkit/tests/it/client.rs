//! Two small clients: one over the in-memory transport, one over a bare TCP stream.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tinkex_http::{SharedTransport, Transport, TransportError, TransportErrorKind};
use tinkex_testkit::{FakeServer, NoBehaviour, Received, Reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A server whose behaviour echoes route and JSON body.
pub(crate) fn echo() -> FakeServer {
    FakeServer::with(|request: &Received| {
        Reply::json(200, &json!({ "route": request.route(), "body": request.json() }))
    })
}

/// A server on which everything has to be scripted.
pub(crate) fn bare() -> FakeServer {
    FakeServer::with(NoBehaviour)
}

/// What came back in memory.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub(crate) fn request(url: &str, route: &str, body: &Value) -> http::Request<Bytes> {
    http::Request::post(format!("{url}/api/v1/{route}"))
        .header("content-type", "application/json")
        .body(Bytes::from(body.to_string()))
        .unwrap()
}

/// Posts JSON over a transport and reads the whole body.
pub(crate) async fn post_over(
    transport: &SharedTransport,
    url: &str,
    route: &str,
    body: &Value,
) -> Result<Answer, TransportError> {
    let response = transport.call(request(url, route, body)).await?;
    let (parts, body) = response.into_parts();
    let body = body.collect(1 << 20).await?;
    Ok(Answer { status: parts.status, headers: parts.headers, body })
}

/// Posts JSON over a new transport of the server.
pub(crate) async fn post(server: &FakeServer, route: &str, body: &Value) -> Result<Answer, TransportError> {
    post_over(&server.transport(), &server.url(), route, body).await
}

/// Posts and tells the kind of the error there has to be.
pub(crate) async fn post_error(server: &FakeServer, route: &str) -> TransportErrorKind {
    post(server, route, &json!({})).await.unwrap_err().kind()
}

/// A bare HTTP/1.1 connection.
pub(crate) struct Wire(TcpStream);

impl Wire {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) async fn send(&mut self, route: &str, body: &Value) -> io::Result<()> {
        self.send_to(&format!("/api/v1/{route}"), body).await
    }

    pub(crate) async fn send_to(&mut self, path: &str, body: &Value) -> io::Result<()> {
        let body = body.to_string();
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: tml-test\r\ncontent-type: application/json\r\n"
        );
        let text = format!("{head}content-length: {length}\r\n\r\n{body}");
        self.0.write_all(text.as_bytes()).await
    }

    /// Reads until `done`, the end, or an error. Says how it ended.
    async fn read_until(&mut self, done: impl Fn(&[u8]) -> bool) -> (Vec<u8>, io::Result<bool>) {
        let mut all = Vec::new();
        loop {
            if done(&all) {
                return (all, Ok(true));
            }
            match self.0.read_buf(&mut all).await {
                Ok(0) => return (all, Ok(false)),
                Ok(_) => {}
                Err(error) => return (all, Err(error)),
            }
        }
    }

    /// The head of the response, as text. What comes after it stays unread.
    pub(crate) async fn head(&mut self) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(self.0.read_u8().await.unwrap());
        }
        String::from_utf8(bytes).unwrap()
    }

    /// A response whose body has an announced length: head and body.
    pub(crate) async fn response(&mut self) -> (String, Vec<u8>) {
        let (bytes, ended) = self
            .read_until(|bytes| {
                let Some(at) = find(bytes, b"\r\n\r\n") else { return false };
                let head = String::from_utf8_lossy(&bytes[..at]).to_lowercase();
                let length =
                    head.lines().find_map(|line| line.strip_prefix("content-length: ").map(str::to_owned));
                bytes.len() >= at + 4 + length.map_or(0, |length| length.parse::<usize>().unwrap())
            })
            .await;
        assert!(ended.unwrap(), "the connection ended early: {:?}", String::from_utf8_lossy(&bytes));
        let split = find(&bytes, b"\r\n\r\n").unwrap() + 4;
        (String::from_utf8(bytes[..split].to_vec()).unwrap(), bytes[split..].to_vec())
    }

    /// All there is until the connection ends, and whether it ended in good order.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, io::Result<()>) {
        let (bytes, ended) = self.read_until(|_| false).await;
        (bytes, ended.map(|_| ()))
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Shorthand for durations.
pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
