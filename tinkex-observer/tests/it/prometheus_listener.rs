//! The metrics over HTTP (feature `prometheus-listener`), on real sockets in real time.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tinkex_observer::prometheus::{ListenError, install_with_listener, listening_recorder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Nothing here takes longer than this.
const PATIENCE: Duration = Duration::from_secs(20);

async fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    timeout(PATIENCE, exchange).await.expect("an answer in time")
}

/// Port 0 becomes a real one, which is told; what is measured is served there with its meaning and the contract's
/// buckets, and is the text of the handle.
#[tokio::test]
async fn what_is_measured_is_served_at_the_address_that_is_told() {
    let (recorder, listening) = listening_recorder(ANY_PORT).unwrap();
    assert_ne!(listening.address().port(), 0);
    assert_eq!(listening.url(), format!("http://{}/metrics", listening.address()));
    metrics::with_local_recorder(&recorder, || {
        tinkex_metrics::contract::HEARTBEATS.increment(["ok"]);
        tinkex_metrics::contract::BACKOFF_WAIT.record(["shared"], Duration::from_secs(2000));
    });
    let answer = get(listening.address(), "/metrics").await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-type: text/plain"), "{head}");
    for line in [
        "tinkex_heartbeats_total{outcome=\"ok\"} 1",
        "tinkex_backoff_wait_seconds_bucket{gate=\"shared\",le=\"1800\"} 0",
        "tinkex_backoff_wait_seconds_bucket{gate=\"shared\",le=\"3600\"} 1",
    ] {
        assert!(body.lines().any(|l| l == line), "{line:?} in\n{body}");
    }
    let help = tinkex_metrics::contract::HEARTBEATS.description().help;
    assert!(body.contains(&format!("# HELP tinkex_heartbeats_total {help}")), "{body}");
    assert_eq!(listening.handle().render(), body);
}

/// The listener answers while the runtime that started it is blocked.
#[test]
fn a_busy_runtime_does_not_keep_scrapes_waiting() {
    let (_recorder, listening) = {
        let busy = tokio::runtime::Builder::new_current_thread().build().unwrap();
        // The runtime is never run again after this.
        let served = busy.block_on(async { listening_recorder(ANY_PORT).unwrap() });
        std::mem::forget(busy);
        served
    };
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = other.block_on(get(listening.address(), "/health")).unwrap();
    assert!(answer.ends_with("\r\n\r\nOK"), "{answer}");
}

/// Without a runtime it works too; the address is free again once it is closed, and a scrape that is held open does not
/// keep it.
#[test]
fn closing_frees_the_address() {
    let (_recorder, listening) = listening_recorder(ANY_PORT).unwrap();
    let address = listening.address();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut held = TcpStream::connect(address).await.unwrap();
        held.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut byte = [0];
        held.read_exact(&mut byte).await.unwrap();
        timeout(PATIENCE, listening.close()).await.unwrap();
        let refused = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let mut rest = Vec::new();
        // Its end may be an error (a reset); what counts is that it ends.
        let _ = timeout(PATIENCE, held.read_to_end(&mut rest)).await.expect("the held connection is closed");
    });
}

/// Dropping does not wait, but ends it too.
#[tokio::test]
async fn dropping_ends_it() {
    let (_recorder, listening) = listening_recorder(ANY_PORT).unwrap();
    let address = listening.address();
    drop(listening);
    let gone = async {
        while get(address, "/health").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("it ends");
}

/// The error says which address is taken, and keeps what the system says.
#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = taken.local_addr().unwrap();
    for error in [listening_recorder(address).map(drop), install_with_listener(address).map(drop)] {
        let error = error.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the metrics cannot be served at {address}: the address is in use")
        );
        let ListenError::Bind { address: named, source } = error else { panic!("{error:?}") };
        assert_eq!((named, source.kind()), (address, ErrorKind::AddrInUse));
    }
}
