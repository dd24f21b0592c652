//! The swappable seam: one HTTP exchange, nothing more.
//!
//! A [`Transport`] sends one request and returns one response. Everything above it (retries, timeouts, credentials,
//! decompression, classification) is the pipeline's; everything below it (sockets, TLS, proxies, HTTP versions) is
//! the transport's.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Body, CallClass, TransportError};

/// Sends one HTTP request. Implementers write an ordinary `async fn`.
///
/// The contract:
/// * Any status is a success at this level; errors mean that no (complete) response was had, and their
///   [`kind`](crate::TransportErrorKind) says what that means for a retry.
/// * It must not retry, must not follow redirects to another origin, and must not add credentials.
/// * It must be cancel-safe: dropping the future gives the connection up and leaks nothing.
/// * It need not time out: the pipeline puts one deadline over connecting, headers and body.
/// * It must not decompress bodies unless it also removes `Content-Encoding`.
pub trait Transport: Send + Sync + 'static {
    /// Performs the exchange. The call class, where the transport wants to keep classes on connections of their
    /// own, is in the request's extensions as a [`CallClass`].
    fn call(
        &self,
        request: http::Request<Bytes>,
    ) -> impl Future<Output = Result<http::Response<Body>, TransportError>> + Send;

    /// Something in front of the service turned a connection of this class down (PROTOCOL 7.3): further calls of the
    /// class should go over fresh connections; calls in flight finish on theirs. The default does nothing, which is
    /// right where connections are not kept.
    fn renew(&self, class: CallClass) {
        let _ = class;
    }
}

type CallFuture<'a> = Pin<Box<dyn Future<Output = Result<http::Response<Body>, TransportError>> + Send + 'a>>;

trait ErasedTransport: Send + Sync {
    fn call_boxed(&self, request: http::Request<Bytes>) -> CallFuture<'_>;

    fn renew_erased(&self, class: CallClass);
}

impl<T: Transport> ErasedTransport for T {
    fn call_boxed(&self, request: http::Request<Bytes>) -> CallFuture<'_> {
        Box::pin(self.call(request))
    }

    fn renew_erased(&self, class: CallClass) {
        self.renew(class);
    }
}

/// A [`Transport`] behind a pointer: cheap to clone, one type for the layers above.
#[derive(Clone)]
pub struct SharedTransport(Arc<dyn ErasedTransport>);

impl SharedTransport {
    /// Erases a transport.
    pub fn new(transport: impl Transport) -> Self {
        Self(Arc::new(transport))
    }
}

impl Transport for SharedTransport {
    async fn call(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        self.0.call_boxed(request).await
    }

    fn renew(&self, class: CallClass) {
        self.0.renew_erased(class);
    }
}

impl fmt::Debug for SharedTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedTransport")
    }
}
