//! The conformance suite for transports: anybody's own [`Transport`] is put through the contract on a real socket.

use std::fmt;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tinkex_http::{Body, Transport, TransportError, TransportErrorKind};
use tokio::net::TcpListener;

use crate::{FakeServer, Gate, NoBehaviour, Received, SocketServer, Step};

/// How long one check may take. Real time; a transport that hangs fails instead of holding the suite up.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many calls go on at one time in the check of concurrency.
const MANY: usize = 32;

/// The greatest body a check has to do with.
const BODY_LIMIT: usize = 1 << 20;

/// Checks a transport against the contract of [`Transport`]: whatever the server does, the outcome is the one that
/// the contract names, nothing is sent that was not asked for, and giving a call up leaves nothing behind.
///
/// It listens on 127.0.0.1 and takes real time, so call it in a runtime whose time is not paused. It takes well under
/// a second where all is well.
///
/// ```no_run
/// # async fn check(my_transport: impl tinkex_http::Transport) -> Result<(), tinkex_testkit::Nonconformity> {
/// tinkex_testkit::transport_conformance(&my_transport).await
/// # }
/// ```
///
/// # Errors
/// All the checks that failed, each with what was wrong.
pub async fn transport_conformance(transport: &impl Transport) -> Result<(), Nonconformity> {
    let mut failures = Vec::new();
    let mut note = |name: &'static str, result: Result<(), String>| {
        if let Err(text) = result {
            failures.push(format!("{name}: {text}"));
        }
    };
    note("a request arrives as it was made", bounded(arrives_as_made(transport)).await);
    note("a response is given back as it was sent", bounded(given_back_as_sent(transport)).await);
    note("any status is a success", bounded(any_status(transport)).await);
    note("nothing is tried again", bounded(no_retry(transport)).await);
    note("redirects to another origin are not followed", bounded(no_redirect(transport)).await);
    note(
        "bodies are not decompressed behind the headers' back",
        bounded(no_hidden_decompression(transport)).await,
    );
    note("a body that comes in pieces is read whole", bounded(pieces(transport)).await);
    note("each failure has its kind", bounded(failures_have_kinds(transport)).await);
    note("nobody listening is a connect error", bounded(nobody_listens(transport)).await);
    note("the head comes before the body", bounded(head_before_body(transport)).await);
    note("a call that is dropped is given up", bounded(dropped_call(transport)).await);
    note("many calls go on at one time", bounded(many_at_once(transport)).await);
    if failures.is_empty() { Ok(()) } else { Err(Nonconformity { failures }) }
}

/// What [`transport_conformance`] found.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("the transport does not keep the contract:\n  {}", self.failures.join("\n  "))]
#[non_exhaustive]
pub struct Nonconformity {
    /// One text for each check that failed, in the order of the checks.
    pub failures: Vec<String>,
}

impl fmt::Debug for Nonconformity {
    /// As `Display`: it is what an `unwrap` in a test shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

type Outcome = Result<(), String>;

async fn bounded(check: impl Future<Output = Outcome>) -> Outcome {
    match tokio::time::timeout(PATIENCE, Box::pin(check)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("not done after {} s", PATIENCE.as_secs())),
    }
}

/// A server on a socket, on which everything is scripted.
struct Rig {
    server: FakeServer,
    socket: SocketServer,
}

impl Rig {
    async fn new(steps: impl IntoIterator<Item = Step>) -> Result<Self, String> {
        let server = FakeServer::with(NoBehaviour);
        server.script("x", steps);
        let socket = server.listen().await.map_err(|e| format!("the suite cannot listen: {e}"))?;
        Ok(Self { server, socket })
    }

    fn request(&self) -> Result<http::Request<Bytes>, String> {
        request(&self.socket.url())
    }

    /// The verdict, together with what the server has to complain of.
    fn end(self, verdict: Outcome) -> Outcome {
        let kept = self.server.verify().map_err(|unmet| unmet.to_string());
        verdict.and(kept)
    }
}

fn request(url: &str) -> Result<http::Request<Bytes>, String> {
    let builder = http::Request::post(format!("{url}/api/v1/x")).header("content-type", "application/json");
    builder.body(Bytes::from_static(b"{}")).map_err(|e| e.to_string())
}

