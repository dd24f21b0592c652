//! Which servers are trusted, and what is said of those that are not.

use std::time::Duration;

use tinkex_http::{Delivery, HttpErrorKind, ReqwestTransport};
use tinkex_testkit::Tls;
use tokio::net::TcpListener;

use crate::child::{TemporaryFile, is_child, outcome};
use crate::support::{PATIENCE, call, call_once, client, server, transport};

/// A private authority that the transport was told of.
#[tokio::test]
async fn an_authority_of_ones_own_is_trusted() {
    let server = server();
    let socket = server.listen_tls(&Tls::default()).await.unwrap();
    let transport = transport(socket.authority()).build().unwrap();
    call(&client(&socket.url(), &transport)).await.unwrap();
    let by_name = socket.url().replace("127.0.0.1", "localhost");
    call(&client(&by_name, &transport)).await.unwrap();
    assert_eq!(server.count("op"), 2);
}

/// What a retry does not cure fails at once, says what is wrong and what to do: one connection, no request, no wait.
#[tokio::test]
async fn certificates_that_are_not_in_order_fail_at_once() {
    let cases = [
        ("unknown authority", Tls::default(), false, "name the authority's certificate in SSL_CERT_FILE"),
        ("wrong name", Tls::default().named("other.test"), true, "its certificate is for another name"),
        (
            "expired",
            Tls::default().expired(),
            true,
            "its certificate has expired, or the clock here is wrong",
        ),
    ];
    for (name, tls, trusted, said) in cases {
        let server = server();
        let socket = server.listen_tls(&tls).await.unwrap();
        let transport = transport(socket.authority().filter(|_| trusted)).build().unwrap();
        let error = call(&client(&socket.url(), &transport)).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (HttpErrorKind::Connect, 1), "{name}: {error}");
        assert_eq!(error.delivery(), Delivery::NeverSent, "{name}");
        assert!(error.is_permanent(), "{name}");
        let begins = format!("cannot connect to {}: TLS handshake failed: ", socket.address());
        assert!(error.message().starts_with(&begins), "{name}: {error}");
        assert!(error.message().contains(said), "{name}: {error}");
        assert_eq!((server.connections(), server.count("**")), (1, 0), "{name}");
    }
}

/// The bare platform does not know an authority made for the test.
#[tokio::test]
async fn ssl_cert_file_and_dir_are_honoured() {
    if is_child().await {
        return;
    }
    const TEST: &str = "trust::ssl_cert_file_and_dir_are_honoured";
    let server = server();
    let socket = server.listen_tls(&Tls::default()).await.unwrap();
    let file = TemporaryFile::new("authority.pem", socket.authority().unwrap());
    let url = socket.url();
    assert!(outcome(TEST, &url, &[]).await.contains("is not trusted here"));
    assert_eq!(outcome(TEST, &url, &[("SSL_CERT_FILE", file.path())]).await, "ok");
    assert_eq!(outcome(TEST, &url, &[("SSL_CERT_DIR", file.directory())]).await, "ok");
    assert_eq!(server.count("op"), 2);
}

/// Naming a file is a choice somebody made: one that cannot be used is said at the start, by its name.
#[tokio::test]
async fn a_useless_ssl_cert_file_is_told() {
    if is_child().await {
        return;
    }
    const TEST: &str = "trust::a_useless_ssl_cert_file_is_told";
    let empty = TemporaryFile::new("empty.pem", "nothing here\n");
    for path in [empty.path(), "/nonexistent/authority.pem"] {
        let said = outcome(TEST, "https://127.0.0.1:1", &[("SSL_CERT_FILE", path)]).await;
        assert!(said.starts_with("not built: ") && said.contains("SSL_CERT_FILE"), "{said}");
    }
}

#[test]
fn an_authority_must_be_a_certificate() {
    for pem in ["", "nonsense", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"] {
        let error = ReqwestTransport::builder().authority(pem).build().unwrap_err();
        assert!(error.to_string().contains("PEM"), "{error}");
    }
}

/// The time to connect covers the handshake: a server that says nothing holds nobody up for long.
#[tokio::test]
async fn a_silent_handshake_is_bounded() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let transport = transport(None).connect_timeout(Duration::from_millis(200)).build().unwrap();
    let error =
        tokio::time::timeout(PATIENCE, call_once(&client(&url, &transport))).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.is_permanent()), (HttpErrorKind::Connect, false), "{error}");
    assert!(error.message().ends_with(": no connection within 0.2 s"), "{error}");
    assert!(
        error.elapsed() >= Duration::from_millis(200) && error.elapsed() < Duration::from_secs(5),
        "{error}"
    );
}

/// Something that answers a handshake in plain text is no certificate problem: it may be a server that starts up.
#[tokio::test]
async fn a_server_without_tls_is_told() {
    let server = server();
    let socket = server.listen().await.unwrap();
    let url = socket.url().replace("http:", "https:");
    let error = call_once(&client(&url, &transport(None).build().unwrap())).await.unwrap_err();
    assert_eq!((error.kind(), error.is_permanent()), (HttpErrorKind::Connect, false), "{error}");
    assert!(error.message().contains(": TLS handshake failed: "), "{error}");
}
