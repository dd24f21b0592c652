//! A transport over `ureq`, which blocks: every call takes a thread of this transport's own for as long as it lasts.
//!
//! What that means:
//! * Calls beyond the limit of threads wait for one to become free, long polls and heartbeats alike. Set the limit
//!   above what is in flight at one time; at thousands of calls an asynchronous stack is the better choice.
//! * A call that is dropped is given up at once: its result goes nowhere, and shutting its socket down ends the read
//!   or write in which its thread blocks, so the thread is free again and the server sees the connection close. Only
//!   while it makes a connection it cannot be interrupted; that takes as long as the connect time-out at most.
//! * Bodies stream: a thread reads ahead a few pieces, then waits for the reader.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Method;
use tinkex_client::{Body, Transport, TransportError, TransportErrorKind};
use tokio::sync::{mpsc, oneshot};
use ureq::config::AutoHeaderValue;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::{Agent, Timeout};

use super::abandon::{Abandon, AbandonConnector};
use super::threads::Threads;

/// Pieces of a body that are read ahead.
const READ_AHEAD: usize = 4;
/// The greatest piece.
const PIECE: usize = 64 * 1024;

type Head = Result<http::Response<mpsc::Receiver<Piece>>, TransportError>;
type Piece = Result<Bytes, TransportError>;

/// Sends requests with `ureq`, on threads of its own. Clones share threads and connections.
#[derive(Clone)]
pub(crate) struct UreqTransport {
    agent: Agent,
    threads: Arc<Threads>,
}

impl UreqTransport {
    /// Time to make a connection.
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

    /// A transport that makes at most so many calls at one time.
    pub(crate) fn new(most_threads: usize) -> Self {
        let config = Agent::config_builder()
            // Everything that the pipeline does itself, or that would change what was sent.
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .accept(AutoHeaderValue::None)
            .accept_encoding(AutoHeaderValue::None)
            .user_agent(AutoHeaderValue::None)
            .proxy(None)
            .timeout_connect(Some(Self::CONNECT_TIMEOUT))
            .max_idle_connections(64)
            .max_idle_connections_per_host(64)
            .build();
        let agent = Agent::with_parts(config, AbandonConnector::default(), DefaultResolver::default());
        Self { agent, threads: Arc::new(Threads::at_most(most_threads)) }
    }
}

impl Transport for UreqTransport {
    async fn call(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        let call = Call::default();
        let (agent, abandon) = (self.agent.clone(), call.abandon.clone());
        let (tell, head) = oneshot::channel();
        self.threads.run(move || {
            if !abandon.is_abandoned() {
                abandon.clone().during(|| make(&agent, request, &abandon, tell));
            }
        });
        let ended = |_| TransportError::new(TransportErrorKind::Other, "the transport has ended");
        let response = head.await.map_err(ended)??;
        Ok(response.map(|pieces| {
            // The call lives as long as its body.
            Body::stream(stream::unfold((pieces, call), |(mut pieces, call)| async move {
                let piece = pieces.recv().await?;
                Some((piece, (pieces, call)))
            }))
        }))
    }
}

/// A call in the hands of whoever waits for it. Dropping it gives it up.
#[derive(Default)]
struct Call {
    abandon: Abandon,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.abandon.abandon();
    }
}

/// The exchange, on a thread of the transport: the head first, then piece by piece of the body.
fn make(agent: &Agent, request: http::Request<Bytes>, abandon: &Abandon, tell: oneshot::Sender<Head>) {
    let response = match send(agent, request) {
        Ok(response) => response,
        Err(error) => {
            let _ = tell.send(Err(failure(error, abandon)));
            return;
        }
    };
    let (head, body) = response.into_parts();
    let (pieces, receiver) = mpsc::channel(READ_AHEAD);
    // Whoever has gone away needs nothing more: the response is dropped, and its connection with it.
    if tell.send(Ok(http::Response::from_parts(head, receiver))).is_err() {
        return;
    }
    let mut reader = body.into_reader();
    let mut buffer = vec![0; PIECE];
    loop {
        let piece = match reader.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => Ok(Bytes::copy_from_slice(&buffer[..read])),
            Err(error) => Err(failure(ureq::Error::from(error), abandon)),
        };
        let last = piece.is_err();
        if pieces.blocking_send(piece).is_err() || last {
            return;
        }
    }
}

fn send(agent: &Agent, request: http::Request<Bytes>) -> Result<http::Response<ureq::Body>, ureq::Error> {
    let (head, body) = request.into_parts();
    // With these methods `ureq` sends no body, nor a length of zero.
    let bodiless = matches!(head.method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS);
    if bodiless && body.is_empty() {
        return agent.run(http::Request::from_parts(head, ()));
    }
    agent.run(http::Request::from_parts(head, &body[..]))
}

/// What a failure means for a retry.
fn failure(error: ureq::Error, abandon: &Abandon) -> TransportError {
    use ureq::Error;
    let (kind, what) = match &error {
        // No byte has left: the request was never sent, whatever went wrong.
        _ if !abandon.began() => (TransportErrorKind::Connect, "cannot connect"),
        Error::Timeout(Timeout::Connect) => (TransportErrorKind::Connect, "cannot connect"),
        Error::Timeout(_) => (TransportErrorKind::Timeout, "the connection timed out"),
        Error::Protocol(_) | Error::Http(_) | Error::LargeResponseHeader(..) => {
            (TransportErrorKind::Decode, "the server's answer is not HTTP")
        }
        _ => (TransportErrorKind::Interrupted, "the connection broke before the response was complete"),
    };
    TransportError::new(kind, format!("{what}: {error}"))
}
