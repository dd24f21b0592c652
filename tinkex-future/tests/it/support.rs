//! A scripted [`Retrieve`] and the few builders the tests share.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tinkex_future::{Ask, Outcome, RawResponse, Retrieve};
use tinkex_types::{QueueStateChange, QueueStateObserver};
use tokio::time::{Instant, sleep};
use tracing_subscriber::fmt::MakeWriter;

/// How long the scripted server holds a long poll, where a test does not say otherwise.
pub(crate) const HELD: Duration = Duration::from_secs(20);

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn json(status: u16, body: &str) -> Outcome {
    RawResponse::json(status, body.to_owned()).into()
}

pub(crate) fn refused() -> Outcome {
    Outcome::Unreachable { timed_out: false, error: "connection refused".into() }
}

pub(crate) fn cut_off() -> Outcome {
    Outcome::Unreachable { timed_out: true, error: "no answer within 45 s".into() }
}

pub(crate) fn done() -> Outcome {
    json(200, r#"{"sequences":[]}"#)
}

/// A request as the script saw it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    pub(crate) at: Duration,
    pub(crate) request_id: String,
    pub(crate) iteration: u32,
    pub(crate) allow_metadata_only: bool,
    pub(crate) create_roundtrip: Option<Duration>,
}

type Endless = Box<dyn Fn() -> (Duration, Outcome) + Send + Sync>;

/// Plays answers in order, each after a delay. A script that runs out fails the test.
pub(crate) struct Script {
    started: Instant,
    steps: Mutex<VecDeque<(Duration, Outcome)>>,
    endless: Option<Endless>,
    asked: Mutex<Vec<Asked>>,
}

impl Script {
    pub(crate) fn timed(steps: impl IntoIterator<Item = (Duration, Outcome)>) -> Arc<Self> {
        Self::make(steps.into_iter().collect(), None)
    }

    /// Every answer comes at once.
    pub(crate) fn instant(steps: impl IntoIterator<Item = Outcome>) -> Arc<Self> {
        Self::timed(steps.into_iter().map(|outcome| (Duration::ZERO, outcome)))
    }

    /// Every answer comes after the server has held the call.
    pub(crate) fn held(steps: impl IntoIterator<Item = Outcome>) -> Arc<Self> {
        Self::timed(steps.into_iter().map(|outcome| (HELD, outcome)))
    }

    pub(crate) fn endless(answer: impl Fn() -> (Duration, Outcome) + Send + Sync + 'static) -> Arc<Self> {
        Self::make(VecDeque::new(), Some(Box::new(answer)))
    }

    fn make(steps: VecDeque<(Duration, Outcome)>, endless: Option<Endless>) -> Arc<Self> {
        let (steps, asked) = (Mutex::new(steps), Mutex::default());
        Arc::new(Self { started: Instant::now(), steps, endless, asked })
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// When each ask arrived, in milliseconds from the start.
    pub(crate) fn arrivals(&self) -> Vec<u128> {
        self.asked().iter().map(|asked| asked.at.as_millis()).collect()
    }

    pub(crate) fn left(&self) -> usize {
        self.steps.lock().unwrap().len()
    }
}

impl Retrieve for Script {
    async fn retrieve(&self, ask: &Ask<'_>) -> Outcome {
        self.asked.lock().unwrap().push(Asked {
            at: self.started.elapsed(),
            request_id: ask.request_id.to_owned(),
            iteration: ask.iteration,
            allow_metadata_only: ask.allow_metadata_only,
            create_roundtrip: ask.create_roundtrip,
        });
        let step = self.steps.lock().unwrap().pop_front();
        let step = step.or_else(|| self.endless.as_ref().map(|answer| answer()));
        let (delay, outcome) = step.expect("the script has run out");
        if !delay.is_zero() {
            sleep(delay).await;
        }
        outcome
    }
}

/// Keeps every observation.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<Vec<QueueStateChange>>);

impl Recorder {
    pub(crate) fn all(&self) -> Vec<QueueStateChange> {
        self.0.lock().unwrap().clone()
    }

    /// State and reason of every observation.
    pub(crate) fn states(&self) -> Vec<(String, Option<String>)> {
        let pair = |change: &QueueStateChange| {
            (change.state.as_str().to_owned(), change.reason.as_deref().map(str::to_owned))
        };
        self.all().iter().map(pair).collect()
    }

    /// The states of the transitions alone.
    pub(crate) fn transitions(&self) -> Vec<String> {
        let all = self.all();
        let transitions = all.iter().filter(|change| change.is_transition());
        transitions.map(|change| change.state.as_str().to_owned()).collect()
    }
}

impl QueueStateObserver for Recorder {
    fn on_observation(&self, observation: &QueueStateChange) {
        self.0.lock().unwrap().push(observation.clone());
    }
}

/// Log lines of the current thread, for as long as the guard lives.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn capture() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .without_time()
            .with_ansi(false)
            .with_writer(log.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn lines_with(&self, text: &str) -> Vec<String> {
        let bytes = self.0.lock().unwrap().clone();
        let all = String::from_utf8(bytes).unwrap();
        all.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
