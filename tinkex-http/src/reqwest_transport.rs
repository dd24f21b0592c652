//! The ready-made transport, over `reqwest`.

mod builder;
mod connections;
mod failure;
mod open_files;
mod parsed_urls;
mod settings;
#[cfg(feature = "rustls")]
mod trust;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tinkex_types::InvalidInput;

pub use builder::ReqwestTransportBuilder;
use connections::{Connections, Held};
use parsed_urls::ParsedUrls;
pub use settings::HttpVersionPolicy;

use crate::{Body, CallClass, Transport, TransportError};

/// Sends requests with `reqwest`. A cheap clone; clones share their connections.
///
/// Each [`CallClass`] has connections of its own, so that neither long polls nor uploads can hold up a heartbeat.
/// HTTP/2 is taken where the server offers it (ALPN), else HTTP/1.1. Over HTTP/2 a class has as many connections as its
/// calls need, at most 50 calls on each, and large bodies travel on connections of their own (PROTOCOL 8): thousands of
/// long polls must not queue for the streams of one connection. Redirects, retries, time-outs and decompression are left
/// to the pipeline.
#[derive(Clone)]
pub struct ReqwestTransport(Arc<Inner>);

struct Inner {
    connections: Connections,
    urls: ParsedUrls,
}

impl ReqwestTransport {
    /// How many connections calls may take at once before the process runs out of file descriptors: its limit of open
    /// files (`ulimit -n`) less what idle connections may take, but at least half of it. None where the system has no such
    /// limit. Over HTTP/1.1
    /// each call in flight has a connection, so whoever starts thousands of calls should not exceed it: calls beyond it
    /// would fail to connect, heartbeats among them. Over HTTP/2 ([`multiplexes`](Self::multiplexes)) it is no bound.
    pub fn capacity() -> Option<usize> {
        open_files::limit().and_then(open_files::room_for_calls)
    }

    /// A transport with the platform's certificate roots and the proxies of the environment.
    ///
    /// # Errors
    /// As [`ReqwestTransportBuilder::build`].
    pub fn new() -> Result<Self, InvalidInput> {
        Self::builder().build()
    }

    /// A transport made to measure.
    pub fn builder() -> ReqwestTransportBuilder {
        ReqwestTransportBuilder::default()
    }

    /// Whether calls share connections: an answer has come over HTTP/2, or nothing else is spoken. False before the
    /// first answer.
    pub fn multiplexes(&self) -> bool {
        self.0.connections.multiplexes()
    }
}

impl Transport for ReqwestTransport {
    async fn call(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        let Inner { connections, urls } = &*self.0;
        let class = request.extensions().get::<CallClass>().copied().unwrap_or_default();
        let (head, body) = request.into_parts();
        let url = urls.parse(&head.uri).map_err(failure::of_url)?;
        let place = connections.place(class, &head.uri, body.len());
        let mut outgoing = reqwest::Request::new(head.method, url);
        *outgoing.headers_mut() = head.headers;
        *outgoing.body_mut() = Some(body.into());
        let mut response = match place.client.execute(outgoing).await {
            Ok(response) => response,
            Err(error) => {
                if error.is_connect() {
                    connections.unreachable(&place, &head.uri);
                }
                return Err(failure::of(error, connections.connect_timeout()));
            }
        };
        connections.answered(&place, &head.uri, response.version());
        let mut out = http::Response::new(Body::empty());
        *out.status_mut() = response.status();
        *out.version_mut() = response.version();
        *out.headers_mut() = std::mem::take(response.headers_mut());
        let pieces = response.bytes_stream();
        *out.body_mut() = Body::stream(Pieces {
            pieces,
            connect_timeout: connections.connect_timeout(),
            _held: place.held,
        });
        Ok(out)
    }

    fn renew(&self, class: CallClass) {
        self.0.connections.renew(class);
    }
}

impl fmt::Debug for ReqwestTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestTransport").field("multiplexes", &self.multiplexes()).finish_non_exhaustive()
    }
}

/// The body's stream, with errors translated. The call's place on its connection is held until it is dropped.
struct Pieces<S> {
    pieces: S,
    connect_timeout: std::time::Duration,
    _held: Option<Held>,
}

impl<S> futures_core::Stream for Pieces<S>
where
    S: futures_core::Stream<Item = reqwest::Result<Bytes>> + Unpin,
{
    type Item = Result<Bytes, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = Pin::new(&mut self.pieces).poll_next(cx);
        piece.map(|piece| piece.map(|piece| piece.map_err(|e| failure::of(e, self.connect_timeout))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_a_call() {
        assert!(ReqwestTransport::capacity().is_none_or(|room| room > 0));
    }
}
