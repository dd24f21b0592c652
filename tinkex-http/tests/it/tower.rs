//! `tower` services as transports, and transports as `tower` services.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tinkex_http::{
    Body, SharedTransport, TowerTransport, Transport, TransportError, TransportErrorKind, TransportService,
};
use tinkex_testkit::{FakeServer, Gate, Step, conformance};
use tokio::time::Instant;
use tower::{Service, ServiceBuilder};

/// hyper-util's client, which is a service as it is.
fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .retry_canceled_requests(false)
        .build_http()
}

fn kinds_of_hyper(error: Box<dyn std::error::Error + Send + Sync>) -> TransportError {
    let kind = match error.downcast_ref::<ClientError>() {
        Some(error) if error.is_connect() => TransportErrorKind::Connect,
        _ => {
            let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&*error);
            let mut not_http = false;
            while let Some(current) = cause {
                not_http |= current.downcast_ref().is_some_and(hyper::Error::is_parse);
                cause = current.source();
            }
            if not_http { TransportErrorKind::Decode } else { TransportErrorKind::Interrupted }
        }
    };
    TransportError::new(kind, error.to_string())
}

/// The contract of transports, for a service from elsewhere and for layers over a transport.
#[tokio::test]
async fn a_service_conforms_to_the_contract_of_transports() {
    let transport = TowerTransport::new(client()).map_errors(kinds_of_hyper);
    conformance::transport(&transport).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn layers_over_a_transport_conform_to_the_contract() {
    conformance::transport_in_memory(|server| {
        let below = TransportService::new(server.transport());
        let service = ServiceBuilder::new().concurrency_limit(1_000).service(below);
        SharedTransport::new(TowerTransport::new(service))
    })
    .await
    .unwrap();
}

fn request(server: &FakeServer) -> http::Request<Bytes> {
    http::Request::post(format!("{}/api/v1/x", server.url())).body(Bytes::from_static(b"{}")).unwrap()
}

/// A layer that limits is honoured: more calls wait until the service below it is ready.
#[tokio::test(start_paused = true)]
async fn backpressure_is_waited_for() {
    let server = FakeServer::with(tinkex_testkit::NoBehaviour);
    server.script("x", [Step::status(200).delay(Duration::from_secs(1)).repeat(10)]);
    let limited =
        ServiceBuilder::new().concurrency_limit(2).service(TransportService::new(server.transport()));
    let transport = TowerTransport::new(limited);
    let start = Instant::now();
    let calls = futures_util::future::join_all((0..10).map(|_| transport.call(request(&server)))).await;
    assert!(calls.into_iter().all(|call| call.unwrap().status() == 200));
    assert_eq!((server.max_in_flight("x"), start.elapsed()), (2, Duration::from_secs(5)));
}

/// A call that is dropped while it waits for its turn takes none.
#[tokio::test(start_paused = true)]
async fn a_call_dropped_while_it_waits_leaves_its_place() {
    let gate = Gate::new();
    let server = FakeServer::with(tinkex_testkit::NoBehaviour);
    server.script("x", [Step::status(200).gate(&gate), Step::status(200)]);
    let limited =
        ServiceBuilder::new().concurrency_limit(1).service(TransportService::new(server.transport()));
    let transport = TowerTransport::new(limited);
    let first = transport.call(request(&server));
    let second = async {
        gate.arrived(1).await;
        let waiting = transport.call(request(&server));
        tokio::time::timeout(Duration::from_secs(1), waiting).await.unwrap_err();
        gate.open();
    };
    let (first, ()) = tokio::join!(first, second);
    first.unwrap();
    transport.call(request(&server)).await.unwrap();
    assert_eq!(server.count("x"), 2);
    server.verify().unwrap();
}

/// Ready only at the third time it is asked; it counts how often it was called unready.
#[derive(Clone, Default)]
struct Slow {
    asked: usize,
    unready: Arc<AtomicUsize>,
}

impl Service<http::Request<Full<Bytes>>> for Slow {
    type Response = http::Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.asked += 1;
        if self.asked < 3 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Full<Bytes>>) -> Self::Future {
        if self.asked < 3 {
            self.unready.fetch_add(1, Ordering::Relaxed);
        }
        ready(Ok(http::Response::new(Full::new(Bytes::from_static(b"whole")))))
    }
}

/// Every call is made on a clone of its own, and only once that is ready.
#[tokio::test(start_paused = true)]
async fn a_service_is_called_only_when_it_is_ready() {
    let service = Slow::default();
    let unready = Arc::clone(&service.unready);
    let transport = TowerTransport::new(service);
    for _ in 0..3 {
        let request = http::Request::post("http://fake.test/x").body(Bytes::new()).unwrap();
        let body = transport.call(request).await.unwrap().into_body().collect(100).await.unwrap();
        assert_eq!(body, "whole");
    }
    assert_eq!(unready.load(Ordering::Relaxed), 0);
}

/// Fails to get ready, with a transport's error inside its own.
#[derive(Clone, Debug)]
struct Wrapped(bool);

#[derive(Debug, thiserror::Error)]
#[error("the layer failed")]
struct LayerError(#[source] Option<TransportError>);

impl Service<http::Request<Full<Bytes>>> for Wrapped {
    type Response = http::Response<Body>;
    type Error = LayerError;
    type Future = Ready<Result<Self::Response, LayerError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LayerError>> {
        let cause = self.0.then(|| TransportError::new(TransportErrorKind::Connect, "refused"));
        Poll::Ready(Err(LayerError(cause)))
    }

    fn call(&mut self, _: http::Request<Full<Bytes>>) -> Self::Future {
        unreachable!("it is never ready")
    }
}

/// A transport's error keeps its kind through layers; another error is `Other`, unless it is mapped.
#[tokio::test(start_paused = true)]
async fn errors_keep_their_kinds_through_layers() {
    let request = || http::Request::post("http://fake.test/x").body(Bytes::new()).unwrap();
    for (own, kind, says) in [
        (true, TransportErrorKind::Connect, "the layer failed: refused"),
        (false, TransportErrorKind::Other, "the layer failed"),
    ] {
        let error = TowerTransport::new(Wrapped(own)).call(request()).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, says));
    }
    let mapped = TowerTransport::new(Wrapped(false))
        .map_errors(|_| TransportError::new(TransportErrorKind::Timeout, "mapped"));
    assert_eq!(mapped.call(request()).await.unwrap_err().kind(), TransportErrorKind::Timeout);

    let server = FakeServer::with(tinkex_testkit::NoBehaviour);
    server.script("x", [Step::refuse(), Step::raw("0123456789", "text/plain").then_close_mid_body(4)]);
    let transport = TowerTransport::new(TransportService::new(server.transport()));
    let error = transport.call(self::request(&server)).await.unwrap_err();
    assert_eq!(error.kind(), TransportErrorKind::Connect);
    let body = transport.call(self::request(&server)).await.unwrap().into_body();
    assert_eq!(body.collect(100).await.unwrap_err().kind(), TransportErrorKind::Interrupted);
}
