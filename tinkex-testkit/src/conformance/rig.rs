//! What the checks stand on: a scripted server and a way to reach it with the transport.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tinkex_http::{Body, SharedTransport, Transport, TransportError, TransportErrorKind};

use crate::nobody::Nobody;
use crate::{FakeServer, NoBehaviour, Received, SocketServer, Step};

/// What a check says: what is wrong, in words.
pub(super) type Outcome = Result<(), String>;

type Called = Result<http::Response<Body>, TransportError>;
type Call<'a> = Arc<dyn Fn(http::Request<Bytes>) -> BoxFuture<'a, Called> + Send + Sync + 'a>;
type MakeTransport<'a> = &'a (dyn Fn(&FakeServer) -> SharedTransport + Send + Sync);

/// The greatest body a check has to do with.
const BODY_LIMIT: usize = 16 << 20;

/// How the transport under test reaches a server.
pub(super) enum Reach<'a> {
    Sockets(Call<'a>),
    Memory(MakeTransport<'a>),
}

impl<'a> Reach<'a> {
    pub(super) fn sockets(transport: &'a impl Transport) -> Self {
        Self::Sockets(Arc::new(move |request| transport.call(request).boxed()))
    }

    pub(super) fn memory(make: MakeTransport<'a>) -> Self {
        Self::Memory(make)
    }

    /// A server whose route `x` has these steps.
    pub(super) async fn rig(&self, steps: impl IntoIterator<Item = Step>) -> Result<Rig<'a>, String> {
        let server = FakeServer::with(NoBehaviour);
        server.script("x", steps);
        let (call, url, socket): (Call<'a>, _, _) = match self {
            Self::Sockets(call) => {
                let socket = server.listen().await.map_err(|e| format!("the suite cannot listen: {e}"))?;
                (Arc::clone(call), socket.url(), Some(socket))
            }
            Self::Memory(make) => {
                let transport = make(&server);
                let call: Call<'a> = Arc::new(move |request| {
                    let transport = transport.clone();
                    async move { transport.call(request).await }.boxed()
                });
                (call, server.url(), None)
            }
        };
        Ok(Rig { server, url, call, _socket: socket })
    }

    /// What comes of a call to where nobody listens.
    pub(super) async fn call_nobody(&self) -> Result<Called, String> {
        match self {
            Self::Sockets(call) => {
                let nobody = Nobody::new().map_err(|e| format!("the suite has no address: {e}"))?;
                Ok(call(request(&format!("http://{}", nobody.address()))?).await)
            }
            Self::Memory(_) => {
                let rig = self.rig([Step::refuse()]).await?;
                Ok(rig.call(rig.request()?).await)
            }
        }
    }
}

/// A server and the transport under test in front of it.
pub(super) struct Rig<'a> {
    pub(super) server: FakeServer,
    pub(super) url: String,
    call: Call<'a>,
    _socket: Option<SocketServer>,
}

impl Rig<'_> {
    /// A `POST` of a small body to the route `x`.
    pub(super) fn request(&self) -> Result<http::Request<Bytes>, String> {
        request(&self.url)
    }

    pub(super) async fn call(&self, request: http::Request<Bytes>) -> Called {
        (self.call)(request).await
    }

    /// Calls, and reads the body to its end.
    pub(super) async fn exchange(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, TransportError> {
        let (parts, body) = self.call(request).await?.into_parts();
        Ok(http::Response::from_parts(parts, body.collect(BODY_LIMIT).await?))
    }

    /// The one request that has arrived.
    pub(super) fn only_request(&self) -> Result<Arc<Received>, String> {
        match &self.server.requests("x")[..] {
            [request] => Ok(Arc::clone(request)),
            requests => Err(format!("{} requests arrived", requests.len())),
        }
    }

    /// The verdict, together with what the server has to complain of.
    pub(super) fn end(self, verdict: Outcome) -> Outcome {
        let kept = self.server.verify().map_err(|unmet| unmet.to_string());
        verdict.and(kept)
    }
}

fn request(url: &str) -> Result<http::Request<Bytes>, String> {
    let builder = http::Request::post(format!("{url}/api/v1/x")).header("content-type", "application/json");
    builder.body(Bytes::from_static(b"{}")).map_err(|e| e.to_string())
}

/// A failure in words.
pub(super) fn told(error: TransportError) -> String {
    format!("failed with {:?}: {error}", error.kind())
}

pub(super) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// That a call failed as it should.
pub(super) fn ensure_kind<T>(
    what: &str,
    outcome: Result<http::Response<T>, TransportError>,
    kind: TransportErrorKind,
) -> Outcome {
    match outcome {
        Ok(response) => Err(format!("{what} came back as {}", response.status())),
        Err(e) => ensure(e.kind() == kind, || format!("{what} is {:?}, not {kind:?}", e.kind())),
    }
}

/// Bytes in which a piece that is lost, doubled or moved shows.
pub(super) fn noise(length: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}
