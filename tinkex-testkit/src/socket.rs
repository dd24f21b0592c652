//! The socket face: a real server on 127.0.0.1, on which faults happen on the wire. It speaks HTTP/1.1 and, to clients
//! that begin so, HTTP/2.
//!
//! Over HTTP/1.1 a fault concerns the connection. Over HTTP/2, where many requests share one, a reset and a refusal end
//! the stream of their request only; closing and garbage end the connection with all that is in flight on it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::Reply;
use crate::carried::{Lookup, Tenure, hand_over};
use crate::engine::{Core, Intake};
use crate::outcome::{Delivery, Outcome};
use crate::server::join;
use crate::wire::{EndOfExchange, Stream, Wire, first};

type Pieces = StreamBody<BoxStream<'static, Result<Frame<Bytes>, EndOfExchange>>>;
type WireBody = Either<Full<Bytes>, Pieces>;

/// How long the accept loop rests after the operating system refused it a connection (too many open files).
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// How often a stream that is to be reset lets other tasks run first.
const TURNS_BEFORE_RESET: u32 = 16;

/// A listening server. Dropping it ends the listening and all connections at once; [`SocketServer::shutdown`] lets
/// answers under way finish first.
pub struct SocketServer {
    address: SocketAddr,
    #[cfg(feature = "tls")]
    authority: Option<String>,
    stop: watch::Sender<bool>,
    accepting: OwnedAccept,
}

impl SocketServer {
    pub(crate) async fn bind(core: Arc<Core>, address: SocketAddr) -> io::Result<Self> {
        Self::on(core, TcpListener::bind(address).await?)
    }

    /// The same on a listener that is there already. Runs on the runtime that it is called in.
    pub(crate) fn on(core: Arc<Core>, listener: TcpListener) -> io::Result<Self> {
        Self::start(core, listener, Entrance::Plain)
    }

    #[cfg(feature = "tls")]
    pub(crate) async fn bind_tls(core: Arc<Core>, address: SocketAddr, tls: &crate::Tls) -> io::Result<Self> {
        let (acceptor, authority) = tls.make()?;
        let server = Self::start(core, TcpListener::bind(address).await?, Entrance::Tls(acceptor))?;
        Ok(Self { authority: Some(authority), ..server })
    }

    fn start(core: Arc<Core>, listener: TcpListener, entrance: Entrance) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let accepting = OwnedAccept(tokio::spawn(accept(core, listener, entrance, stopped)));
        Ok(Self {
            address,
            #[cfg(feature = "tls")]
            authority: None,
            stop,
            accepting,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL, `http://127.0.0.1:<port>`, with `https` where it speaks TLS.
    pub fn url(&self) -> String {
        #[cfg(feature = "tls")]
        if self.authority.is_some() {
            return format!("https://{}", self.address);
        }
        format!("http://{}", self.address)
    }

    /// The certificate of the authority that vouches for this server, as PEM; none where it speaks no TLS.
    #[cfg(feature = "tls")]
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// [`SocketServer::url`] with a base path, such as `/services/x`, which the server strips from what it gets.
    pub fn url_with_path(&self, path: &str) -> String {
        join(&self.url(), path)
    }

    /// Stops in good order: no new connections, idle ones are closed, and requests under way get their answers.
    /// Requests that the script lets hang keep it waiting until their clients go away.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        // The accept loop ends after its last connection. That it panicked is nothing to stop for.
        let _ = (&mut self.accepting.0).await;
    }
}

/// The task that accepts, which ends with its owner.
struct OwnedAccept(JoinHandle<()>);

impl Drop for OwnedAccept {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for SocketServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketServer").field("address", &self.address).finish()
    }
}

/// How connections begin.
#[derive(Clone)]
enum Entrance {
    Plain,
    #[cfg(feature = "tls")]
    Tls(tokio_rustls::TlsAcceptor),
}

impl Entrance {
    async fn enter(&self, stream: TcpStream) -> io::Result<Stream> {
        match self {
            Self::Plain => Ok(Stream::Plain(stream)),
            #[cfg(feature = "tls")]
            Self::Tls(acceptor) => Ok(Stream::Tls(Box::new(acceptor.accept(stream).await?))),
        }
    }
}

/// Accepts until told to stop, then waits for the connections. They end with this task, which owns them.
async fn accept(
    core: Arc<Core>,
    listener: TcpListener,
    entrance: Entrance,
    mut stopped: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = told(&mut stopped) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(Arc::clone(&core), stream, entrance.clone(), stopped.clone()));
                }
                Err(_) => tokio::time::sleep(ACCEPT_REST).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Resolves when the server is to stop, or has gone.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn serve(core: Arc<Core>, stream: TcpStream, entrance: Entrance, mut stopped: watch::Receiver<bool>) {
    // Without it small answers may wait for the client's acknowledgement. Not having it is no reason to refuse.
    let _ = stream.set_nodelay(true);
    let number = core.connect();
    let Ok(stream) = entrance.enter(stream).await else { return };
    let line = Line { number, wire: Wire::new(stream), cut: Arc::default() };
    let service = service_fn(|request| answer(Arc::clone(&core), line.clone(), request));
    let builder = auto::Builder::new(Streams::default());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(line.wire.clone()), service));
    // Errors are the script's doing or the client's; both are for the client to notice.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = line.cut.notified() => {}
        () = told(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// Runs the streams of one HTTP/2 connection, which end with it.
#[derive(Clone, Default)]
struct Streams(Arc<Mutex<JoinSet<()>>>);

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while streams.try_join_next().is_some() {}
        streams.spawn(stream);
    }
}

