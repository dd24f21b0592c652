//! A `tower` service as a transport.

use std::error::Error as StdError;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body::Body as HttpBody;
use http_body_util::Full;
use tower_service::Service;

use super::BoxError;
use super::body::Pieces;
use crate::{Body, Transport, TransportError, TransportErrorKind};

/// Says what an error of the service, or of its bodies, means for a retry.
pub(super) type Classify = Arc<dyn Fn(BoxError) -> TransportError + Send + Sync>;

/// Sends requests through a `tower` service.
///
/// Each call is made on a clone of the service, once that is ready: a layer that exerts backpressure is waited for,
/// under the deadline of the attempt. Layers whose clones do not share their state (such as `RateLimit`) need a
/// `Buffer` above them.
///
/// ```
/// # use bytes::Bytes;
/// # use http_body_util::Full;
/// # use tinkex_http::{Body, SharedTransport, TowerTransport, Transport, TransportError, TransportService};
/// # struct Canned;
/// # impl Transport for Canned {
/// #     async fn call(&self, _: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
/// #         Ok(http::Response::new(Body::full("ok")))
/// #     }
/// # }
/// use tower::ServiceBuilder;
///
/// let below = TransportService::new(SharedTransport::new(Canned));
/// let service = ServiceBuilder::new().concurrency_limit(64).service(below);
/// let transport = SharedTransport::new(TowerTransport::new(service));
/// # let _ = transport;
/// ```
pub struct TowerTransport<S> {
    /// Only to be cloned: a service need not be `Sync`.
    service: Mutex<S>,
    classify: Classify,
}

impl<S> TowerTransport<S> {
    /// A transport over the service. A [`TransportError`] among the causes of a failure keeps its kind; any other
    /// failure is [`Other`](TransportErrorKind::Other) unless [`TowerTransport::map_errors`] knows better.
    pub fn new(service: S) -> Self {
        Self { service: Mutex::new(service), classify: Arc::new(by_cause) }
    }

    /// Names the failures of the service and of its response bodies.
    ///
    /// Only what surely never left may be [`Connect`](TransportErrorKind::Connect).
    #[must_use]
    pub fn map_errors(
        mut self,
        classify: impl Fn(Box<dyn StdError + Send + Sync>) -> TransportError + Send + Sync + 'static,
    ) -> Self {
        self.classify = Arc::new(classify);
        self
    }
}

/// Keeps a transport error, also one that layers have wrapped.
fn by_cause(error: BoxError) -> TransportError {
    let error = match error.downcast::<TransportError>() {
        Ok(own) => return *own,
        Err(error) => error,
    };
    let own = causes(&*error).find_map(|cause| cause.downcast_ref::<TransportError>());
    // The message has them all, so the error has no source: nothing is to be read twice.
    let told: Vec<_> = causes(&*error).map(ToString::to_string).collect();
    let kind = own.map_or(TransportErrorKind::Other, TransportError::kind);
    let told = TransportError::new(kind, told.join(": "));
    if own.is_some_and(TransportError::is_permanent) { told.permanent() } else { told }
}

/// An error and what caused it.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let current = next?;
        next = current.source();
        Some(current)
    })
}

impl<S, B> Transport for TowerTransport<S>
where
    S: Service<http::Request<Full<Bytes>>, Response = http::Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: HttpBody + Send + 'static,
    B::Error: Into<BoxError>,
{
    async fn call(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        let mut service = self.service.lock().unwrap_or_else(PoisonError::into_inner).clone();
        poll_fn(|cx| service.poll_ready(cx)).await.map_err(|e| (self.classify)(e.into()))?;
        let response = service.call(request.map(Full::new)).await.map_err(|e| (self.classify)(e.into()))?;
        Ok(response.map(|body| Body::stream(Pieces::new(body, Arc::clone(&self.classify)))))
    }
}

impl<S> fmt::Debug for TowerTransport<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TowerTransport")
    }
}
