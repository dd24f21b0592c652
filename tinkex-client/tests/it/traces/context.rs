//! What a trace context sends: nothing by default, and nothing but its own headers.

use tinkex_client::http::{HeaderMap, HeaderValue};
use tinkex_testkit::FakeServer;
use tracing::Span;

use crate::harness::{self, MODEL};
use crate::trace_capture::TraceCapture;

const TRACE: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// Off by default: no request has a header of traces, also where spans are collected.
#[tokio::test(start_paused = true)]
async fn nothing_is_sent_by_default() {
    let (_capture, _guard) = TraceCapture::start();
    let server = FakeServer::new();
    let (_service, sampler) = harness::sampler(&server).await;
    sampler.sample(harness::request(&[1])).await.unwrap();
    let requests = server.all_requests();
    assert!(requests.len() >= 6);
    for request in requests {
        assert!(TRACE.iter().all(|name| request.header(name).is_none()), "{}", request.route());
    }
}

/// Every attempt names its own span; with exchanged tokens those of the exchange too.
#[tokio::test(start_paused = true)]
async fn each_attempt_names_its_span() {
    let (capture, _guard) = TraceCapture::start();
    let server = FakeServer::new();
    let context = |span: &Span, headers: &mut HeaderMap| {
        let id = span.id().expect("a span that is collected").into_u64();
        headers.insert("traceparent", HeaderValue::from(id));
    };
    let service = harness::builder(&server).trace_context(context).build().await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    sampler.sample(harness::request(&[1])).await.unwrap();
    let sent: Vec<_> = server
        .all_requests()
        .iter()
        .map(|request| (request.route().to_owned(), request.header("traceparent").unwrap().to_owned()))
        .collect();
    let spans = capture.spans("http_request");
    let expected: Vec<_> =
        spans.iter().map(|span| (span.value("url.template").to_owned(), span.id.to_string())).collect();
    assert_eq!(sent, expected);
}
