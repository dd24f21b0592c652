//! A transport as a `tower` service.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::Body as HttpBody;
use http_body_util::BodyExt as _;
use tower_service::Service;

use super::BoxError;
use crate::{Body, SharedTransport, Transport as _, TransportError, TransportErrorKind};

/// A transport to put layers on. Always ready; dropping its future gives the call up.
///
/// It takes request bodies of any type and reads them whole first.
#[derive(Clone, Debug)]
pub struct TransportService(SharedTransport);

impl TransportService {
    /// A service over the transport.
    pub fn new(transport: SharedTransport) -> Self {
        Self(transport)
    }
}

impl<B> Service<http::Request<B>> for TransportService
where
    B: HttpBody + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = http::Response<Body>;
    type Error = TransportError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, TransportError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let transport = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(|error| {
                TransportError::new(TransportErrorKind::Connect, "the request's body could not be read")
                    .with_source(error)
            })?;
            transport.call(http::Request::from_parts(parts, body.to_bytes())).await
        })
    }
}
