//! Proxies, named by hand and by the environment.

use tinkex_http::{HttpErrorKind, ReqwestTransport};
use tinkex_testkit::Tls;

use crate::child::{TemporaryFile, is_child, outcome};
use crate::proxy::Proxy;
use crate::support::{call, client, server, transport};

/// `me:p@ss`, as basic authentication has it.
const BASIC: &str = "Basic bWU6cEBzcw==";

/// TLS goes through a tunnel, end to end, with the proxy's password; the proxy's name is never looked up as the host.
#[tokio::test]
async fn tls_goes_through_a_tunnel() {
    let server = server();
    let socket = server.listen_tls(&Tls::default()).await.unwrap();
    let proxy = Proxy::start(socket.address(), Some(BASIC)).await;
    let transport =
        transport(socket.authority()).proxy(format!("http://me:p%40ss@{}", proxy.address())).build().unwrap();
    let client = client(&socket.url(), &transport);
    for _ in 0..3 {
        call(&client).await.unwrap();
    }
    let line = format!("CONNECT {} HTTP/1.1", socket.address());
    assert!(
        !proxy.asked().is_empty() && proxy.asked().iter().all(|asked| *asked == line),
        "{:?}",
        proxy.asked()
    );
    for request in server.requests("op") {
        assert_eq!(request.header("proxy-authorization"), None, "the password is the proxy's alone");
    }
    assert!(!format!("{transport:?}").contains("ss@"));
}

/// Without TLS the proxy gets the request itself.
#[tokio::test]
async fn plain_requests_are_passed_on() {
    let server = server();
    let socket = server.listen().await.unwrap();
    let proxy = Proxy::start(socket.address(), None).await;
    let transport = transport(None).proxy(format!("http://{}", proxy.address())).build().unwrap();
    call(&client("http://tinker.test", &transport)).await.unwrap();
    assert_eq!(proxy.asked(), ["POST http://tinker.test/api/v1/op HTTP/1.1"]);
    assert_eq!(server.count("op"), 1);
}

/// A wrong password is not cured by trying again.
#[tokio::test]
async fn a_wrong_password_fails_at_once() {
    let server = server();
    let socket = server.listen_tls(&Tls::default()).await.unwrap();
    let proxy = Proxy::start(socket.address(), Some(BASIC)).await;
    for user in ["", "me:guess@"] {
        let transport =
            transport(socket.authority()).proxy(format!("http://{user}{}", proxy.address())).build().unwrap();
        let error = call(&client(&socket.url(), &transport)).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (HttpErrorKind::Connect, 1), "{error}");
        assert!(error.message().contains("the proxy wants a user name and password"), "{error}");
        assert!(!format!("{error} {error:?}").contains("guess"), "{error:?}");
    }
    assert_eq!((server.connections(), proxy.asked().len()), (0, 2));
}

#[tokio::test]
async fn some_hosts_are_reached_directly() {
    let server = server();
    let socket = server.listen_tls(&Tls::default()).await.unwrap();
    let proxy = Proxy::start(socket.address(), None).await;
    let through = |hosts: &str| {
        let proxied = transport(socket.authority()).proxy(format!("http://{}", proxy.address()));
        client(&socket.url(), &proxied.direct_to(hosts).build().unwrap())
    };
    call(&through("other.test, 127.0.0.0/8")).await.unwrap();
    assert_eq!(proxy.asked().len(), 0);
    call(&through("other.test, 10.0.0.0/8")).await.unwrap();
    assert_eq!(proxy.asked().len(), 1);
}

#[test]
fn a_proxy_must_be_a_url_and_its_password_stays_out_of_the_error() {
    let error = ReqwestTransport::builder().proxy("http://me:hidden@[nonsense").build().unwrap_err();
    assert!(
        error.to_string().contains("proxy") && !format!("{error} {error:?}").contains("hidden"),
        "{error}"
    );
}

/// The environment names proxies unless the program does, for each scheme, and hosts that need none.
#[tokio::test]
async fn the_environment_names_proxies() {
    if is_child().await {
        return;
    }
    const TEST: &str = "proxies::the_environment_names_proxies";
    let server = server();
    let socket = server.listen_tls(&Tls::default()).await.unwrap();
    let plain = server.listen().await.unwrap();
    let file = TemporaryFile::new("authority.pem", socket.authority().unwrap());
    let proxy = Proxy::start(socket.address(), Some(BASIC)).await;
    let there = format!("http://me:p%40ss@{}", proxy.address());
    let roots = ("SSL_CERT_FILE", file.path());
    let by_name = socket.url().replace("127.0.0.1", "localhost");
    for (name, url, variables, proxied) in [
        ("none", socket.url(), vec![], false),
        ("https", socket.url(), vec![("HTTPS_PROXY", there.as_str())], true),
        ("in small letters", socket.url(), vec![("https_proxy", &there)], true),
        ("all", socket.url(), vec![("ALL_PROXY", &there)], true),
        ("the other scheme", socket.url(), vec![("HTTP_PROXY", &there)], false),
        ("the other scheme", plain.url(), vec![("HTTPS_PROXY", &there)], false),
        ("but this address", socket.url(), vec![("HTTPS_PROXY", &there), ("NO_PROXY", "127.0.0.1")], false),
        ("but this name", by_name.clone(), vec![("HTTPS_PROXY", &there), ("no_proxy", "localhost")], false),
        ("but another", by_name, vec![("HTTPS_PROXY", &there), ("NO_PROXY", ".example.com")], true),
        ("but all", socket.url(), vec![("HTTPS_PROXY", &there), ("NO_PROXY", "*")], false),
    ] {
        let before = proxy.asked().len();
        let variables: Vec<_> = variables.into_iter().chain([roots]).collect();
        assert_eq!(outcome(TEST, &url, &variables).await, "ok", "{name}");
        assert_eq!(proxy.asked().len() > before, proxied, "{name}: {:?}", proxy.asked());
    }
}