fn told(error: TransportError) -> String {
    format!("failed with {:?}: {error}", error.kind())
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Calls, and reads the body to its end.
async fn exchange(
    transport: &impl Transport,
    request: http::Request<Bytes>,
) -> Result<http::Response<Bytes>, TransportError> {
    let (parts, body): (_, Body) = transport.call(request).await?.into_parts();
    Ok(http::Response::from_parts(parts, body.collect(BODY_LIMIT).await?))
}

async fn arrives_as_made(transport: &impl Transport) -> Outcome {
    let rig = Rig::new([Step::status(200)]).await?;
    let body: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    let request = http::Request::put(format!("{}/base/api/v1/x?a=1&b=%2F", rig.socket.url()))
        .header("x-many", "1")
        .header("x-many", "2")
        .header("content-encoding", "zstd")
        .body(Bytes::from(body.clone()))
        .map_err(|e| e.to_string())?;
    exchange(transport, request).await.map_err(told)?;
    let requests = rig.server.requests("x");
    let [got] = &requests[..] else { return Err(format!("{} requests arrived", requests.len())) };
    let verdict = same_request(got, &body);
    rig.end(verdict)
}

fn same_request(got: &Received, body: &[u8]) -> Outcome {
    ensure(got.method == http::Method::PUT, || format!("the method was {}", got.method))?;
    ensure((got.base_path.as_str(), got.query.as_deref()) == ("/base", Some("a=1&b=%2F")), || {
        format!("path or query were {} and {:?}", got.base_path, got.query)
    })?;
    ensure(got.headers.get_all("x-many").iter().count() == 2, || "a repeated header was lost".to_owned())?;
    ensure(got.header("content-encoding") == Some("zstd"), || "content-encoding was lost".to_owned())?;
    for name in ["authorization", "x-api-key", "cookie", "proxy-authorization"] {
        ensure(got.header(name).is_none(), || format!("{name} was added"))?;
    }
    ensure(got.body == body, || format!("the body is another, of {} bytes", got.body.len()))
}

async fn given_back_as_sent(transport: &impl Transport) -> Outcome {
    let body: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    let step = Step::proto(body.clone()).with_status(201).header("x-many", "1").header("x-many", "2");
    let rig = Rig::new([step]).await?;
    let response = exchange(transport, rig.request()?).await.map_err(told)?;
    let headers = response.headers();
    let verdict = ensure(response.status() == 201, || format!("the status was {}", response.status()))
        .and(ensure(headers.get_all("x-many").iter().count() == 2, || {
            "a repeated header was lost".to_owned()
        }))
        .and(ensure(headers.get("content-type").is_some_and(|v| v == crate::PROTOBUF), || {
            "content-type was lost".to_owned()
        }))
        .and(ensure(response.body() == &body, || "the body is another".to_owned()));
    rig.end(verdict)
}

async fn any_status(transport: &impl Transport) -> Outcome {
    let statuses = [200, 204, 304, 400, 401, 408, 410, 429, 500, 501, 503, 599];
    let rig = Rig::new(statuses.map(Step::status)).await?;
    for status in statuses {
        let response =
            exchange(transport, rig.request()?).await.map_err(|e| format!("{status} {}", told(e)))?;
        ensure(response.status() == status, || format!("{status} became {}", response.status()))?;
    }
    rig.end(Ok(()))
}

async fn no_retry(transport: &impl Transport) -> Outcome {
    let steps = [
        Step::status(429).header("retry-after-ms", "0"),
        Step::status(503).header("retry-after", "0"),
        Step::reset(),
        Step::close_before_headers(),
        Step::status(200).then_close_mid_body(0),
    ];
    let rig = Rig::new(steps.clone()).await?;
    for n in 1..=steps.len() as u64 {
        // Whether it fails, and how, is for another check.
        let _ = exchange(transport, rig.request()?).await;
        let count = rig.server.count("x");
        if count != n {
            // The log explains the failure; the script's own complaint would only repeat it.
            let _ = rig.server.verify();
            return Err(format!("after call {n} the server had seen {count} requests"));
        }
    }
    rig.end(Ok(()))
}

async fn no_redirect(transport: &impl Transport) -> Outcome {
    let elsewhere = Rig::new([]).await?;
    let target = format!("{}/api/v1/y", elsewhere.socket.url());
    let steps = [302, 307, 308].map(|status| Step::status(status).header("location", &target));
    let rig = Rig::new(steps).await?;
    for status in [302, 307, 308] {
        let response = exchange(transport, rig.request()?).await.map_err(told)?;
        let location = response.headers().get("location").and_then(|v| v.to_str().ok());
        ensure(response.status() == status && location == Some(target.as_str()), || {
            format!("{status} became {} with location {location:?}", response.status())
        })?;
    }
    ensure(elsewhere.server.count("**") == 0, || "the other origin was called".to_owned())?;
    rig.end(Ok(()))
}

async fn no_hidden_decompression(transport: &impl Transport) -> Outcome {
    let value = json!({"text": "a".repeat(1_000)});
    let rig = Rig::new([Step::json(value.clone()).gzip(), Step::json(value.clone()).zstd()]).await?;
    for _ in 0..2 {
        let (parts, body) = exchange(transport, rig.request()?).await.map_err(told)?.into_parts();
        let as_sent = Received::get("x").with_headers(parts.headers).with_body(body);
        ensure(as_sent.json() == Some(&value), || {
            format!("the body is not what content-encoding {:?} says", as_sent.header("content-encoding"))
        })?;
    }
    rig.end(Ok(()))
}

async fn pieces(transport: &impl Transport) -> Outcome {
    let pieces = (0..10).map(|n: u8| (Duration::from_millis(1), Bytes::from(vec![n; 1_000]))).collect();
    let rig = Rig::new([Step::status(200).chunks(pieces)]).await?;
    let response = exchange(transport, rig.request()?).await.map_err(told)?;
    let whole = (0..10).flat_map(|n: u8| vec![n; 1_000]);
    let verdict = ensure(response.body().iter().copied().eq(whole), || "the body is another".to_owned());
    rig.end(verdict)
}

async fn failures_have_kinds(transport: &impl Transport) -> Outcome {
    let body = Step::raw("0123456789", "text/plain");
    let cases = [
        ("a reset", Step::reset(), TransportErrorKind::Interrupted),
        ("a close before the headers", Step::close_before_headers(), TransportErrorKind::Interrupted),
        ("half a body", body.clone().then_close_mid_body(4), TransportErrorKind::Interrupted),
        ("a body shorter than announced", body.then_wrong_content_length(), TransportErrorKind::Interrupted),
        ("bytes that are not HTTP", Step::garbage("this is not HTTP\r\n\r\n"), TransportErrorKind::Decode),
    ];
    let rig = Rig::new(cases.iter().map(|(_, step, _)| step.clone())).await?;
    for (what, _, kind) in cases {
        match exchange(transport, rig.request()?).await {
            Ok(response) => return Err(format!("{what} came back as {}", response.status())),
            Err(e) => ensure(e.kind() == kind, || format!("{what} is {:?}, not {kind:?}", e.kind()))?,
        }
    }
    rig.end(Ok(()))
}

async fn nobody_listens(transport: &impl Transport) -> Outcome {
    // A port that was just free. Nothing else on the machine is likely to take it in between.
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = TcpListener::bind(address).await.map_err(|e| format!("the suite cannot listen: {e}"))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    drop(listener);
    match exchange(transport, request(&format!("http://{address}"))?).await {
        Ok(response) => Err(format!("it came back as {}", response.status())),
        Err(e) => ensure(e.kind() == TransportErrorKind::Connect, || format!("it is {:?}", e.kind())),
    }
}

async fn head_before_body(transport: &impl Transport) -> Outcome {
    let rig = Rig::new([Step::status(200).body("later").then_stall_after_headers()]).await?;
    let response = transport.call(rig.request()?).await.map_err(told)?;
    ensure(response.status() == 200, || format!("the status was {}", response.status()))?;
    ensure(rig.server.in_flight("x") == 1, || "the connection was given up too early".to_owned())?;
    drop(response);
    rig.server.wait_for_in_flight("x", 0).await;
    rig.end(Ok(()))
}

async fn dropped_call(transport: &impl Transport) -> Outcome {
    let rig = Rig::new([Step::hang(), Step::status(200)]).await?;
    let call = exchange(transport, rig.request()?);
    tokio::select! {
        result = call => return Err(format!("a call without an answer came back: {:?}", result.map(|r| r.status()))),
        () = rig.server.wait_for("x", 1) => {}
    }
    rig.server.wait_for_in_flight("x", 0).await;
    let next = exchange(transport, rig.request()?).await.map_err(|e| format!("the next call {}", told(e)))?;
    let verdict = ensure(next.status() == 200, || format!("the next call came back as {}", next.status()));
    rig.end(verdict)
}

async fn many_at_once(transport: &impl Transport) -> Outcome {
    let gate = Gate::new();
    let rig = Rig::new([Step::status(200).gate(&gate).repeat(MANY)]).await?;
    let requests = (0..MANY).map(|_| rig.request()).collect::<Result<Vec<_>, _>>()?;
    let calls =
        futures_util::future::join_all(requests.into_iter().map(|request| exchange(transport, request)));
    let opening = async {
        gate.arrived(MANY).await;
        gate.open();
        std::future::pending().await
    };
    let results = tokio::select! {
        results = calls => results,
        () = opening => Vec::new(),
    };
    for result in results {
        result.map_err(told)?;
    }
    rig.end(Ok(()))
}
