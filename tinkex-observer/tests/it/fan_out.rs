//! What reaches whom, and in which order.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_util::debugging::DebuggingRecorder;
use tinkex_observer::{
    LogPolicy, LogWording, ObserverSet, QueueLog, QueueState, QueueStateChange, QueueStateObserver,
};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::capture::{CAPACITY_LINE, Log, VirtualTime, repeated, sampling};
use crate::metrics::counters;

/// Far longer than any delivery takes; reached only where a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// An observer that keeps what it is given.
#[derive(Default)]
struct Seen(Mutex<Vec<QueueStateChange>>);

impl Seen {
    fn states(&self) -> Vec<QueueState> {
        self.0.lock().unwrap().iter().map(|change| change.state.clone()).collect()
    }
}

impl QueueStateObserver for Seen {
    fn on_change(&self, change: &QueueStateChange) {
        self.0.lock().unwrap().push(change.clone());
    }

    fn on_observation(&self, _: &QueueStateChange) {
        panic!("a set gives its users transitions only");
    }
}

/// S2-17, S2-18, S2-19: with a user observer set, both happen: the line, and one call per transition with its full
/// context; repeats reach neither.
#[test]
fn user_observers_come_in_addition() {
    let (log, _guard) = Log::start();
    let (first, second) = (Arc::new(Seen::default()), Arc::new(Seen::default()));
    let set = ObserverSet::default().with_observer(first.clone()).with_observer(second.clone());
    let pause = sampling(QueueState::PausedCapacity).with_reason(Some("maintenance"));
    set.on_observation(&pause);
    set.on_observation(&repeated(QueueState::PausedCapacity));
    set.on_observation(&sampling(QueueState::Active));
    set.on_observation(&sampling(QueueState::PausedCapacity));
    assert!(set.flush(PATIENCE));
    let expected = [QueueState::PausedCapacity, QueueState::Active, QueueState::PausedCapacity];
    assert_eq!(first.states(), expected);
    assert_eq!(second.states(), expected);
    assert_eq!(first.0.lock().unwrap()[0], pause, "nothing of the change is lost on the way");
    assert_eq!(log.pauses(), ["Sampling is paused for s-1. Reason: maintenance"]);
}

/// S2-03, S2-18: a closure over the state alone is an observer.
#[test]
fn a_closure_is_an_observer() {
    let states = Arc::new(Mutex::new(Vec::new()));
    let sink = states.clone();
    let set = ObserverSet::default()
        .with_observer(Arc::new(move |state: QueueState| sink.lock().unwrap().push(state)));
    set.on_observation(&sampling(QueueState::PausedRateLimit));
    assert!(set.flush(PATIENCE));
    assert_eq!(*states.lock().unwrap(), [QueueState::PausedRateLimit]);
}

/// C-6, S2-19: the switch silences the line and nothing else, and holds for derived sets.
#[test]
fn off_silences_the_built_in_logger_only() {
    let (log, _guard) = Log::start();
    let seen = Arc::new(Seen::default());
    let set = ObserverSet::new(QueueLog::Off).with_observer(seen.clone());
    let other = set.for_another_client();
    assert!(set.logger().is_none() && other.logger().is_none());
    set.on_observation(&sampling(QueueState::PausedCapacity));
    other.on_observation(&sampling(QueueState::PausedCapacity));
    assert!(other.flush(PATIENCE), "the sets share the observer, so either can wait for it");
    assert_eq!(seen.states().len(), 2);
    assert_eq!(log.lines(), []);
}

/// A policy goes where a switch is wanted, and derived sets keep it.
#[test]
fn a_policy_turns_the_log_on() {
    let (log, _guard) = Log::start();
    let set = ObserverSet::new(LogPolicy::new().wording(LogWording::V0_6));
    set.for_another_client().on_observation(&sampling(QueueState::PausedCapacity));
    assert_eq!(log.pauses(), ["Sampling is paused for sampler s-1. Reason: out of capacity"]);
    assert_eq!(set.log(), &QueueLog::On(LogPolicy::new().wording(LogWording::V0_6)));
}

/// QS-4: ten pauses and ten resumptions in 5 s: one line, 20 events for observers and metrics.
#[tokio::test(start_paused = true)]
async fn flapping_writes_one_line() {
    let (log, _guard) = Log::start();
    let recorder = DebuggingRecorder::new();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let seen = Arc::new(Seen::default());
    let (clock, set) = (VirtualTime::start(), ObserverSet::default().with_observer(seen.clone()));
    for flap in 0..10 {
        clock.to(0.5 * f64::from(flap)).await;
        set.on_observation(&sampling(QueueState::PausedCapacity));
        clock.to(0.5 * f64::from(flap) + 0.25).await;
        set.on_observation(&sampling(QueueState::Active));
    }
    assert_eq!(log.pauses(), [CAPACITY_LINE]);
    assert!(set.flush(PATIENCE));
    assert_eq!(seen.states().len(), 20);
    assert_eq!(counters(&recorder.snapshotter()).values().sum::<u64>(), 20);
}

/// Who was told, in order.
#[derive(Clone, Default)]
struct Order(Arc<Mutex<Vec<&'static str>>>);

impl Order {
    fn note(&self, who: &'static str) {
        self.0.lock().unwrap().push(who);
    }
}

impl<S: Subscriber> Layer<S> for Order {
    fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
        self.note("log");
    }
}

impl CounterFn for Order {
    fn increment(&self, _: u64) {
        self.note("metrics");
    }

    fn absolute(&self, _: u64) {}
}

impl Recorder for Order {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(self.clone()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// S2-16: metrics first, then the built-in logger, then users.
#[test]
fn metrics_then_log_then_users() {
    let order = Order::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(order.clone()));
    let user = order.clone();
    let set = ObserverSet::default().with_observer(Arc::new(move |_: QueueState| user.note("user")));
    metrics::with_local_recorder(&order, || set.on_observation(&sampling(QueueState::PausedCapacity)));
    assert!(set.flush(PATIENCE));
    assert_eq!(*order.0.lock().unwrap(), ["metrics", "log", "user"]);
}
