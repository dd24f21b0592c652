//! Service telemetry (PROTOCOL 20): what is reported and when, and that nobody waits for it. `golden::telemetry` compares
//! it with what the reference SDK was recorded to send.

mod batches;
mod closing;
mod independence;
mod reports;
mod secrets;
mod sessions;
mod switches;

use std::collections::BTreeMap;
use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use serde_json::Value;
use tinkex_client::{ModelInput, SampleRequest, SamplingClient, SamplingParams, ServiceClient};
use tinkex_testkit::FakeServer;

use crate::harness::{self, MODEL};

const SECOND: Duration = Duration::from_secs(1);

/// Connected clients that report.
async fn reporting(server: &FakeServer) -> (ServiceClient, SamplingClient) {
    let service = harness::reporting_builder(server).build().await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    (service, sampler)
}

/// Lets every task run that can run now: time does not pass before.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// The events of each batch that arrived.
fn batches(server: &FakeServer) -> Vec<Vec<Value>> {
    let of = |batch: &Value| batch["events"].as_array().unwrap().clone();
    server.requests("telemetry").iter().map(|request| of(request.json().unwrap())).collect()
}

/// The events that arrived, oldest first.
fn events(server: &FakeServer) -> Vec<Value> {
    batches(server).concat()
}

/// What an event is called: its kind, or its own name where it is a generic one.
fn name(event: &Value) -> &str {
    event["event_name"].as_str().unwrap_or_else(|| event["event"].as_str().unwrap())
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(name).collect()
}

/// A request that is refused at the call: nothing is sent, and one event is made.
fn invalid() -> SampleRequest {
    SampleRequest::new(ModelInput::from_ints([1]), SamplingParams::new().max_tokens(0)).num_samples(0)
}

/// The events that were counted since the last look, by what became of them.
fn counted(recorder: &DebuggingRecorder) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for (key, _, _, value) in recorder.snapshotter().snapshot().into_vec() {
        if key.key().name() == "tinkex_telemetry_events_total" {
            let outcome = key.key().labels().find(|label| label.key() == "outcome").unwrap();
            let DebugValue::Counter(count) = value else { panic!("a counter, not {value:?}") };
            if count > 0 {
                counts.insert(outcome.value().to_owned(), count);
            }
        }
    }
    counts
}

fn counts(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
    of.iter().map(|(outcome, count)| ((*outcome).to_owned(), *count)).collect()
}
