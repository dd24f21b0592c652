//! The caller's side of a carried call.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri};
use tinkex_http::{Body, Transport, TransportError, TransportErrorKind};
use tokio::sync::{mpsc, oneshot};

use super::body;
use super::clock::HeldClock;
use super::desk::Arrival;
use super::queue::Queue;
use super::wire_side::Played;
use super::wires;
use crate::SocketServer;
use crate::engine::{Core, Intake};
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
    /// Calls whose requests are under way.
    requests: Queue,
    /// Calls whose answers are under way.
    answers: Queue,
}

impl<T: Transport> CarriedTransport<T> {
    pub(crate) fn new(core: Arc<Core>, inner: T) -> io::Result<Self> {
        let socket = wires::listen(&core)?;
        let (requests, answers) = (Queue::default(), Queue::default());
        let (clock, nobody) = (HeldClock::default(), Nobody::new()?);
        Ok(Self { inner, core, clock, socket, nobody, requests, answers })
    }

    /// Takes a request in that has come over the wire.
    fn admit(&self, arrival: Arrival, host: Option<HeaderValue>) -> (Intake, oneshot::Sender<Played>) {
        let Arrival { mut head, body, connection, played } = arrival;
        if let Some(host) = host {
            head.headers.insert(HOST, host);
        }
        (self.core.receive(head, body, connection), played)
    }
}

impl<T: Transport> Transport for CarriedTransport<T> {
    async fn call(&self, request: http::Request<Bytes>) -> Response {
        let mut expected = self.core.desk.expect();
        let turn = self.requests.stand();
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
        // Those before are under way, so the clock stands still meanwhile.
        turn.first().await;
        let (intake, answer) = self.admit(arrival, host);
        drop(turn);
        // What was sent before this came is taken in before anything is played, as tasks in memory let each other run.
        let pause = self.requests.stand();
        let perform = async {
            pause.first().await;
            drop(pause);
            match intake {
                Intake::Controlled(reply) => (Outcome::Answer(reply, Delivery::Whole), None),
                Intake::Admitted(admitted) => {
                    let (outcome, in_flight) = admitted.perform().await;
                    (outcome, Some(in_flight))
                }
            }
        };
        let (outcome, in_flight) = tokio::select! {
            biased;
            played = perform => played,
            // The transport has given up before the server.
            response = exchange.as_mut() => return response,
        };
        let turn = self.answers.stand();
        match outcome {
            Outcome::Refuse => {
                // Which request is refused is known only once it has come. So that the failure is the transport's
                // own, it is sent once more, to where nobody listens.
                let again = readdressed(request, self.nobody.address())?;
                let response = self.clock.held(self.inner.call(again)).await;
                turn.first().await;
                response
            }
            Outcome::Hang => {
                drop(turn);
                let _open = tell(answer, outcome);
                exchange.await
            }
            Outcome::Answer(_, Delivery::Pieces(ref pieces)) => {
                let pieces = pieces.clone();
                let cue = tell(answer, outcome);
                let response = self.clock.held(exchange).await;
                turn.first().await;
                Ok(response?.map(|body| body::in_pieces(body, pieces, self.clock.clone(), cue, in_flight)))
            }
            Outcome::Answer(_, Delivery::Stall) => {
                let open = tell(answer, outcome);
                let response = self.clock.held(exchange).await;
                turn.first().await;
                Ok(response?.map(|body| body::kept(body, (open, in_flight))))
            }
            _ => {
                let _open = tell(answer, outcome);
                let response = self.clock.held(whole(exchange)).await;
                turn.first().await;
                Ok(response?.map(|pieces| body::kept(futures_util::stream::iter(pieces), in_flight)))
            }
        }
    }
}

/// Tells the socket's side what to do. What comes back gives it cues, and the connection up when it is dropped early.
fn tell(answer: oneshot::Sender<Played>, outcome: Outcome) -> mpsc::UnboundedSender<()> {
    let (cue, cues) = mpsc::unbounded_channel();
    // A socket's side that has gone shows in the transport's own outcome.
    let _ = answer.send(Played { outcome, cues });
    cue
}

/// A response with all the pieces of its body, up to a failure.
async fn whole(
    exchange: impl Future<Output = Response>,
) -> Result<http::Response<Vec<Result<Bytes, TransportError>>>, TransportError> {
    let (head, body) = exchange.await?.into_parts();
    Ok(http::Response::from_parts(head, StreamExt::collect(body).await))
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
