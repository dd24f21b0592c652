//! Queue states, from the answer of a poll to the log line, the counter and the user's observer (seed 2).

mod lines;
mod observers;
mod streams;
mod training;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use serde_json::json;
use tinkex_client::{QueueState, QueueStateChange, QueueStateObserver, SamplingClient};
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, Step};

use crate::harness::{self, MODEL, request};
use crate::log_capture::LogCapture;

/// How long a test waits for an observer's thread, in real time. Reached only where something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

fn try_again(state: &str) -> Step {
    Step::json(json!({"type": "try_again", "request_id": "any", "queue_state": state}))
}

fn try_again_because(state: &str, reason: &str) -> Step {
    Step::json(
        json!({"type": "try_again", "request_id": "any", "queue_state": state, "queue_state_reason": reason}),
    )
}

fn line(sampler: &SamplingClient, reason: &str) -> String {
    format!("Sampling is paused for {}. Reason: {reason}", sampler.sampling_session_id())
}

/// Runs one sample whose polls are answered by `steps` first, and gives its pause lines.
async fn lines_of(steps: Vec<Step>) -> Vec<String> {
    let (log, _guard) = LogCapture::start();
    let (server, _client, sampler) = harness::in_front_of(&Service::default()).await;
    server.script("retrieve_future", steps).then_behave();
    sampler.sample(request(&[1])).await.unwrap();
    let id = sampler.sampling_session_id().to_owned();
    log.pauses().into_iter().map(|line| line.message.replace(&id, "<id>")).collect()
}

/// What an observer was told, state by state.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<QueueState>>>);

impl Told {
    fn closure(&self) -> impl Fn(QueueState) + Send + Sync + use<> {
        let told = Arc::clone(&self.0);
        move |state| told.lock().unwrap().push(state)
    }

    fn states(&self) -> Vec<QueueState> {
        self.0.lock().unwrap().clone()
    }

    fn words(&self) -> Vec<String> {
        self.states().iter().map(|state| state.as_str().to_owned()).collect()
    }
}

/// An observer by the trait's other form, which gets the context.
#[derive(Clone, Default)]
struct Changes(Arc<Mutex<Vec<QueueStateChange>>>);

impl Changes {
    fn all(&self) -> Vec<QueueStateChange> {
        self.0.lock().unwrap().clone()
    }
}

impl QueueStateObserver for Changes {
    fn on_change(&self, change: &QueueStateChange) {
        self.0.lock().unwrap().push(change.clone());
    }
}

async fn observed(server: &FakeServer, observer: impl QueueStateObserver + 'static) -> SamplingClient {
    let client = harness::service(server).await;
    let builder = client.sampling_client().base_model(MODEL).queue_state_observer(observer);
    builder.create().await.unwrap()
}

/// Every counter of queue states, as `state: count`.
fn transitions(recorder: &DebuggingRecorder) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for (key, _, _, value) in recorder.snapshotter().snapshot().into_vec() {
        if key.key().name() == "tinkex_queue_state_transitions_total" {
            let mut labels = key.key().labels();
            assert!(labels.clone().any(|label| (label.key(), label.value()) == ("client", "sampling")));
            let state = labels.find(|label| label.key() == "state").unwrap().value().to_owned();
            let DebugValue::Counter(count) = value else { panic!("a counter, not {value:?}") };
            counts.insert(state, count);
        }
    }
    counts
}

fn counts(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
    of.iter().map(|(state, count)| ((*state).to_owned(), *count)).collect()
}
