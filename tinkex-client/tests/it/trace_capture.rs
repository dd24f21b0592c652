//! A tracing layer that keeps everything of this thread, spans included, at every level and from every crate.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// One span, with the values it has got so far.
#[derive(Clone, Debug)]
pub(crate) struct CapturedSpan {
    pub(crate) id: u64,
    pub(crate) parent: Option<u64>,
    pub(crate) name: &'static str,
    pub(crate) target: &'static str,
    pub(crate) level: Level,
    /// The fields it was declared with, in order.
    pub(crate) declared: Vec<&'static str>,
    pub(crate) values: BTreeMap<&'static str, String>,
    pub(crate) closed: bool,
}

impl CapturedSpan {
    /// The value of a field; nothing where it has none.
    pub(crate) fn value(&self, field: &str) -> &str {
        self.values.get(field).map_or("", String::as_str)
    }
}

#[derive(Default)]
struct Captured {
    spans: Vec<CapturedSpan>,
    /// Events and spans as text, as they came.
    text: String,
    /// The level of each event.
    events: Vec<Level>,
}

/// Everything traced on this thread while the guard lives.
#[derive(Clone, Default)]
pub(crate) struct TraceCapture(Arc<Mutex<Captured>>);

impl TraceCapture {
    pub(crate) fn start() -> (Self, DefaultGuard) {
        let capture = Self::default();
        let subscriber = tracing_subscriber::registry().with(capture.clone());
        (capture, tracing::subscriber::set_default(subscriber))
    }

    /// The spans of a name, in the order they were opened.
    pub(crate) fn spans(&self, name: &str) -> Vec<CapturedSpan> {
        self.0.lock().unwrap().spans.iter().filter(|span| span.name == name).cloned().collect()
    }

    /// The operation of a public method, of which there must be one.
    #[track_caller]
    pub(crate) fn operation(&self, method: &str) -> CapturedSpan {
        let mut found = self.spans("operation");
        found.retain(|span| span.value("otel.name") == method);
        assert_eq!(found.len(), 1, "{method}: {found:?}");
        found.remove(0)
    }

    /// The attempts below a span, however deep.
    pub(crate) fn attempts_below(&self, ancestor: &CapturedSpan) -> Vec<CapturedSpan> {
        let mut attempts = self.spans("http_request");
        attempts.retain(|attempt| self.is_below(attempt, ancestor.id));
        attempts
    }

    fn is_below(&self, span: &CapturedSpan, ancestor: u64) -> bool {
        let parents: BTreeMap<_, _> =
            self.0.lock().unwrap().spans.iter().map(|span| (span.id, span.parent)).collect();
        std::iter::successors(span.parent, |id| parents.get(id).copied().flatten()).any(|id| id == ancestor)
    }

    /// Everything as text.
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().text.clone()
    }

    /// How many events there were at a level or above it.
    pub(crate) fn lines_at(&self, level: Level) -> usize {
        self.0.lock().unwrap().events.iter().filter(|at| **at <= level).count()
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for TraceCapture {
    fn on_new_span(&self, span: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut values = Values::default();
        span.record(&mut values);
        let metadata = span.metadata();
        let parent = context.span(id).and_then(|span| span.parent()).map(|span| span.id().into_u64());
        let mut captured = self.0.lock().unwrap();
        let _ = writeln!(captured.text, "{} {} {:?}", metadata.name(), metadata.target(), values.0);
        captured.spans.push(CapturedSpan {
            id: id.into_u64(),
            parent,
            name: metadata.name(),
            target: metadata.target(),
            level: *metadata.level(),
            declared: metadata.fields().iter().map(|field| field.name()).collect(),
            values: values.0,
            closed: false,
        });
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, _: Context<'_, S>) {
        let mut values = Values::default();
        record.record(&mut values);
        let mut captured = self.0.lock().unwrap();
        let _ = writeln!(captured.text, "{:?}", values.0);
        // Ids are used again, so the newest is meant.
        if let Some(span) = captured.spans.iter_mut().rev().find(|span| span.id == id.into_u64()) {
            span.values.extend(values.0);
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut values = Values::default();
        event.record(&mut values);
        let mut captured = self.0.lock().unwrap();
        captured.events.push(*event.metadata().level());
        let _ = writeln!(captured.text, "{} {:?}", event.metadata().target(), values.0);
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        let mut captured = self.0.lock().unwrap();
        if let Some(span) = captured.spans.iter_mut().rev().find(|span| span.id == id.into_u64()) {
            span.closed = true;
        }
    }
}

#[derive(Default)]
struct Values(BTreeMap<&'static str, String>);

impl Visit for Values {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}
