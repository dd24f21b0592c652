//! Transports that break the contract, each in one way.

use std::future::ready;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Method};
use tinkex_http::{Body, SharedTransport, Transport, TransportError, TransportErrorKind};
use tinkex_testkit::Received;

/// A way to break the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    Retries,
    RetriesIdempotent,
    FollowsRedirects,
    AddsKey,
    KeepsCookies,
    DropsRequestHeaders,
    MergesRequestHeaders,
    DropsResponseHeaders,
    MergesResponseHeaders,
    CutsRequests,
    CutsResponses,
    Decompresses,
    TimesOut,
    OneKind,
    HidesBrokenBodies,
    StatusIsError,
    BuffersBodies,
    Detaches,
    OneAtATime,
}

/// A right transport, spoilt.
pub(super) struct Broken {
    inner: SharedTransport,
    fault: Fault,
    cookies: Mutex<Vec<HeaderValue>>,
    alone: tokio::sync::Mutex<()>,
}

impl Broken {
    pub(super) fn new(inner: SharedTransport, fault: Fault) -> Self {
        Self { inner, fault, cookies: Mutex::default(), alone: tokio::sync::Mutex::default() }
    }

    fn spoil_request(&self, request: &mut http::Request<Bytes>) {
        match self.fault {
            Fault::AddsKey => {
                request.headers_mut().insert("x-api-key", HeaderValue::from_static("tml-secret"));
            }
            Fault::KeepsCookies => {
                for cookie in self.cookies.lock().unwrap().iter() {
                    request.headers_mut().append("cookie", cookie.clone());
                }
            }
            Fault::DropsRequestHeaders => last_only(request.headers_mut()),
            Fault::MergesRequestHeaders => merge(request.headers_mut()),
            Fault::CutsRequests => {
                let body = request.body_mut();
                body.truncate(1 << 20);
            }
            _ => {}
        }
    }

    fn spoil_head(&self, headers: &mut HeaderMap) {
        match self.fault {
            Fault::KeepsCookies => {
                self.cookies.lock().unwrap().extend(headers.get_all("set-cookie").iter().cloned());
            }
            Fault::DropsResponseHeaders => {
                headers.remove("x-many");
            }
            Fault::MergesResponseHeaders => merge(headers),
            _ => {}
        }
    }

    async fn once(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        match self.fault {
            Fault::TimesOut => {
                let late = |_| TransportError::new(TransportErrorKind::Timeout, "too late");
                tokio::time::timeout(Duration::from_millis(500), self.inner.call(request))
                    .await
                    .map_err(late)?
            }
            Fault::Detaches => {
                let inner = self.inner.clone();
                tokio::spawn(async move { inner.call(request).await }).await.unwrap()
            }
            Fault::OneAtATime => {
                let _alone = self.alone.lock().await;
                self.inner.call(request).await
            }
            _ => self.inner.call(request).await,
        }
    }

    async fn spoil_body(&self, headers: &mut HeaderMap, body: Body) -> Result<Body, TransportError> {
        const LIMIT: usize = 16 << 20;
        match self.fault {
            Fault::CutsResponses if is_large(headers) => {
                let mut whole = body.collect(LIMIT).await?;
                whole.truncate(1 << 20);
                Ok(Body::full(whole))
            }
            Fault::Decompresses if headers.contains_key("content-encoding") => {
                // The header stays: a reader would decompress once more.
                let packed = body.collect(LIMIT).await?;
                let packed = Received::get("x").with_headers(headers.clone()).with_body(packed);
                Ok(Body::full(packed.decoded_body().unwrap()))
            }
            Fault::HidesBrokenBodies => Ok(Body::stream(body.take_while(|piece| ready(piece.is_ok())))),
            Fault::BuffersBodies => Ok(Body::full(body.collect(LIMIT).await?)),
            _ => Ok(body),
        }
    }
}

impl Transport for Broken {
    async fn call(&self, mut request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        self.spoil_request(&mut request);
        let mut outcome = self.once(request.clone()).await;
        let again = match (&outcome, self.fault) {
            (Ok(response), Fault::Retries) => response.headers().contains_key("retry-after"),
            (Err(_), Fault::RetriesIdempotent) => request.method() == Method::GET,
            _ => false,
        };
        if again {
            outcome = self.once(request.clone()).await;
        }
        if self.fault == Fault::OneKind {
            outcome = outcome.map_err(|e| TransportError::new(TransportErrorKind::Other, e.to_string()));
        }
        let (mut head, body) = outcome?.into_parts();
        if let (Fault::FollowsRedirects, Some(location)) = (self.fault, head.headers.get("location")) {
            *request.uri_mut() = location.to_str().unwrap().parse().unwrap();
            return self.once(request).await;
        }
        if self.fault == Fault::StatusIsError && !head.status.is_success() {
            return Err(TransportError::new(TransportErrorKind::Other, head.status.to_string()));
        }
        self.spoil_head(&mut head.headers);
        let body = self.spoil_body(&mut head.headers, body).await?;
        Ok(http::Response::from_parts(head, body))
    }
}

fn is_large(headers: &HeaderMap) -> bool {
    let length = headers.get("content-length").and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    length.is_some_and(|length| length > 1 << 20)
}

/// Of repeated headers the last.
fn last_only(headers: &mut HeaderMap) {
    if let Some(last) = headers.get_all("x-many").iter().next_back().cloned() {
        headers.insert("x-many", last);
    }
}

/// Repeated headers in one line.
fn merge(headers: &mut HeaderMap) {
    let lines: Vec<_> =
        headers.get_all("x-many").iter().map(|value| value.to_str().unwrap().to_owned()).collect();
    if !lines.is_empty() {
        headers.insert("x-many", lines.join(", ").parse().unwrap());
    }
}

/// A transport that answers only itself.
pub(super) struct Dead;

impl Transport for Dead {
    async fn call(&self, _: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        Err(TransportError::new(TransportErrorKind::Interrupted, "the connection ended"))
    }
}
