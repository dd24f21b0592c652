//! The socket face: a real HTTP/1.1 server on 127.0.0.1, on which faults happen on the wire.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::Reply;
use crate::carried::{Lookup, Tenure, hand_over};
use crate::engine::{Core, Intake};
use crate::outcome::{Delivery, Outcome};
use crate::server::join;
use crate::wire::{EndOfConnection, Wire, first};

type Pieces = StreamBody<BoxStream<'static, Result<Frame<Bytes>, EndOfConnection>>>;
type WireBody = Either<Full<Bytes>, Pieces>;

/// How long the accept loop rests after the operating system refused it a connection (too many open files).
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// A listening server. Dropping it ends the listening and all connections at once; [`SocketServer::shutdown`] lets
/// answers under way finish first.
pub struct SocketServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl SocketServer {
    pub(crate) async fn bind(core: Arc<Core>, address: SocketAddr) -> io::Result<Self> {
        Self::on(core, TcpListener::bind(address).await?)
    }

    /// The same on a listener that is there already. Runs on the runtime that it is called in.
    pub(crate) fn on(core: Arc<Core>, listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let accepting = tokio::spawn(accept(core, listener, stopped));
        Ok(Self { address, stop, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL, `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
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
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for SocketServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl fmt::Debug for SocketServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketServer").field("address", &self.address).finish()
    }
}

/// Accepts until told to stop, then waits for the connections. They end with this task, which owns them.
async fn accept(core: Arc<Core>, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = told(&mut stopped) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(Arc::clone(&core), stream, stopped.clone()));
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

async fn serve(core: Arc<Core>, stream: TcpStream, mut stopped: watch::Receiver<bool>) {
    // Without it small answers may wait for the client's acknowledgement. Not having it is no reason to refuse.
    let _ = stream.set_nodelay(true);
    let number = core.connect();
    let wire = Wire::new(stream);
    let service = service_fn(|request| answer(Arc::clone(&core), wire.clone(), number, request));
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(wire.clone()), service));
    // Errors are the script's doing or the client's; both are for the client to notice.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = told(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

async fn answer(
    core: Arc<Core>,
    wire: Wire,
    connection: u64,
    request: http::Request<Incoming>,
) -> Result<http::Response<WireBody>, EndOfConnection> {
    let (mut parts, body) = request.into_parts();
    let call = core.desk.look_up(&mut parts.headers);
    let body = body.collect().await.map_err(|_| EndOfConnection)?.to_bytes();
    let (outcome, tenure) = match call {
        Lookup::Expected(call) => hand_over(call, parts, body, connection).await?,
        Lookup::GivenUp => return Err(EndOfConnection),
        Lookup::Again(number) => {
            core.violate(format!("the transport sent call {number} again, of its own accord"));
            return Err(EndOfConnection);
        }
        Lookup::Ordinary => {
            let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            match core.receive(parts.method, path, parts.headers, body, connection) {
                Intake::Controlled(reply) => return Ok(whole(reply)),
                Intake::Admitted(admitted) => {
                    let (outcome, in_flight) = admitted.perform().await;
                    (outcome, Tenure::Own { _in_flight: in_flight })
                }
            }
        }
    };
    match outcome {
        Outcome::Answer(reply, delivery) => deliver(&wire, reply, delivery, tenure).await,
        Outcome::Refuse | Outcome::Reset => {
            wire.reset_at_end()?;
            Err(EndOfConnection)
        }
        Outcome::Close => Err(EndOfConnection),
        Outcome::Garbage(bytes) => {
            wire.write(&bytes).await?;
            Err(EndOfConnection)
        }
        Outcome::Hang => Err(tenure.gone().await),
    }
}

async fn deliver(
    wire: &Wire,
    mut reply: Reply,
    delivery: Delivery,
    tenure: Tenure,
) -> Result<http::Response<WireBody>, EndOfConnection> {
    delivery.announce(&mut reply);
    match delivery {
        Delivery::Whole => Ok(whole(reply)),
        Delivery::Pieces(pieces) => {
            let pieces =
                stream::unfold((pieces.into_iter(), tenure), |(mut pieces, mut tenure)| async move {
                    let (wait, piece) = pieces.next()?;
                    let frame = tenure.rest(wait).await.map(|()| Frame::data(piece));
                    Some((frame, (pieces, tenure)))
                });
            Ok(response(reply, WireBody::Right(StreamBody::new(pieces.boxed()))))
        }
        Delivery::CutAfter(length) => {
            let sent = first(&reply.body, length);
            wire.write_response(&reply, &sent).await?;
            Err(EndOfConnection)
        }
        Delivery::WrongLength => {
            wire.write_response(&reply, &reply.body).await?;
            Err(EndOfConnection)
        }
        Delivery::Stall => {
            wire.write_response(&reply, &[]).await?;
            Err(tenure.gone().await)
        }
    }
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