/// What the requests of a connection know of it.
#[derive(Clone)]
struct Line {
    number: u64,
    wire: Wire,
    /// Told when the connection is to end at once.
    cut: Arc<Notify>,
}

async fn answer(
    core: Arc<Core>,
    line: Line,
    request: http::Request<Incoming>,
) -> Result<http::Response<WireBody>, EndOfExchange> {
    let (mut head, body) = request.into_parts();
    let multiplexed = head.version == http::Version::HTTP_2;
    let call = core.desk.look_up(&mut head.headers);
    let body = body.collect().await.map_err(|_| EndOfExchange)?.to_bytes();
    let (outcome, tenure) = match call {
        Lookup::Ordinary => match core.receive(head, body, line.number) {
            Intake::Controlled(reply) => return Ok(whole(reply)),
            Intake::Admitted(admitted) => {
                let (outcome, in_flight) = admitted.perform().await;
                (outcome, Tenure::Own { _in_flight: in_flight })
            }
        },
        Lookup::Expected(call) => hand_over(call, head, body, line.number).await?,
        Lookup::GivenUp => return Err(EndOfExchange),
        Lookup::Again(number) => {
            core.violate(format!("the transport sent call {number} again, of its own accord"));
            return Err(EndOfExchange);
        }
    };
    match outcome {
        Outcome::Answer(reply, delivery) if multiplexed => Ok(deliver_on_stream(reply, delivery, tenure)),
        Outcome::Answer(reply, delivery) => deliver(&line.wire, reply, delivery, tenure).await,
        Outcome::Refuse | Outcome::Reset if multiplexed => Err(EndOfExchange),
        Outcome::Refuse | Outcome::Reset => {
            line.wire.reset_at_end()?;
            Err(EndOfExchange)
        }
        Outcome::Close | Outcome::Garbage(_) if multiplexed => {
            line.cut.notify_one();
            // The stream ends with its connection.
            std::future::pending().await
        }
        Outcome::Close => Err(EndOfExchange),
        Outcome::Garbage(bytes) => {
            line.wire.write(&bytes).await?;
            Err(EndOfExchange)
        }
        Outcome::Hang => Err(tenure.gone().await),
    }
}

/// Delivers on a connection of its own (HTTP/1.1).
async fn deliver(
    wire: &Wire,
    mut reply: Reply,
    delivery: Delivery,
    tenure: Tenure,
) -> Result<http::Response<WireBody>, EndOfExchange> {
    delivery.announce(&mut reply);
    match delivery {
        Delivery::Whole => Ok(whole(reply)),
        Delivery::Pieces(pieces) => Ok(in_pieces(reply, pieces, tenure)),
        Delivery::CutAfter(length) => {
            let sent = first(&reply.body, length);
            wire.write_response(&reply, &sent).await?;
            Err(EndOfExchange)
        }
        Delivery::WrongLength => {
            wire.write_response(&reply, &reply.body).await?;
            Err(EndOfExchange)
        }
        Delivery::Stall => {
            wire.write_response(&reply, &[]).await?;
            Err(tenure.gone().await)
        }
    }
}

/// Delivers on a stream among others (HTTP/2), whose end is no end for the others.
fn deliver_on_stream(mut reply: Reply, delivery: Delivery, tenure: Tenure) -> http::Response<WireBody> {
    delivery.announce(&mut reply);
    let body = std::mem::take(&mut reply.body);
    let sent = match delivery {
        Delivery::Whole | Delivery::WrongLength => return response(reply, WireBody::Left(Full::new(body))),
        Delivery::Pieces(pieces) => return in_pieces(reply, pieces, tenure),
        Delivery::CutAfter(length) => Some(first(&body, length)),
        Delivery::Stall => None,
    };
    let stalls = sent.is_none();
    let sent = stream::iter(sent.map(|sent| Ok(Frame::data(sent))));
    let end = stream::once(async move {
        if stalls {
            return Err(tenure.gone().await);
        }
        // A reset overtakes what is still to be written. The connection's own task is to write it first.
        for _ in 0..TURNS_BEFORE_RESET {
            tokio::task::yield_now().await;
        }
        Err(EndOfExchange)
    });
    response(reply, WireBody::Right(StreamBody::new(sent.chain(end).boxed())))
}

fn in_pieces(reply: Reply, pieces: Vec<(Duration, Bytes)>, tenure: Tenure) -> http::Response<WireBody> {
    let pieces = stream::unfold((pieces.into_iter(), tenure), |(mut pieces, mut tenure)| async move {
        let (wait, piece) = pieces.next()?;
        let frame = tenure.rest(wait).await.map(|()| Frame::data(piece));
        Some((frame, (pieces, tenure)))
    });
    response(reply, WireBody::Right(StreamBody::new(pieces.boxed())))
}

/// A response with its body at hand.
fn whole(mut reply: Reply) -> http::Response<WireBody> {
    let body = std::mem::take(&mut reply.body);
    response(reply, WireBody::Left(Full::new(body)))
}

/// Status and headers of a reply over another body.
fn response(reply: Reply, body: WireBody) -> http::Response<WireBody> {
    let mut response = http::Response::new(body);
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response
}
