//! The caller's side of a carried call.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri};
use tinkex_http::{Body, Transport, TransportError, TransportErrorKind};
use tokio::sync::mpsc;

use super::body::{Course, carried_body};
use super::clock::HeldClock;
use super::desk::{Arrival, Expected};
use super::wire_side::Played;
use super::wires;
use crate::SocketServer;
use crate::engine::{Core, InFlight, Intake};
use crate::nobody::Nobody;
use crate::outcome::{Delivery, Outcome};

type Response = Result<http::Response<Body>, TransportError>;

/// Carries requests to the server over a socket, with a transport of any kind.
pub(crate) struct CarriedTransport<T> {
    inner: T,
    core: Arc<Core>,
    clock: HeldClock,
    socket: SocketServer,
    nobody: Nobody,
}

impl<T: Transport> CarriedTransport<T> {
    pub(crate) fn new(core: Arc<Core>, inner: T) -> io::Result<Self> {
        let socket = wires::listen(&core)?;
        Ok(Self { inner, core, clock: HeldClock::default(), socket, nobody: Nobody::new()? })
    }

    /// Takes a request in that has come over the wire, and plays its step.
    async fn play(&self, arrival: Arrival, host: Option<HeaderValue>) -> (Outcome, Option<InFlight>, Answer) {
        let Arrival { mut head, body, connection, played } = arrival;
        if let Some(host) = host {
            head.headers.insert(HOST, host);
        }
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        match self.core.receive(head.method, path, head.headers, body, connection) {
            Intake::Controlled(reply) => (Outcome::Answer(reply, Delivery::Whole), None, Answer(played)),
            Intake::Admitted(admitted) => {
                let (outcome, in_flight) = admitted.perform().await;
                (outcome, Some(in_flight), Answer(played))
            }
        }
    }
}

/// Where the outcome is told to the socket's side.
struct Answer(tokio::sync::oneshot::Sender<Played>);

impl Answer {
    /// Tells it; what comes back gives the cues, and the connection up when it is dropped.
    fn tell(self, outcome: Outcome) -> mpsc::UnboundedSender<()> {
        let (cue, cues) = mpsc::unbounded_channel();
        // A socket's side that has gone shows in the transport's own outcome.
        let _ = self.0.send(Played { outcome, cues });
        cue
    }
}

impl<T: Transport> Transport for CarriedTransport<T> {
    async fn call(&self, request: http::Request<Bytes>) -> Response {
        let mut expected: Expected = self.core.desk.expect();
        let host = request.uri().authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok());
        let host = if request.headers().contains_key(HOST) { None } else { host };
        let mut outgoing = readdressed(request.clone(), self.socket.address())?;
        expected.mark(outgoing.headers_mut());
        let mut exchange = pin!(self.inner.call(outgoing));

        let up = async {
            tokio::select! {
                biased;
                arrival = expected.arrival() => Ok(arrival),
                // It came to an end without the server.
                response = exchange.as_mut() => Err(response),
            }
        };
        let arrival = match self.clock.held(up).await {
            Ok(arrival) => arrival,
            Err(response) => return response,
        };
        let (outcome, in_flight, answer) = tokio::select! {
            biased;
            played = self.play(arrival, host) => played,
            // The transport has given up before the server.
            response = exchange.as_mut() => return response,
        };
        let course = match &outcome {
            Outcome::Refuse => {
                // Which request is refused is known only once it has come. So that the failure is the transport's
                // own, it is sent once more, to where nobody listens.
                return self.clock.held(self.inner.call(readdressed(request, self.nobody.address())?)).await;
            }
            Outcome::Hang => {
                let _open = answer.tell(outcome);
                return exchange.await;
            }
            Outcome::Answer(_, Delivery::Pieces(pieces)) => Course::Pieces(pieces.clone()),
            Outcome::Answer(_, Delivery::Stall) => Course::Stall,
            _ => Course::Steady,
        };
        let cue = answer.tell(outcome);
        let response = self.clock.held(exchange).await?;
        Ok(response.map(|body| carried_body(body, course, self.clock.clone(), cue, in_flight)))
    }
}

/// The same request for another address.
fn readdressed(
    request: http::Request<Bytes>,
    address: SocketAddr,
) -> Result<http::Request<Bytes>, TransportError> {
    let failure = |e: http::Error| TransportError::new(TransportErrorKind::Other, e.to_string());
    let (mut head, body) = request.into_parts();
    let authority = Authority::try_from(address.to_string()).map_err(|e| failure(e.into()))?;
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(failure)?;
    Ok(http::Request::from_parts(head, body))
}
