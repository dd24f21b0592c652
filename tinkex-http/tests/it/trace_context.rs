//! Propagation of traces: off by default, once per attempt, unable to touch anything else, gone with a redirect to another
//! origin, and harmless when it panics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};
use tinkex_http::{ApiRequest, TraceContext};
use tinkex_testkit::{FakeServer, Step};
use tracing::{Level, Span};

use crate::capture::Log;
use crate::support::{KEY, ROUTE, builder, ok, post, server, steady};

/// Writes these headers.
fn writing(names: &'static [&'static str]) -> Arc<dyn TraceContext> {
    Arc::new(move |_: &Span, headers: &mut HeaderMap| {
        for name in names {
            headers.insert(*name, HeaderValue::from_static("from-the-trace"));
        }
    })
}

/// The names of a request's headers.
fn names(server: &FakeServer, route: &str) -> Vec<String> {
    let requests = server.requests(route);
    let mut names: Vec<_> = requests[0].headers.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort_unstable();
    names
}

async fn sent(context: Option<Arc<dyn TraceContext>>, request: ApiRequest) -> (FakeServer, Vec<String>) {
    let server = server();
    server.script(ROUTE, [ok()]);
    let mut client = builder(&server);
    if let Some(context) = context {
        client = client.trace_context(context);
    }
    client.build().unwrap().send(&request).await.unwrap();
    let names = names(&server, ROUTE);
    (server, names)
}

/// Off by default, and a context adds its own headers and no other.
#[tokio::test(start_paused = true)]
async fn a_context_adds_its_headers_only() {
    let (_, without) = sent(None, post()).await;
    assert!(!without.iter().any(|name| name.starts_with("trace") || name == "baggage"));
    let (server, mut with) = sent(Some(writing(&["traceparent", "tracestate"])), post()).await;
    assert_eq!(server.requests(ROUTE)[0].header("traceparent"), Some("from-the-trace"));
    with.retain(|name| !name.starts_with("trace"));
    assert_eq!(with, without);
}

/// What the request says already stays: the credential, the protocol's headers, the caller's own. What it does not say is
/// not added where it belongs to HTTP or to the protocol.
#[tokio::test(start_paused = true)]
async fn a_context_overrides_nothing() {
    const ALL: &[&str] = &[
        "x-api-key",
        "authorization",
        "proxy-authorization",
        "cookie",
        "host",
        "content-type",
        "content-length",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "accept",
        "accept-encoding",
        "user-agent",
        "x-idempotency-key",
        "x-stainless-retry-count",
        "x-stainless-anything",
        "x-tinker-request-type",
        "x-sdk-method",
        "cf-access-client-secret",
        "x-mine",
        "traceparent",
    ];
    let own = (HeaderName::from_static("x-mine"), HeaderValue::from_static("mine"));
    let get = || ApiRequest::get(ROUTE, "/api/v1/op").header(own.0.clone(), own.1.clone());
    let (plain, without) = sent(None, get()).await;
    let (server, mut with) = sent(Some(writing(ALL)), get()).await;
    with.retain(|name| name != "traceparent");
    assert_eq!(with, without);
    let (plain, traced) = (&plain.requests(ROUTE)[0], &server.requests(ROUTE)[0]);
    for name in without.iter().filter(|name| *name != "host") {
        assert_eq!(traced.header(name), plain.header(name), "{name}");
    }
    assert_eq!(traced.header("x-api-key"), Some(KEY));
    assert_eq!(traced.header("x-mine"), Some("mine"));
    assert_eq!(traced.header("traceparent"), Some("from-the-trace"));
}

/// Within the origin a redirect keeps the headers, another origin gets none of them, and they do not come back.
#[tokio::test(start_paused = true)]
async fn another_origin_learns_nothing() {
    let server = server();
    let there = |to: &str| Step::status(307).header("location", to);
    server.script(ROUTE, [there("/api/v1/near")]);
    server.script("near", [there("http://other.test/api/v1/far")]);
    server.script("far", [there(&format!("{}/api/v1/home", server.url()))]);
    server.script("home", [ok()]);
    let client = builder(&server).trace_context(writing(&["traceparent", "x-b3-traceid"])).build().unwrap();
    client.send(&post()).await.unwrap();
    for (route, expected) in [(ROUTE, true), ("near", true), ("far", false), ("home", false)] {
        for name in ["traceparent", "x-b3-traceid"] {
            assert_eq!(server.requests(route)[0].header(name).is_some(), expected, "{route}: {name}");
        }
    }
}

/// Once per attempt, with the attempt's span, on retries too.
#[tokio::test(start_paused = true)]
async fn every_attempt_is_asked_for() {
    let (_log, _guard) = Log::start();
    let calls = AtomicU32::new(0);
    let counting = move |span: &Span, headers: &mut HeaderMap| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        let name = span.metadata().map_or("none", |metadata| metadata.name());
        headers.insert("traceparent", HeaderValue::try_from(format!("{call} {name}")).unwrap());
    };
    let server = server();
    server.script(ROUTE, [Step::status(503).repeat(2), ok()]);
    let client = builder(&server).policy(steady()).trace_context(Arc::new(counting)).build().unwrap();
    client.send(&post()).await.unwrap();
    let requests = server.requests(ROUTE);
    let told: Vec<_> = requests.iter().map(|request| request.header("traceparent").unwrap()).collect();
    assert_eq!(told, [0, 1, 2].map(|call| format!("{call} http_request")));
}

/// A panic costs the attempt these headers and nothing else, and is told once.
#[tokio::test(start_paused = true)]
async fn a_panic_does_not_hurt_the_call() {
    let (log, _guard) = Log::start();
    let server = server();
    server.script(ROUTE, [ok().repeat(3)]);
    let panicking = |_: &Span, headers: &mut HeaderMap| {
        headers.insert("traceparent", HeaderValue::from_static("half"));
        std::panic::resume_unwind(Box::new("no context"));
    };
    let client = builder(&server).trace_context(Arc::new(panicking)).build().unwrap();
    for _ in 0..3 {
        assert_eq!(client.send(&post()).await.unwrap().attempts, 1);
    }
    assert!(server.requests(ROUTE).iter().all(|request| request.header("traceparent").is_none()));
    let lines = log.at(Level::WARN);
    assert!(lines.len() == 1 && lines[0].starts_with("the trace context panicked"), "{lines:?}");
}
