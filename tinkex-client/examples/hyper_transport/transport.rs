//! A transport over `hyper-util`'s pooling client: no `reqwest`, HTTP/1.1, no TLS.
//!
//! For TLS put `hyper-rustls` or `hyper-tls` in the place of [`HttpConnector`]; nothing else changes.

use std::error::Error as StdError;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tinkex_client::{Body, Transport, TransportError, TransportErrorKind};

/// Sends each call over a connection of the pool that is free, or over a new one. So no call waits for another, and
/// heartbeats need no connections of their own.
#[derive(Clone, Debug)]
pub(crate) struct HyperTransport {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl HyperTransport {
    /// Time to make a connection.
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(Self::CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(64)
            // Also what could not even be sent is the pipeline's to try again.
            .retry_canceled_requests(false)
            .build(connector);
        Self { client }
    }
}

impl Transport for HyperTransport {
    async fn call(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        // Dropped, the client's future closes the connection; so does the body.
        let response = self.client.request(request.map(Full::new)).await.map_err(not_sent_or_broken)?;
        Ok(response.map(|body| {
            let pieces = body.into_data_stream();
            Body::stream(pieces.map(|piece| piece.map_err(|error| broken(error, "the body"))))
        }))
    }
}

/// A failure before the response's head.
fn not_sent_or_broken(error: ClientError) -> TransportError {
    if error.is_connect() {
        return TransportError::new(TransportErrorKind::Connect, format!("cannot connect: {}", root(&error)));
    }
    broken(error, "the response")
}

/// A failure once the request may have been sent.
fn broken(error: impl StdError + 'static, what: &str) -> TransportError {
    let not_http = causes(&error).filter_map(|cause| cause.downcast_ref()).any(hyper::Error::is_parse);
    let (kind, what) = if not_http {
        (TransportErrorKind::Decode, format!("{what} is not HTTP"))
    } else {
        (TransportErrorKind::Interrupted, format!("the connection broke before {what} was complete"))
    };
    TransportError::new(kind, format!("{what}: {}", root(&error)))
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let current = next?;
        next = current.source();
        Some(current)
    })
}

/// The innermost cause: "connection refused" helps, "client error" does not. It makes the message, so the error has no
/// source: whoever prints the whole chain shall not read it twice.
fn root(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}
