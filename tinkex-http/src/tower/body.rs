//! Bodies between this crate and `http-body`.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_core::Stream;
use http_body::{Body as HttpBody, Frame};

use super::transport::Classify;
use crate::{Body, TransportError};

/// A body is read piece by piece; it has no trailers.
impl HttpBody for Body {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        self.poll_next(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// The data of any body, with its errors translated. Trailers are left out.
pub(super) struct Pieces<B> {
    body: Pin<Box<B>>,
    classify: Classify,
}

impl<B> Pieces<B> {
    pub(super) fn new(body: B, classify: Classify) -> Self {
        Self { body: Box::pin(body), classify }
    }
}

impl<B> Stream for Pieces<B>
where
    B: HttpBody,
    B::Error: Into<super::BoxError>,
{
    type Item = Result<Bytes, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(self.body.as_mut().poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err((self.classify)(error.into())))),
                Some(Ok(frame)) => {
                    if let Ok(mut data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data.copy_to_bytes(data.remaining()))));
                    }
                }
            }
        }
    }
}
