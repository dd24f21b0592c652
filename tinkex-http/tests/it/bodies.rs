//! Bodies: encodings, pieces, bounds (HT-1, PROTOCOL 5.1, 5.2).

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use futures_core::Stream;
use serde_json::json;
use tinkex_http::{Body, HttpErrorKind, TransportError, TransportErrorKind};
use tinkex_testkit::{Reply, Step};

use crate::support::{ROUTE, builder, ok, post, scripted, server};

const TEXT: &[u8] = br#"{"ok": true, "text": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut out = ZlibEncoder::new(Vec::new(), Compression::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut out = DeflateEncoder::new(Vec::new(), Compression::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn encoded(bytes: impl Into<Bytes>, coding: &str) -> Step {
    Step::raw(bytes, "application/json").header("content-encoding", coding)
}

/// Every encoding that is asked for is undone, and the headers no longer claim it.
#[tokio::test(start_paused = true)]
async fn encodings_are_undone() {
    let steps = [
        encoded(TEXT, "identity"),
        encoded(gzip(TEXT), "gzip"),
        encoded(gzip(TEXT), "X-GZIP"),
        encoded([gzip(&TEXT[..9]), gzip(&TEXT[9..])].concat(), "gzip"),
        encoded(zlib(TEXT), "deflate"),
        encoded(gzip(&zlib(TEXT)), "deflate, gzip"),
        encoded(gzip(&zlib(TEXT)), "deflate").header("content-encoding", "gzip"),
        encoded(TEXT, " , "),
    ];
    let zstd = cfg!(feature = "zstd").then(|| Step::raw(TEXT, "application/json").zstd());
    for step in steps.into_iter().chain(zstd) {
        let (_, client) = scripted([step.clone()]);
        let response = client.send(&post()).await.unwrap_or_else(|e| panic!("{step:?}: {e}"));
        assert_eq!(&response.body[..], TEXT, "{step:?}");
        assert!(!response.headers.contains_key("content-encoding"));
        assert!(!response.headers.contains_key("content-length"), "it was the length before");
    }
}

/// What is not encoded keeps its headers; an empty body under any encoding is empty (HT-1).
#[tokio::test(start_paused = true)]
async fn plain_and_empty_bodies_pass() {
    let (_, client) =
        scripted([ok(), Step::status(204).header("content-encoding", "gzip"), Step::status(200)]);
    let response = client.send(&post()).await.unwrap();
    assert_eq!(response.headers["content-length"], response.body.len().to_string().as_str());
    assert!(client.send(&post()).await.unwrap().body.is_empty());
    assert!(client.send(&post()).await.unwrap().body.is_empty());
}

/// The body of an error is undone as well, before it is read.
#[tokio::test(start_paused = true)]
async fn errors_are_read_through_their_encoding() {
    let (_, client) = scripted([Step::status(400).json_body(json!({"detail": "packed"})).gzip()]);
    let error = client.send(&post()).await.unwrap_err();
    assert_eq!((error.message(), &error.body()[..]), ("packed", &br#"{"detail":"packed"}"#[..]));
}

/// Bytes that are not what they are called: one attempt, a decode error that names the encoding.
#[tokio::test(start_paused = true)]
async fn broken_encodings_are_decode_errors() {
    let mut cut = gzip(TEXT);
    cut.truncate(20);
    for (step, message) in [
        (encoded(TEXT, "gzip"), "the response is not valid gzip"),
        (encoded(TEXT, "deflate"), "the response is not valid deflate"),
        (encoded(deflate(TEXT), "deflate"), "the response is not valid deflate"),
        (encoded(cut, "gzip"), "the response is not valid gzip"),
        (encoded(TEXT, "br"), "the response is encoded with \"br\", which this build cannot decode"),
        (encoded(TEXT, "gzip, br"), "the response is encoded with \"br\", which this build cannot decode"),
    ] {
        let (server, client) = scripted([step]);
        let error = client.send(&post()).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (HttpErrorKind::Decode, 1));
        assert_eq!(error.message(), message);
        server.verify().unwrap();
    }
}

/// Without the feature zstd is not asked for, and not understood.
#[cfg(not(feature = "zstd"))]
#[tokio::test(start_paused = true)]
async fn zstd_is_a_feature() {
    let (server, client) = scripted([ok().zstd()]);
    let error = client.send(&post()).await.unwrap_err();
    assert_eq!(error.message(), "the response is encoded with \"zstd\", which this build cannot decode");
    assert_eq!(server.requests(ROUTE)[0].header("accept-encoding"), Some("gzip, deflate"));
}

/// A bound on what comes in and on what comes out: a small body that unpacks into a huge one is refused while it
/// unpacks.
#[tokio::test(start_paused = true)]
async fn bombs_are_refused() {
    let zeros = vec![0u8; 8 << 20];
    let steps = [
        encoded(gzip(&zeros), "gzip"),
        encoded(zlib(&zeros), "deflate"),
        encoded(gzip(&gzip(&zeros)), "gzip, gzip"),
    ];
    let zstd = cfg!(feature = "zstd").then(|| Step::raw(zeros, "text/plain").zstd());
    for step in steps.into_iter().chain(zstd) {
        let server = server();
        server.script(ROUTE, [step]);
        let client = builder(&server).max_response_bytes(100_000).build().unwrap();
        let error = client.send(&post()).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (HttpErrorKind::Decode, 1));
        assert_eq!(error.message(), "the response is longer than 100000 bytes once decoded");
    }
}

