//! The in-memory face: a transport without sockets, in which all time is tokio's.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue, StatusCode};
use tinkex_http::{Body, Transport, TransportError, TransportErrorKind};

use crate::Reply;
use crate::engine::{Core, InFlight, Intake};
use crate::outcome::{Delivery, Outcome};

/// Carries requests straight into the server.
pub(crate) struct MemoryTransport {
    core: Arc<Core>,
    connection: u64,
}

impl MemoryTransport {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let connection = core.connect();
        Self { core, connection }
    }
}

impl Transport for MemoryTransport {
    async fn call(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        let (mut parts, body) = request.into_parts();
        let headers = &mut parts.headers;
        // What any HTTP stack would add, so that the log looks the same on both faces.
        if let Some(host) = parts.uri.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok()) {
            headers.entry(HOST).or_insert(host);
        }
        if !body.is_empty() {
            headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from(body.len()));
        }
        let admitted = match self.core.receive(parts, body, self.connection) {
            Intake::Admitted(admitted) => admitted,
            Intake::Controlled(reply) => return Ok(whole(reply)),
        };
        // A real exchange lets other tasks run in between; so must this one, or a loop of calls would starve them.
        tokio::task::yield_now().await;
        let (outcome, in_flight) = admitted.perform().await;
        match outcome {
            Outcome::Answer(reply, delivery) => Ok(response(reply, delivery, in_flight)),
            Outcome::Refuse => Err(TransportError::new(
                TransportErrorKind::Connect,
                "the fake server refused the connection",
            )),
            Outcome::Reset => Err(interrupted("the fake server reset the connection")),
            Outcome::Close => Err(interrupted("the fake server closed the connection before any answer")),
            Outcome::Garbage(_) => Err(TransportError::new(
                TransportErrorKind::Decode,
                "the fake server answered with something that is not HTTP",
            )),
            Outcome::Hang => std::future::pending().await,
        }
    }
}

fn interrupted(text: &str) -> TransportError {
    TransportError::new(TransportErrorKind::Interrupted, text)
}

fn response(mut reply: Reply, delivery: Delivery, in_flight: InFlight) -> http::Response<Body> {
    delivery.announce(&mut reply);
    let Reply { status, headers, body } = reply;
    let body = match delivery {
        // Given over whole, so the request is done with.
        Delivery::Whole => Body::full(body),
        Delivery::CutAfter(sent) => {
            let sent = sent.min(body.len());
            broken(body.slice(..sent), "the connection closed in the middle of the body", in_flight)
        }
        Delivery::WrongLength => broken(body, "the connection closed before the announced length", in_flight),
        Delivery::Stall => Body::stream(stream::once(async move {
            let _in_flight = in_flight;
            std::future::pending().await
        })),
        Delivery::Pieces(pieces) => Body::stream(stream::unfold(
            (pieces.into_iter(), in_flight),
            |(mut pieces, in_flight)| async move {
                let (wait, piece) = pieces.next()?;
                tokio::time::sleep(wait).await;
                Some((Ok(piece), (pieces, in_flight)))
            },
        )),
    };
    with_head(status, headers, body)
}

/// A response with its body at hand.
fn whole(mut reply: Reply) -> http::Response<Body> {
    Delivery::Whole.announce(&mut reply);
    with_head(reply.status, reply.headers, Body::full(reply.body))
}

fn with_head(status: StatusCode, headers: HeaderMap, body: Body) -> http::Response<Body> {
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A body that breaks off after some bytes.
fn broken(bytes: Bytes, why: &'static str, in_flight: InFlight) -> Body {
    let piece = (!bytes.is_empty()).then_some(Ok(bytes));
    let items = piece.into_iter().chain([Err(interrupted(why))]);
    Body::stream(stream::unfold((items, in_flight), |(mut items, in_flight)| async move {
        let item = items.next()?;
        Some((item, (items, in_flight)))
    }))
}
