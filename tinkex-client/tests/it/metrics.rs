//! The metrics contract (`tinkex-metrics`, `docs/metrics.md`) against what a run really emits: every metric in it is
//! emitted, no other is, and under its own type and labels.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::time::Duration;

use futures_util::future::join_all;
use metrics_util::MetricKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use serde_json::json;
use tinkex_client::{
    AdamParams, ClientKind, FinishReason, LossFn, QueueState, QueueStateObserver as _, RequestType,
    SampleOptions, SamplingClient, ServiceClient, Stage,
};
use tinkex_http::RetryCause;
use tinkex_metrics::{Kind, contract};
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, Gate, Step};
use tokio::time::sleep;

use crate::harness::{self, MODEL, example, request};

const SECOND: Duration = Duration::from_secs(1);

/// One metric under one set of labels, as a recorder saw it.
struct Seen {
    kind: MetricKind,
    name: String,
    labels: Vec<(String, String)>,
    value: DebugValue,
}

fn seen(snapshotter: &Snapshotter) -> Vec<Seen> {
    let taken = snapshotter.snapshot().into_vec().into_iter();
    let seen = taken.map(|(key, _, _, value)| {
        let (kind, key) = key.into_parts();
        let labels = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned()));
        Seen { kind, name: key.name().to_owned(), labels: labels.collect(), value }
    });
    seen.collect()
}

/// A run that meets everything that is measured.
async fn eventful_run() {
    let behind = Service::default();
    behind.set_client_config(&json!({
        "inflight_response_bytes_semaphore_size": 1,
        "sample_dispatch_bytes_semaphore_size": 10,
    }));
    behind.set_metadata_threshold(0);
    let server = FakeServer::with(behind.clone());
    let (slow, told) = mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    // Holds up its own queue until the run is over.
    let observer = move |_: QueueState| {
        let _ = told.lock().unwrap().recv();
    };
    // With telemetry, which the harness leaves out.
    let builder = ServiceClient::builder().api_key("tml-test").base_url(server.url()).seed(7);
    let builder = builder.transport(harness::transport(&server)).queue_state_observer(observer);
    let client = builder.build().await.unwrap();
    let sampler = client.sampling_client().base_model(MODEL).create().await.unwrap();

    pauses(&server, &sampler).await;
    throttling(&server, &sampler).await;
    waits_for_payload(&server, &sampler).await;
    // Lost once: submitted anew.
    behind.expire_next();
    sampler.sample(request(&[1])).await.unwrap();
    training(&client).await;
    server.script("session_heartbeat", [Step::status(404), Step::behave()]).then_behave();
    sleep(35 * SECOND).await;
    // More transitions than the queue of an observer takes.
    for n in 0..3_000 {
        let state = if n % 2 == 0 { QueueState::PausedCapacity } else { QueueState::Active };
        sampler.on_queue_state_change(state);
    }
    drop(slow);
    client.close(FinishReason::Success).await.unwrap();
}

/// Two queue states of a sample on its way.
async fn pauses(server: &FakeServer, sampler: &SamplingClient) {
    let paused = |state: &str| Step::status(408).json_body(json!({ "queue_state": state })).delay(SECOND);
    server.script("retrieve_future", [paused("paused_rate_limit"), paused("paused_capacity")]).then_behave();
    sampler.sample(request(&[1, 2, 3])).await.unwrap();
}

/// A window, and so many samples after it that they wait for slots and for bytes.
async fn throttling(server: &FakeServer, sampler: &SamplingClient) {
    let limited = Step::status(429).header("retry-after-ms", "2500");
    server.script("asample", [limited]).then_behave();
    sampler.sample(request(&[1])).await.unwrap();
    let gate = Gate::new();
    server.script("asample", [Step::behave().gate(&gate)]).then_repeat_last();
    let handles: Vec<_> = (0..20).map(|n| sampler.sample(request(&[n]))).collect();
    gate.arrived(1).await;
    sleep(SECOND).await;
    gate.open();
    assert!(join_all(handles).await.iter().all(Result::is_ok));
    server.script("asample", [Step::behave()]).then_behave();
}

