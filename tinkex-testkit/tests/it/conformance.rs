//! The conformance suite: it lets a right transport pass, and finds what is wrong with wrong ones.

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tinkex_http::{Body, Transport, TransportError, TransportErrorKind};
use tinkex_testkit::conformance::{self, Nonconformity};
use tokio::net::TcpStream;

/// A plain transport: one connection a call.
struct Plain;

impl Transport for Plain {
    async fn call(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        let authority = request.uri().authority().unwrap().to_string();
        let stream = TcpStream::connect(&authority)
            .await
            .map_err(|e| TransportError::new(TransportErrorKind::Connect, e.to_string()))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(classify)?;
        let (mut parts, body) = request.into_parts();
        parts.headers.insert("host", authority.parse().unwrap());
        parts.uri = parts.uri.path_and_query().unwrap().as_str().parse().unwrap();
        // The connection ends with the response's body, or with this call if it is dropped before.
        let mut connection = Box::pin(connection);
        let mut response = Box::pin(sender.send_request(http::Request::from_parts(parts, Full::new(body))));
        let response = tokio::select! {
            response = response.as_mut() => response,
            ended = connection.as_mut() => match ended {
                Ok(()) => response.await,
                Err(error) => Err(error),
            },
        };
        let (parts, mut incoming) = response.map_err(classify)?.into_parts();
        let pieces = futures_util::stream::poll_fn(move |cx| {
            let _ = std::future::Future::poll(connection.as_mut(), cx);
            hyper::body::Body::poll_frame(std::pin::Pin::new(&mut incoming), cx)
                .map(|frame| frame.map(|f| f.map_err(classify).map(|f| f.into_data().unwrap_or_default())))
        });
        Ok(http::Response::from_parts(parts, Body::stream(pieces)))
    }
}

fn interrupted() -> TransportError {
    TransportError::new(TransportErrorKind::Interrupted, "the connection ended")
}

fn classify(error: hyper::Error) -> TransportError {
    let kind = if error.is_parse() { TransportErrorKind::Decode } else { TransportErrorKind::Interrupted };
    TransportError::new(kind, error.to_string())
}

/// A transport that does too much: it retries, follows redirects and adds a key.
struct Zealous;

impl Transport for Zealous {
    async fn call(&self, mut request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        request.headers_mut().insert("x-api-key", "tml-secret".parse().unwrap());
        let first = Plain.call(request.clone()).await?;
        let (parts, body) = first.into_parts();
        if let Some(location) = parts.headers.get("location") {
            *request.uri_mut() = location.to_str().unwrap().parse().unwrap();
            return Plain.call(request).await;
        }
        if parts.status == 503 {
            return Plain.call(request).await;
        }
        Ok(http::Response::from_parts(parts, body))
    }
}

/// A transport that does too little: bad statuses are errors to it, and so is everything else, all of one kind.
struct Lazy;

impl Transport for Lazy {
    async fn call(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        let failed = || TransportError::new(TransportErrorKind::Other, "failed");
        let response = Plain.call(request).await.map_err(|_| failed())?;
        if response.status().is_success() { Ok(response) } else { Err(failed()) }
    }
}

/// A transport that answers only itself.
struct Dead;

impl Transport for Dead {
    async fn call(&self, _: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        Err(interrupted())
    }
}

fn has(nonconformity: &Nonconformity, wanted: &[&str]) {
    for wanted in wanted {
        assert!(
            nonconformity.failures.iter().any(|f| f.contains(wanted)),
            "{wanted} is missing in {nonconformity}"
        );
    }
    assert_eq!(nonconformity.failures.len(), wanted.len(), "{nonconformity}");
}

#[tokio::test]
async fn a_right_transport_passes() {
    conformance::transport(&Plain).await.unwrap();
}

#[tokio::test]
async fn what_is_too_much_is_found() {
    let found = conformance::transport(&Zealous).await.unwrap_err();
    has(
        &found,
        &["x-api-key was added", "any status", "nothing is tried again", "redirects to another origin"],
    );
}

#[tokio::test]
async fn what_is_too_little_is_found() {
    let found = conformance::transport(&Lazy).await.unwrap_err();
    assert!(found.to_string().contains("any status is a success"), "{found}");
    assert!(found.to_string().contains("nobody listening"), "{found}");
    assert!(found.to_string().contains("each failure has its kind"), "{found}");
}

#[tokio::test]
async fn a_dead_transport_fails_everywhere() {
    let found = conformance::transport(&Dead).await.unwrap_err();
    assert!((10..=12).contains(&found.failures.len()), "{found}");
}
