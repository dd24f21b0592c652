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
        failure.message = without_the_systems_words(failure.message.clone());
    }
    Played { fault: fault.to_owned(), once: Some(observed.within(bounds, fault)), lasting: None }
}

fn attempts(message: &str) -> usize {
    let counted = message.split_once("(after ").and_then(|(_, rest)| rest.split_once(" attempt"));
    counted.and_then(|(number, _)| number.parse().ok()).unwrap()
}

/// What a resolver says differs from machine to machine.
fn without_the_systems_words(message: String) -> String {
    const NAME: &str = "cannot resolve the name: ";
    let Some((before, said)) = message.split_once(NAME) else { return message };
    let (_, counts) = said.rsplit_once(" (after ").unwrap();
    format!("{before}{NAME}<what the system says> (after {counts}")
}

async fn refused() -> Played {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let url = format!("http://127.0.0.1:{port}");
    build("refused", &url, direct(), &[(&port.to_string(), "8000")], 49.0..=65.5).await
}

/// Names under `.invalid` never exist (RFC 6761).
async fn no_such_name() -> Played {
    build("no such name (DNS)", "http://tinkex.invalid", direct(), &[], 49.0..=65.5).await
}

/// The ready-made transport, whatever proxies the machine of the test goes through.
fn direct() -> ReqwestTransport {
    ReqwestTransport::builder().no_proxy().build().unwrap()
}

/// Fails as the ready-made transport does where TLS fails: as `trust::a_server_without_tls_is_told` and
/// `trust::certificates_that_are_not_in_order_fail_at_once` of `tinkex-http` (`tests/tls`) see it.
struct TlsFails {
    because: &'static str,
    permanent: bool,
}

impl Transport for TlsFails {
    async fn call(&self, _: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        let message = format!("cannot connect to tinkex.test:443: TLS handshake failed: {}", self.because);
        let error = TransportError::new(TransportErrorKind::Connect, message);
        Err(if self.permanent { error.permanent() } else { error })
    }
}

async fn no_handshake() -> Played {
    let fails = TlsFails { because: "received corrupt message of type InvalidContentType", permanent: false };
    build("TLS handshake fails", "https://tinkex.test", fails, &[], 49.0..=65.5).await
}

async fn untrusted() -> Played {
    let because = "its certificate comes from an authority that is not trusted here; if that is a private authority or a \
                   proxy that looks into TLS, name the authority's certificate in SSL_CERT_FILE";
    let fails = TlsFails { because, permanent: true };
    build("certificate not trusted", "https://tinkex.test", fails, &[], 0.0..=0.0).await
}

rows! {
    "No connection", "`build()` over the ready-made transport, on real sockets. Other calls see the same words, within the \
     time of \"refused\" in their tables. Failures of TLS are played by a transport that gives the very errors which \
     `trust::a_server_without_tls_is_told` and `trust::certificates_that_are_not_in_order_fail_at_once` (`tinkex-http`, \
     `tests/tls`) see on real ones, since these tests are compiled without TLS.";

    connection_refused: refused();
    dns_failure: no_such_name();
    tls_failure: no_handshake();
    tls_certificate_not_trusted: untrusted();
}