/// Results that are announced, of which only one at a time fits into the budget.
async fn waits_for_payload(server: &FakeServer, sampler: &SamplingClient) {
    let gate = Gate::new();
    let payload =
        |request: &tinkex_testkit::Received| request.field("allow_metadata_only") == Some(&json!(false));
    server.script_when("retrieve_future", payload, [Step::behave().gate(&gate)]).then_repeat_last();
    let handles: Vec<_> = (0..2).map(|n| sampler.sample(request(&[n]))).collect();
    gate.arrived(1).await;
    sleep(SECOND).await;
    gate.open();
    assert!(join_all(handles).await.iter().all(Result::is_ok));
}

async fn training(client: &ServiceClient) {
    let trainer = client.lora_training_client(MODEL).rank(4).seed(7).create().await.unwrap();
    let gradient = trainer.forward_backward(vec![example("abcdef")], LossFn::CrossEntropy);
    let step = trainer.optim_step(AdamParams::new(1e-3));
    gradient.await.unwrap();
    step.await.unwrap();
}

/// What is emitted is in the contract, under its type and its labels; what is in the contract is emitted.
#[tokio::test(start_paused = true)]
async fn the_contract_is_what_a_run_emits() {
    let recorder = DebuggingRecorder::new();
    let _recording = metrics::set_default_local_recorder(&recorder);
    eventful_run().await;
    let mut missing: BTreeSet<_> = contract::ALL.iter().map(|metric| metric.name).collect();
    for Seen { kind, name, labels, .. } in seen(&recorder.snapshotter()) {
        let metric = contract::ALL.iter().find(|metric| metric.name == name);
        let metric = metric.unwrap_or_else(|| panic!("{name} is not in the contract"));
        missing.remove(metric.name);
        let wanted = match metric.kind {
            Kind::Counter => MetricKind::Counter,
            Kind::Gauge => MetricKind::Gauge,
            Kind::Histogram => MetricKind::Histogram,
        };
        assert_eq!(kind, wanted, "{name}");
        let names: Vec<_> = labels.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, metric.labels.iter().map(|label| label.name).collect::<Vec<_>>(), "{name}");
        for (label, (_, value)) in metric.labels.iter().zip(&labels) {
            assert!(label.values.allow(value), "{name}: {} is {value:?}", label.name);
        }
    }
    assert!(missing.is_empty(), "in the contract, and never emitted: {missing:?}");
}

/// The sum of what every gauge was moved by, by name.
fn gauges(seen: &[Seen]) -> BTreeMap<&str, f64> {
    let mut gauges = BTreeMap::new();
    for Seen { name, value, .. } in seen {
        if let DebugValue::Gauge(moved) = value {
            *gauges.entry(name.as_str()).or_default() += moved.into_inner();
        }
    }
    gauges
}

/// Whatever happens to requests, nothing stays counted as in flight.
#[tokio::test(start_paused = true)]
async fn every_gauge_falls_back_to_zero() {
    let recorder = DebuggingRecorder::new();
    let _recording = metrics::set_default_local_recorder(&recorder);
    eventful_run().await;
    let gauges = seen(&recorder.snapshotter());
    for (name, left) in self::gauges(&gauges) {
        assert_eq!(left, 0.0, "{name}");
    }
}

/// The durations recorded under a name and one label value, in seconds.
fn durations(seen: &[Seen], name: &str, label: &str) -> Vec<f64> {
    let of_name = seen.iter().filter(|seen| seen.name == name && seen.labels.iter().any(|(_, v)| v == label));
    let values = of_name.flat_map(|seen| match &seen.value {
        DebugValue::Histogram(values) => values.iter().map(|value| value.into_inner()).collect::<Vec<_>>(),
        other => panic!("{name} is {other:?}"),
    });
    values.collect()
}

fn near(values: &[f64], wanted: &[f64]) {
    let close = |(a, b): (&f64, &f64)| (a - b).abs() < 0.01;
    assert!(
        values.len() == wanted.len() && values.iter().zip(wanted).all(close),
        "{values:?}, not {wanted:?}"
    );
}

