//! From the spans of `tracing` to a collector of OpenTelemetry, over HTTP and protobuf; and the headers that let the
//! service continue the trace.

use http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::HeaderInjector;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

/// Where collectors listen.
pub(crate) const ENDPOINT: &str = "http://localhost:4318";

/// An export of spans, in batches, on a thread of its own.
pub(crate) struct Export(SdkTracerProvider);

impl Export {
    /// Exports to the collector at `endpoint`, such as [`ENDPOINT`].
    pub(crate) fn to(endpoint: &str) -> Result<Self, ExporterBuildError> {
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let exporter = SpanExporter::builder().with_http().with_endpoint(url).build()?;
        let resource = Resource::builder().with_service_name("tinkex-traces").build();
        Ok(Self(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
    }

    /// What the spans have to reach. Operations are at INFO, attempts at DEBUG; those of other libraries, the exporter's
    /// own among them, are left out.
    pub(crate) fn subscriber(&self) -> impl Subscriber + Send + Sync + use<> {
        let wanted = Targets::new()
            .with_target("tinkex_client", Level::INFO)
            .with_target("tinkex_http", Level::DEBUG)
            .with_target("example", Level::INFO);
        let layer = tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("tinkex"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false);
        tracing_subscriber::registry().with(layer.with_filter(wanted))
    }

    /// Sends what is left, and says whether the collector took it. Blocks.
    pub(crate) fn finish(self) -> Result<(), OTelSdkError> {
        // The shutdown alone says nothing of the export.
        self.0.force_flush().and(self.0.shutdown())
    }
}

/// Writes the W3C header `traceparent`, which names the span of the attempt.
pub(crate) fn propagate(span: &Span, headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(&span.context(), &mut HeaderInjector(headers));
}
