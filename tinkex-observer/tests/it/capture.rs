//! What the tests share: a tracing layer that keeps events, observations, and the virtual clock.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tinkex_observer::{ClientKind, QueueState, QueueStateChange};
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// One event as it was logged.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) level: Level,
    pub(crate) target: String,
    pub(crate) message: String,
    pub(crate) fields: BTreeMap<String, String>,
}

/// Everything logged on this thread while the guard lives.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Line>>>);

impl Log {
    pub(crate) fn start() -> (Self, DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::registry().with(log.clone());
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        self.0.lock().unwrap().clone()
    }

    /// The messages of the pause logger.
    pub(crate) fn pauses(&self) -> Vec<String> {
        self.lines().into_iter().filter(|l| l.target == "tinkex_observer").map(|l| l.message).collect()
    }

    /// The messages about user observers.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.lines().into_iter().filter(|l| l.target != "tinkex_observer").map(|l| l.message).collect()
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let message = fields.0.remove("message").unwrap_or_default();
        let (level, target) = (*event.metadata().level(), event.metadata().target().to_owned());
        self.0.lock().unwrap().push(Line { level, target, message, fields: fields.0 });
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

/// A virtual clock with marks in seconds after its start.
pub(crate) struct VirtualTime(Instant);

impl VirtualTime {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Moves the clock to the mark.
    pub(crate) async fn to(&self, seconds: f64) {
        let mark = self.0 + Duration::from_secs_f64(seconds);
        tokio::time::advance(mark - Instant::now()).await;
        assert_eq!(Instant::now(), mark, "time only goes forwards");
    }
}

/// A transition of a sampling client.
pub(crate) fn sampling(state: QueueState) -> QueueStateChange {
    QueueStateChange::new(state, ClientKind::Sampling, "s-1")
}

/// The same state once more.
pub(crate) fn repeated(state: QueueState) -> QueueStateChange {
    sampling(state.clone()).with_previous(Some(state), false)
}

pub(crate) const RATE_LIMIT_LINE: &str = "Sampling is paused for s-1. Reason: concurrent LoRA rate limit hit";
pub(crate) const CAPACITY_LINE: &str = "Sampling is paused for s-1. Reason: out of capacity";
