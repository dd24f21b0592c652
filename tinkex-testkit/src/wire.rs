//! One connection of the socket face: hyper for what is right, bytes by hand for what is wrong.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::Reply;

/// A connection that hyper owns while we keep a second handle on it, so that a fault can write its own bytes, or
/// reset the connection, past hyper.
#[derive(Clone)]
pub(crate) struct Wire(Arc<Mutex<Stream>>);

/// What the bytes travel in.
pub(crate) enum Stream {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    fn io(&mut self) -> Pin<&mut (dyn ReadWrite + Unpin)> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp),
            #[cfg(feature = "tls")]
            Self::Tls(tls) => Pin::new(&mut **tls),
        }
    }
}

trait ReadWrite: AsyncRead + AsyncWrite {}

impl<T: AsyncRead + AsyncWrite> ReadWrite for T {}

impl Wire {
    pub(crate) fn new(stream: Stream) -> Self {
        Self(Arc::new(Mutex::new(stream)))
    }

    /// Held for one poll at a time.
    fn lock(&self) -> MutexGuard<'_, Stream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the connection end with a reset instead of a close when its last handle is dropped.
    pub(crate) fn reset_at_end(&self) -> io::Result<()> {
        SockRef::from(self.lock().tcp()).set_linger(Some(Duration::ZERO))
    }

    /// Writes bytes past hyper. Only right while hyper has nothing to write: over HTTP/1.1, between a request and its
    /// response.
    pub(crate) async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = poll_fn(|cx| self.lock().io().poll_write(cx, bytes)).await?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        poll_fn(|cx| self.lock().io().poll_flush(cx)).await
    }

    /// Writes the head of a response, and as much of its body as `body` holds.
    pub(crate) async fn write_response(&self, reply: &Reply, body: &[u8]) -> io::Result<()> {
        let mut bytes = head(reply);
        bytes.put_slice(body);
        self.write(&bytes.freeze()).await
    }
}

fn head(reply: &Reply) -> BytesMut {
    let mut bytes = BytesMut::new();
    let reason = reply.status.canonical_reason().unwrap_or("Scripted");
    bytes.put_slice(format!("HTTP/1.1 {} {reason}\r\n", reply.status.as_u16()).as_bytes());
    for (name, value) in &reply.headers {
        bytes.put_slice(name.as_str().as_bytes());
        bytes.put_slice(b": ");
        bytes.put_slice(value.as_bytes());
        bytes.put_slice(b"\r\n");
    }
    bytes.put_slice(b"\r\n");
    bytes
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.lock().io().poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.lock().io().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().io().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().io().poll_shutdown(cx)
    }
}

/// The end of an exchange, and over HTTP/1.1 of its connection, that hyper is to drop as it is.
#[derive(Debug, thiserror::Error)]
#[error("the script ends the exchange here")]
pub(crate) struct EndOfExchange;

impl From<io::Error> for EndOfExchange {
    /// The client has gone away in the middle of a fault: the exchange is over either way.
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// As much of a body as there is, up to a length.
pub(crate) fn first(body: &Bytes, length: usize) -> Bytes {
    body.slice(..length.min(body.len()))
}