#[tokio::test(start_paused = true)]
async fn long_bodies_are_refused_and_the_bound_itself_is_allowed() {
    let pieces = vec![(Duration::ZERO, Bytes::from(vec![b' '; 600])); 2];
    for (step, fits) in [
        (Step::raw(vec![b' '; 1000], "text/plain"), true),
        (Step::raw(vec![b' '; 1001], "text/plain"), false),
        (encoded(gzip(&[b' '; 1000]), "gzip"), true),
        (encoded(gzip(&[b' '; 1001]), "gzip"), false),
        (Step::status(200).chunks(pieces), false),
    ] {
        let server = server();
        server.script(ROUTE, [step]);
        let client = builder(&server).max_response_bytes(1000).build().unwrap();
        match client.send(&post()).await {
            Ok(response) => assert!(fits && response.body.len() == 1000),
            Err(error) => assert!(!fits && error.kind() == HttpErrorKind::Decode, "{error}"),
        }
    }
}

/// JSON is read as JSON whatever it is called (PROTOCOL 5.2).
#[tokio::test(start_paused = true)]
async fn the_media_type_of_json_does_not_matter() {
    let (_, client) = scripted([
        Step::raw(TEXT, "text/html; charset=utf-8"),
        Step::reply(Reply::empty(200)).body(TEXT),
        Step::raw(TEXT, "Application/JSON ; charset=utf-8"),
    ]);
    for media_type in [Some("text/html"), None, Some("application/json")] {
        let response = client.send(&post()).await.unwrap();
        assert_eq!(response.media_type().as_deref(), media_type);
        assert_eq!(response.json::<serde_json::Value>().unwrap()["ok"], true);
    }
}

/// A stream of given pieces.
struct Pieces(Vec<Result<Bytes, TransportError>>);

impl Stream for Pieces {
    type Item = Result<Bytes, TransportError>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let next = (!self.0.is_empty()).then(|| self.0.remove(0));
        std::task::Poll::Ready(next)
    }
}

fn broken() -> TransportError {
    TransportError::new(TransportErrorKind::Interrupted, "cut")
}

#[tokio::test]
async fn bodies_collect() {
    let piece = |text: &'static str| Ok(Bytes::from_static(text.as_bytes()));
    for (pieces, expected) in [
        (vec![], ""),
        (vec![piece("")], ""),
        (vec![piece("abc")], "abc"),
        (vec![piece(""), piece("ab"), piece(""), piece("c"), piece("def")], "abcdef"),
    ] {
        assert_eq!(Body::stream(Pieces(pieces)).collect(6).await.unwrap(), expected);
    }
    assert_eq!(Body::full("abc").collect(3).await.unwrap(), "abc");
    assert_eq!(Body::empty().collect(0).await.unwrap(), "");
    for body in [Body::full("abcd"), Body::stream(Pieces(vec![piece("ab"), piece("cd")]))] {
        let error = body.collect(3).await.unwrap_err();
        assert_eq!(error.kind(), TransportErrorKind::Decode);
        assert_eq!(error.to_string(), "the response body is longer than 3 bytes");
    }
    let error = Body::stream(Pieces(vec![piece("ab"), Err(broken())])).collect(9).await.unwrap_err();
    assert_eq!(error.kind(), TransportErrorKind::Interrupted);
}

/// One piece is given on without a copy, as most answers are.
#[tokio::test]
async fn a_single_piece_is_not_copied() {
    let bytes = Bytes::from(vec![7; 4096]);
    for body in [Body::full(bytes.clone()), Body::stream(Pieces(vec![Ok(bytes.clone())]))] {
        assert_eq!(body.collect(4096).await.unwrap().as_ptr(), bytes.as_ptr());
    }
}

#[test]
fn bodies_do_not_print_their_bytes() {
    assert_eq!(format!("{:?}", Body::full("secret")), "Body(6 bytes)");
    assert_eq!(format!("{:?}", Body::empty()), "Body(0 bytes)");
    assert_eq!(format!("{:?}", Body::stream(Pieces(vec![]))), "Body(stream)");
}

/// PROTOCOL 5.1: a compressed request is one zstd frame that says so, the same for every attempt; without the feature it
/// goes as it is.
#[tokio::test(start_paused = true)]
async fn a_request_is_compressed_once() {
    let (server, client) = scripted([Step::status(503), ok()]);
    client.send(&post().compressed()).await.unwrap();
    let requests = server.requests(ROUTE);
    let coding = cfg!(feature = "zstd").then_some("zstd");
    for request in &requests {
        assert_eq!(request.header("content-encoding"), coding);
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.decoded_body().unwrap(), r#"{"n":1}"#);
    }
    assert_eq!(requests[0].body, requests[1].body);
}