/// A request of which two states are told, each for a time of its own: each state is charged with its own time, and the
/// gauge shows the request in one state at a time.
#[tokio::test(start_paused = true)]
async fn the_time_in_each_queue_state_is_its_own() {
    let recorder = DebuggingRecorder::new();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let (server, _client, sampler) = harness::in_front_of(&Service::default()).await;
    let paused = |state: &str, after: u32| {
        Step::status(408).json_body(json!({ "queue_state": state })).delay(after * SECOND)
    };
    // Told at 1 s, again at 5 s, the other at 12 s, and the result at 14 s.
    let polls = [
        paused("paused_rate_limit", 1),
        paused("paused_rate_limit", 4),
        paused("paused_capacity", 7),
        Step::behave().delay(2 * SECOND),
    ];
    server.script("retrieve_future", polls).then_behave();
    let handle = sampler.sample(request(&[1]));
    // A snapshot takes what it shows: each tells by how much the gauges have moved since the one before.
    let moved = |seen: &[Seen], state: &str| {
        let of_state = seen.iter().filter(|seen| {
            seen.name == "tinkex_queue_state_requests" && seen.labels.iter().any(|(_, value)| value == state)
        });
        let moved = of_state.map(|seen| match &seen.value {
            DebugValue::Gauge(moved) => moved.into_inner(),
            other => panic!("not a gauge: {other:?}"),
        });
        moved.sum::<f64>()
    };
    let name = "tinkex_queue_state_duration_seconds";
    sleep(6 * SECOND).await;
    let limited = seen(&recorder.snapshotter());
    assert_eq!(moved(&limited, "paused_rate_limit"), 1.0);
    sleep(7 * SECOND).await;
    let short = seen(&recorder.snapshotter());
    assert_eq!((moved(&short, "paused_rate_limit"), moved(&short, "paused_capacity")), (-1.0, 1.0));
    near(&durations(&short, name, "paused_rate_limit"), &[11.0]);
    handle.await.unwrap();
    let done = seen(&recorder.snapshotter());
    assert_eq!(moved(&done, "paused_capacity"), -1.0);
    near(&durations(&done, name, "paused_capacity"), &[2.0]);
    let all = [limited, short, done];
    let active = |seen: &Vec<Seen>| durations(seen, name, "active").is_empty();
    assert!(all.iter().all(active), "a result is not a state");
}

/// A sample that waits for its place, and one that is dropped: the wait before the submission, the whole time, and how it
/// ended.
#[tokio::test(start_paused = true)]
async fn requests_are_timed_from_their_call() {
    let recorder = DebuggingRecorder::new();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let behind = Service::default();
    behind.set_latency(3 * SECOND);
    let server = FakeServer::with(behind);
    let client = harness::service(&server).await;
    let sampler = client.sampling_client().base_model(MODEL).max_in_flight(1).create().await.unwrap();
    let first = sampler.sample(request(&[1]));
    let second = sampler.sample(request(&[2]));
    let third = sampler.sample(request(&[3]));
    sleep(SECOND).await;
    drop(third);
    first.await.unwrap();
    second.await.unwrap();
    let seen = seen(&recorder.snapshotter());
    // The dropped one never came to its submission.
    near(&durations(&seen, "tinkex_request_queue_seconds", "Sample"), &[0.0, 1.0, 3.0]);
    near(&durations(&seen, "tinkex_request_duration_seconds", "ok"), &[3.0, 6.0]);
    near(&durations(&seen, "tinkex_request_duration_seconds", "abandoned"), &[1.0]);
}

/// A deadline is told when it passes, although the submission is still on the wire: that is the time that is recorded, and
/// it is no abandonment.
#[tokio::test(start_paused = true)]
async fn a_deadline_is_timed_by_what_the_caller_sees() {
    let recorder = DebuggingRecorder::new();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let (server, _client, sampler) = harness::in_front_of(&Service::default()).await;
    server.script("asample", [Step::behave().delay(9 * SECOND)]).then_behave();
    let options = SampleOptions::default().deadline(2 * SECOND);
    sampler.sample_with(request(&[1]), options).await.unwrap_err();
    sleep(10 * SECOND).await;
    let seen = seen(&recorder.snapshotter());
    near(&durations(&seen, "tinkex_request_duration_seconds", "deadline"), &[2.0]);
    assert!(durations(&seen, "tinkex_request_duration_seconds", "abandoned").is_empty());
    assert_eq!(gauges(&seen)["tinkex_requests_in_flight"], 0.0);
}

