//! One connection of the socket face: hyper for what is right, bytes by hand for what is wrong.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::Reply;

/// A socket that hyper owns while we keep a second handle on it, so that a fault can write its own bytes, or reset
/// the connection, past hyper.
#[derive(Clone)]
pub(crate) struct Wire(Arc<TcpStream>);

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(Arc::new(stream))
    }

    /// Makes the connection end with a reset instead of a close when its last handle is dropped.
    pub(crate) fn reset_at_end(&self) -> io::Result<()> {
        SockRef::from(&*self.0).set_linger(Some(Duration::ZERO))
    }

    /// Writes bytes past hyper. Only right while hyper has nothing to write: between a request and its response.
    pub(crate) async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.0.writable().await?;
            match self.0.try_write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
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
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.0).shutdown(Shutdown::Write))
    }
}

/// The end of a connection that hyper is to drop as it is.
#[derive(Debug, thiserror::Error)]
#[error("the script ends the connection here")]
pub(crate) struct EndOfConnection;

impl From<io::Error> for EndOfConnection {
    /// The client has gone away in the middle of a fault: the connection is over either way.
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// As much of a body as there is, up to a length.
pub(crate) fn first(body: &Bytes, length: usize) -> Bytes {
    body.slice(..length.min(body.len()))
}
