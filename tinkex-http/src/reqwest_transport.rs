//! The ready-made transport, over `reqwest`.

use std::error::Error as StdError;
use std::time::Duration;

use bytes::Bytes;
use tinkex_types::InvalidInput;

use crate::{Body, CallClass, Transport, TransportError, TransportErrorKind};

/// Sends requests with `reqwest`. Each [`CallClass`] has connections of its own, so that neither long polls nor
/// uploads can hold up a heartbeat. It speaks HTTP/1.1: over HTTP/2 all calls of a class would share one connection
/// and its limit of streams, and thousands of long polls would queue for it. Redirects, retries, time-outs and decompression are left to the pipeline.
#[derive(Clone, Debug)]
pub struct ReqwestTransport {
    clients: [reqwest::Client; CallClass::ALL.len()],
}

impl ReqwestTransport {
    /// Time to make a connection before the attempt counts as never sent (PROTOCOL 7.1).
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

    /// Idle connections kept per class. Each holds a file descriptor, so a fan-out must not leave thousands behind.
    const MAX_IDLE: usize = 64;

    /// File descriptors left to idle connections, to heartbeats and to the rest of the program.
    const RESERVED_FILES: u64 = 256;

    /// How many calls the process may have in flight at once before it runs out of file descriptors: its limit of open
    /// files (`ulimit -n`) less 256, but at least half of it. None where the system has no such limit. Calls beyond it
    /// would fail to connect, heartbeats among them, so whoever starts thousands of calls should not exceed it.
    pub fn capacity() -> Option<usize> {
        #[cfg(unix)]
        let limit = rlimit::Resource::NOFILE.get_soft().ok();
        #[cfg(not(unix))]
        let limit = None;
        limit.and_then(room_for_calls)
    }

    /// A transport with the platform's certificate roots and the proxies of the environment.
    ///
    /// # Errors
    /// Where TLS cannot be set up.
    pub fn new() -> Result<Self, InvalidInput> {
        let client = || {
            reqwest::Client::builder()
                .connect_timeout(Self::CONNECT_TIMEOUT)
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .pool_max_idle_per_host(Self::MAX_IDLE)
                .tcp_nodelay(true)
                .build()
                .map_err(|e| InvalidInput::new("transport", format!("cannot be set up: {e}")))
        };
        Ok(Self { clients: [client()?, client()?, client()?, client()?] })
    }
}

/// Calls at once under a limit of open files; none where it is as good as unlimited.
fn room_for_calls(open_files: u64) -> Option<usize> {
    let room = open_files.saturating_sub(ReqwestTransport::RESERVED_FILES).max(open_files / 2).max(1);
    usize::try_from(room).ok().filter(|room| *room < usize::MAX >> 3)
}

impl Transport for ReqwestTransport {
    async fn call(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        let class = request.extensions().get::<CallClass>().copied().unwrap_or_default();
        let request = reqwest::Request::try_from(request)
            .map_err(|e| failure(e, TransportErrorKind::Decode, "the request cannot be sent"))?;
        let response = self.clients[class.index()].execute(request).await.map_err(classify)?;
        let mut out = http::Response::new(Body::empty());
        *out.status_mut() = response.status();
        *out.version_mut() = response.version();
        *out.headers_mut() = response.headers().clone();
        *out.body_mut() = Body::stream(Pieces(response.bytes_stream()));
        Ok(out)
    }
}

/// The body's stream, with errors translated.
struct Pieces<S>(S);

impl<S> futures_core::Stream for Pieces<S>
where
    S: futures_core::Stream<Item = reqwest::Result<Bytes>> + Unpin,
{
    type Item = Result<Bytes, TransportError>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let piece = std::pin::Pin::new(&mut self.0).poll_next(cx);
        piece.map(|piece| piece.map(|piece| piece.map_err(classify)))
    }
}

fn classify(error: reqwest::Error) -> TransportError {
    if error.is_connect() {
        let address = address(&error).unwrap_or_else(|| "the server".to_owned());
        return failure(error, TransportErrorKind::Connect, &format!("cannot connect to {address}"));
    }
    if error.is_timeout() {
        return failure(error, TransportErrorKind::Timeout, "the connection timed out");
    }
    let not_http =
        causes(&error).any(|cause| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse));
    if not_http {
        return failure(error, TransportErrorKind::Decode, "the server's answer is not HTTP");
    }
    failure(error, TransportErrorKind::Interrupted, "the connection broke before the response was complete")
}

/// Host and port that the request was for; nothing else of its URL.
fn address(error: &reqwest::Error) -> Option<String> {
    let url = error.url()?;
    let host = url.host_str()?;
    Some(url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    std::iter::from_fn(move || {
        let current = next?;
        next = current.source();
        Some(current)
    })
}

/// The innermost cause makes the message: "connection refused" helps, "error sending request" does not. So the error has
/// no source: whoever prints the whole chain shall not read it twice.
fn failure(error: reqwest::Error, kind: TransportErrorKind, what: &str) -> TransportError {
    let error = error.without_url();
    let root = causes(&error).last().map(ToString::to_string).unwrap_or_default();
    TransportError::new(kind, format!("{what}: {root}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_leave_room_for_other_files() {
        for (open_files, room) in
            [(256, Some(128)), (1024, Some(768)), (65_536, Some(65_280)), (1, Some(1)), (u64::MAX, None)]
        {
            assert_eq!(room_for_calls(open_files), room, "{open_files}");
        }
        assert!(ReqwestTransport::capacity().is_none_or(|room| room > 0));
    }
}
