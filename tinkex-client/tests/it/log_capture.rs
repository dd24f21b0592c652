//! A tracing layer that keeps every event of this thread, with the virtual time it came at.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// One event as it was logged.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) at: Instant,
    pub(crate) level: Level,
    pub(crate) target: String,
    pub(crate) message: String,
    pub(crate) fields: BTreeMap<String, String>,
}

/// Everything logged on this thread while the guard lives.
#[derive(Clone, Default)]
pub(crate) struct LogCapture(Arc<Mutex<Vec<Line>>>);

impl LogCapture {
    pub(crate) fn start() -> (Self, DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::registry().with(log.clone());
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        self.0.lock().unwrap().clone()
    }

    /// The lines of the built-in pause log.
    pub(crate) fn pauses(&self) -> Vec<Line> {
        self.lines().into_iter().filter(|line| line.target == "tinkex_observer").collect()
    }

    /// The texts of those lines.
    pub(crate) fn pause_texts(&self) -> Vec<String> {
        self.pauses().into_iter().map(|line| line.message).collect()
    }

    /// The messages of a level, oldest first.
    pub(crate) fn messages(&self, level: Level) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.level == level).map(|line| line.message).collect()
    }

    /// The messages at WARN or above whose text contains `part`.
    pub(crate) fn warnings(&self, part: &str) -> Vec<Line> {
        let loud = |line: &Line| line.level <= Level::WARN && line.message.contains(part);
        self.lines().into_iter().filter(loud).collect()
    }
}

impl<S: Subscriber> Layer<S> for LogCapture {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.0.lock().unwrap().push(Line {
            at: Instant::now(),
            level: *event.metadata().level(),
            target: event.metadata().target().to_owned(),
            message: fields.0.remove("message").unwrap_or_default(),
            fields: fields.0,
        });
    }
}

#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}
