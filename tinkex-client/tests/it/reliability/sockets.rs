//! No connection, over the ready-made transport on real sockets, with the waits in virtual time.

use std::ops::RangeInclusive;

use bytes::Bytes;
use tinkex_client::{ReqwestTransport, ServiceClient, Transport};
use tinkex_http::{Body, TransportError, TransportErrorKind};

use super::seen::Ending;
use super::stage::observe;
use super::table::{Played, rows};

/// Keeps virtual time from going on while a call is on a real socket: a blocking task runs meanwhile, and tokio does not
/// advance its clock while one does.
struct Held<T>(T);

impl<T: Transport> Transport for Held<T> {
    async fn call(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        let (done, parked) = std::sync::mpsc::channel::<()>();
        let blocking = tokio::task::spawn_blocking(move || {
            // An error says that the call is over.
            let _ = parked.recv();
        });
        let response = self.0.call(request).await;
        drop(done);
        let _ = blocking.await;
        response
    }
}

/// Plays `build()` over a transport. What the operating system says differs from system to system and is left out.
async fn build(
    fault: &str,
    url: &str,
    transport: impl Transport,
    hide: &[(&str, &str)],
    bounds: RangeInclusive<f64>,
) -> Played {
    fastrand::seed(7);
    let builder =
        ServiceClient::builder().api_key("tml-test").base_url(url).transport(Held(transport)).seed(7);
    let mut observed = observe(|| 0, async { builder.build().await.map(drop) }).await;
    if let Ending::Failure(failure) = &mut observed.ending {
        observed.attempts = attempts(&failure.message);
        hide.iter().for_each(|(text, shown)| failure.message = failure.message.replace(text, shown));
        failure.message = without_the_systems_words(&failure.message);
    }
    Played { fault: fault.to_owned(), once: Some(observed.within(bounds, fault)), lasting: None }
}

fn attempts(message: &str) -> usize {
    let counted = message.split_once("(after ").and_then(|(_, rest)| rest.split_once(" attempts"));
    counted.and_then(|(number, _)| number.parse().ok()).unwrap()
}

/// `client/config: cannot connect to host:80: <what the system says> (after ..`.
fn without_the_systems_words(message: &str) -> String {
    let (before, said) = message.split_once(": cannot connect to ").unwrap();
    let (address, rest) = said.split_once(": ").unwrap();
    let (_, counts) = rest.rsplit_once(" (after ").unwrap();
    format!("{before}: cannot connect to {address}: <what the system says> (after {counts}")
}

async fn refused() -> Played {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let url = format!("http://127.0.0.1:{port}");
    let transport = ReqwestTransport::new().unwrap();
    build("refused", &url, transport, &[(&port.to_string(), "8000")], 49.0..=65.5).await
}

/// Names under `.invalid` never exist (RFC 6761).
async fn no_such_name() -> Played {
    let transport = ReqwestTransport::new().unwrap();
    build("no such name (DNS)", "http://tinkex.invalid", transport, &[], 49.0..=65.5).await
}

/// Fails as the ready-made transport does where the other side does not speak TLS.
struct NoTls;

impl Transport for NoTls {
    async fn call(&self, _: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        Err(TransportError::new(TransportErrorKind::Connect, "cannot connect to tinkex.test:443: not TLS"))
    }
}

async fn tls() -> Played {
    build("TLS failure", "https://tinkex.test", NoTls, &[], 49.0..=65.5).await
}

rows! {
    "No connection", "`build()` over the ready-made transport, on real sockets. Other calls see the same words, within the \
     time of \"refused\" in their tables. The failed handshake is played by a transport that gives the very error which \
     the tests of `tinkex-http` see on a real one, since these tests are compiled without TLS.";

    connection_refused: refused();
    dns_failure: no_such_name();
    tls_failure: tls();
}
