//! Response bodies: bytes at hand or a stream of pieces.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;

use crate::progress::Progress;
use crate::{TransportError, TransportErrorKind};

/// A response body. Built from bytes or from a stream of pieces; read whole with [`Body::collect`] or piece by
/// piece as a [`Stream`].
pub struct Body(Inner);

enum Inner {
    Full(Option<Bytes>),
    Stream(Pin<Box<dyn Stream<Item = Result<Bytes, TransportError>> + Send>>),
}

impl Body {
    /// A body with no bytes.
    pub fn empty() -> Self {
        Self(Inner::Full(None))
    }

    /// A body that is all there.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self(Inner::Full(Some(bytes.into())))
    }

    /// A body that arrives in pieces.
    pub fn stream(pieces: impl Stream<Item = Result<Bytes, TransportError>> + Send + 'static) -> Self {
        Self(Inner::Stream(Box::pin(pieces)))
    }

    /// Reads to the end, at most `limit` bytes.
    ///
    /// # Errors
    /// The transport's error where the body broke off, or a [`TransportErrorKind::Decode`] one where it is longer
    /// than `limit`.
    pub async fn collect(self, limit: usize) -> Result<Bytes, TransportError> {
        self.collect_noting(limit, &Progress::default()).await
    }

    /// [`collect`](Self::collect), with a note of each piece that comes.
    pub(crate) async fn collect_noting(
        self,
        limit: usize,
        progress: &Progress,
    ) -> Result<Bytes, TransportError> {
        let mut stream = match self.0 {
            Inner::Full(bytes) => return within(bytes.unwrap_or_default(), limit),
            Inner::Stream(stream) => stream,
        };
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(piece) = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
            let piece = piece?;
            progress.piece(piece.len());
            if first.is_empty() && rest.is_empty() {
                first = piece;
            } else {
                if rest.is_empty() {
                    rest.extend_from_slice(&first);
                }
                rest.extend_from_slice(&piece);
            }
            if first.len().max(rest.len()) > limit {
                return Err(too_long(limit));
            }
        }
        within(if rest.is_empty() { first } else { rest.freeze() }, limit)
    }
}

fn within(bytes: Bytes, limit: usize) -> Result<Bytes, TransportError> {
    if bytes.len() > limit { Err(too_long(limit)) } else { Ok(bytes) }
}

fn too_long(limit: usize) -> TransportError {
    TransportError::new(TransportErrorKind::Decode, format!("the response body is longer than {limit} bytes"))
}

impl Stream for Body {
    type Item = Result<Bytes, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.0 {
            Inner::Full(bytes) => Poll::Ready(bytes.take().filter(|b| !b.is_empty()).map(Ok)),
            Inner::Stream(stream) => stream.as_mut().poll_next(cx),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Full(bytes) => write!(f, "Body({} bytes)", bytes.as_ref().map_or(0, Bytes::len)),
            Inner::Stream(_) => f.write_str("Body(stream)"),
        }
    }
}