/// An operation whose handle was dropped: detached where its submission succeeds, failed where that fails.
#[tokio::test(start_paused = true)]
async fn detached_operations_are_told_from_failed_ones() {
    let recorder = DebuggingRecorder::new();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let (server, _client, trainer) = harness::trainer_of(&Service::default()).await;
    let refused = Step::status(422).json_body(json!({ "detail": "no" }));
    server.script("optim_step", [Step::behave(), refused]).then_behave();
    drop(trainer.optim_step(AdamParams::new(1e-3)));
    drop(trainer.optim_step(AdamParams::new(1e-3)));
    sleep(10 * SECOND).await;
    let seen = seen(&recorder.snapshotter());
    let of = |outcome| durations(&seen, "tinkex_request_duration_seconds", outcome).len();
    assert_eq!((of("detached"), of("failed")), (1, 1));
}

/// Every value that the crates can put into a label is in the contract.
#[test]
fn every_label_value_is_in_the_contract() {
    let values = |name: &str| {
        let labels = contract::ALL.iter().flat_map(|metric| metric.labels);
        labels.filter(|label| label.name == name).map(|label| label.values).collect::<Vec<_>>()
    };
    let allowed = |name: &str, value: &str| values(name).iter().any(|values| values.allow(value));
    for kind in [
        RequestType::CreateModel,
        RequestType::Forward,
        RequestType::ForwardBackward,
        RequestType::OptimStep,
        RequestType::SaveWeights,
        RequestType::SaveWeightsForSampler,
        RequestType::SaveWeightsExternal,
        RequestType::LoadWeights,
        RequestType::Sample,
        RequestType::CreateCustomLoss,
        RequestType::UnloadModel,
    ] {
        assert!(allowed("request_type", kind.as_str()), "{kind}");
    }
    for state in [QueueState::Active, QueueState::PausedRateLimit, QueueState::PausedCapacity] {
        assert!(allowed("state", state.label()), "{state}");
    }
    assert!(allowed("state", QueueState::Unknown("x".into()).label()));
    for client in [ClientKind::Sampling, ClientKind::Training, ClientKind::ModelCreation] {
        assert!(allowed("client", client.label()));
    }
    for stage in [Stage::Queued, Stage::Submitting, Stage::Polling] {
        assert!(allowed("stage", &stage.to_string()));
    }
    for cause in [
        RetryCause::Throttled,
        RetryCause::Billing,
        RetryCause::Timeout,
        RetryCause::Conflict,
        RetryCause::Server,
        RetryCause::Connect,
        RetryCause::Interrupted,
        RetryCause::Edge,
        RetryCause::Asked,
    ] {
        assert!(allowed("cause", cause.label()), "{cause:?}");
    }
}

/// Tokens of prompts and of results, each once, whatever was repeated on the way.
#[tokio::test(start_paused = true)]
async fn tokens_are_counted_once() {
    let recorder = DebuggingRecorder::new();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let (server, client, sampler) = harness::in_front_of(&Service::default()).await;
    server.script("asample", [Step::status(503), Step::reset()]).then_behave();
    let reply = sampler.sample(request(&[1, 2, 3]).num_samples(2)).await.unwrap();
    training(&client).await;
    let sampled: usize = reply.sequences.iter().map(|sequence| sequence.tokens.len()).sum();
    let counters = seen(&recorder.snapshotter());
    let count = |name: &str, labels: &[&str]| {
        let wanted = |seen: &&Seen| {
            seen.name == name
                && seen.labels.iter().map(|(_, value)| value.as_str()).eq(labels.iter().copied())
        };
        match counters.iter().find(wanted).map(|seen| &seen.value) {
            Some(DebugValue::Counter(count)) => *count,
            other => panic!("{name} {labels:?}: {other:?}"),
        }
    };
    assert_eq!(count("tinkex_tokens_total", &["Sample", "in"]), 3);
    assert_eq!(count("tinkex_tokens_total", &["Sample", "out"]), sampled as u64);
    assert_eq!(count("tinkex_tokens_total", &["ForwardBackward", "in"]), 5);
    assert_eq!(count("tinkex_training_steps_total", &[]), 1);
}
