//! The example `traces`, from the client to a collector on a real socket: the tree, the names, the attributes, and the
//! header that names the span of each attempt. Its filter is one of a layer, which asking `enabled!` would upset.

#[allow(dead_code, reason = "the test has an endpoint of its own")]
#[path = "../../../examples/traces/export.rs"]
mod export;
#[path = "../../../examples/traces/work.rs"]
mod work;

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use tinkex_client::{ByteTokenizer, ErrorKind};
use tinkex_testkit::{FakeServer, NoBehaviour, Step};

use crate::harness::{self, MODEL};

/// What a collector got.
struct Collected(Vec<Span>);

impl Collected {
    fn of(collector: &FakeServer) -> Self {
        let requests = collector.requests("v1/traces");
        let spans = requests.iter().flat_map(|request| {
            assert_eq!(request.content_type(), "application/x-protobuf");
            let batch = ExportTraceServiceRequest::decode(request.body.clone()).unwrap();
            batch.resource_spans.into_iter().flat_map(|of| of.scope_spans).flat_map(|of| of.spans)
        });
        let mut spans: Vec<_> = spans.collect();
        spans.sort_by_key(|span| span.start_time_unix_nano);
        Self(spans)
    }

    fn named(&self, name: &str) -> Vec<&Span> {
        self.0.iter().filter(|span| span.name == name).collect()
    }

    fn below(&self, parent: &Span) -> Vec<&Span> {
        self.0.iter().filter(|span| span.parent_span_id == parent.span_id).collect()
    }
}

/// The attributes, numbers as text.
fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?} is neither text nor a number"),
    };
    let pairs = span.attributes.iter();
    pairs
        .map(|pair| (pair.key.as_str(), text(pair.value.as_ref().unwrap().value.as_ref().unwrap())))
        .collect()
}

fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code == i32::from(StatusCode::Error))
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// In real time, since the exporter's thread knows no other.
#[tokio::test]
async fn the_example_is_exported_and_propagated() {
    let collector = FakeServer::with(NoBehaviour);
    collector.script("v1/traces", [Step::raw("", "application/x-protobuf")]).then_repeat_last();
    let socket = collector.listen().await.unwrap();
    let embedded = work::Embedded::new();
    let export = export::Export::to(&socket.url()).unwrap();
    let failure = {
        let _guard = tracing::subscriber::set_default(export.subscriber());
        let builder = harness::builder(&embedded.server).trace_context(export::propagate);
        let service = builder.build().await.unwrap();
        work::run(&service, MODEL, &ByteTokenizer, Some(&embedded)).await.unwrap()
    };
    assert_eq!(failure.unwrap().kind(), ErrorKind::RequestFailed);
    tokio::task::spawn_blocking(|| export.finish()).await.unwrap().unwrap();

    let collected = Collected::of(&collector);
    let run = collected.named("run")[0];
    let operations: Vec<_> = collected.below(run).into_iter().map(|span| span.name.as_str()).collect();
    assert_eq!(
        operations,
        [
            "ServiceClient.create_lora_training_client",
            "TrainingClient.forward_backward",
            "TrainingClient.optim_step",
            "ServiceClient.create_sampling_client",
            "SamplingClient.sample",
            "SamplingClient.sample",
            "SamplingClient.sample",
        ]
    );
    let samples = collected.named("SamplingClient.sample");
    let attempts: Vec<Vec<_>> = samples.iter().map(|sample| collected.below(sample)).collect();
    let names = |of: usize| attempts[of].iter().map(|span| span.name.as_str()).collect::<Vec<_>>();
    assert_eq!(names(0)[..2], ["POST asample", "POST retrieve_future"]);
    assert_eq!(names(1)[..3], ["POST asample", "POST asample", "POST retrieve_future"]);
    assert!(samples.iter().all(|span| span.kind == i32::from(SpanKind::Internal)));
    assert!(attempts.iter().flatten().all(|span| span.kind == i32::from(SpanKind::Client)));

    let (sample, failed) = (attributes(samples[0]), attributes(samples[2]));
    assert_eq!((&*sample["tinker.request_type"], sample.get("error.type")), ("Sample", None));
    assert!(sample.contains_key("tinker.request_id") && sample.contains_key("tinker.client_id"));
    assert!(sample["tinker.polls"].parse::<u32>().unwrap() >= 1);
    assert_eq!(failed["error.type"], "request_failed");
    assert_eq!(samples.iter().map(|span| is_error(span)).collect::<Vec<_>>(), [false, false, true]);
    assert!(!sample.keys().any(|key| key.starts_with("otel.")), "those have become name, kind and status");

    let [refused, retried] = [0, 1].map(|at| attributes(attempts[1][at]));
    assert_eq!((&*refused["http.response.status_code"], &*refused["error.type"]), ("503", "503"));
    assert_eq!(refused.get("http.request.resend_count"), None);
    assert_eq!(retried["http.request.resend_count"], "1");
    assert_eq!((&*retried["http.response.status_code"], retried.get("error.type")), ("200", None));
    assert!(is_error(attempts[1][0]) && !is_error(attempts[1][1]));
    assert_eq!((&*retried["http.request.method"], &*retried["url.template"]), ("POST", "asample"));
    assert_eq!((retried.contains_key("server.address"), &*retried["server.port"]), (true, "80"));

    // What the server was told names the attempts' spans, one for one.
    let mut told = Vec::new();
    for request in embedded.server.all_requests() {
        told.push(request.header("traceparent").unwrap().to_owned());
    }
    let mut exported = Vec::new();
    for span in collected.0.iter().filter(|span| span.kind == i32::from(SpanKind::Client)) {
        exported.push(format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id)));
    }
    told.sort_unstable();
    exported.sort_unstable();
    assert_eq!(told, exported);
    assert!(collected.below(run).iter().all(|span| span.trace_id == run.trace_id));
}

/// A collector that is not there is told of at the end, and is nothing to the work.
#[tokio::test]
async fn a_missing_collector_hurts_only_the_export() {
    let collector = FakeServer::with(NoBehaviour);
    collector.script("v1/traces", [Step::status(400)]).then_repeat_last();
    let socket = collector.listen().await.unwrap();
    let embedded = work::Embedded::new();
    let export = export::Export::to(&socket.url()).unwrap();
    {
        let _guard = tracing::subscriber::set_default(export.subscriber());
        let builder = harness::builder(&embedded.server).trace_context(export::propagate);
        let service = builder.build().await.unwrap();
        assert!(work::run(&service, MODEL, &ByteTokenizer, None).await.unwrap().is_none());
    }
    tokio::task::spawn_blocking(|| export.finish()).await.unwrap().unwrap_err();
    assert!(collector.count("v1/traces") >= 1);
}
