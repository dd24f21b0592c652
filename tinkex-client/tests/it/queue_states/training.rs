//! Every poll site of training: what pauses write, and whom they are told (S2-04, QS-2).

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tinkex_client::{
    AdamParams, ClientKind, LossFn, QueueState, QueueStateChange, RequestType, ServiceClient, TrainingClient,
    losses::WeightedNll,
};
use tinkex_testkit::service::{Dialect, Service};
use tinkex_testkit::{FakeServer, Received, Step};
use tracing::Level;

use super::{Changes, PATIENCE};
use crate::harness::{self, MODEL, example};
use crate::log_capture::{Line, LogCapture};

/// A pause as an answer tells it, and the reason that the line gives for it.
struct Pause {
    status: u16,
    state: &'static str,
    server_reason: Option<&'static str>,
    reason: &'static str,
}

const PAUSES: [Pause; 3] = [
    Pause {
        status: 200,
        state: "paused_rate_limit",
        server_reason: None,
        reason: "concurrent models rate limit hit",
    },
    Pause { status: 408, state: "paused_capacity", server_reason: None, reason: "out of capacity" },
    Pause {
        status: 408,
        state: "paused_rate_limit",
        server_reason: Some("3 of 3 trainers are busy"),
        reason: "3 of 3 trainers are busy",
    },
];

impl Pause {
    fn step(&self) -> Step {
        let body = json!({
            "type": "try_again", "request_id": "any",
            "queue_state": self.state, "queue_state_reason": self.server_reason,
        });
        Step::status(self.status).json_body(body)
    }

    /// The only line of a client, its fields and all.
    #[track_caller]
    fn assert_line(&self, lines: &[Line], client: ClientKind, id: &str, site: &str) {
        assert_eq!(lines.len(), 1, "{site}: {lines:?}");
        let (line, what) = (
            &lines[0],
            match client {
                ClientKind::ModelCreation => "Model creation",
                _ => "Training",
            },
        );
        assert_eq!(line.message, format!("{what} is paused for {id}. Reason: {}", self.reason), "{site}");
        assert_eq!((line.level, line.target.as_str()), (Level::WARN, "tinkex_observer"), "{site}");
        let fields: Vec<_> =
            line.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected =
            [("client", client.label()), ("id", id), ("queue_state", self.state), ("reason", self.reason)];
        assert_eq!(fields, expected, "{site}");
    }

    /// The pause and its end, of one promise, as a user observer is told them.
    #[track_caller]
    fn assert_changes(
        &self,
        changes: &[QueueStateChange],
        client: ClientKind,
        id: &str,
        kind: RequestType,
        site: &str,
    ) {
        let states: Vec<_> = changes.iter().map(|change| change.state.as_str()).collect();
        assert_eq!(states, [self.state, "active"], "{site}");
        assert_eq!(changes[0].reason.as_deref(), self.server_reason, "{site}");
        for change in changes {
            assert_eq!(
                (change.client, &*change.client_id, change.request_type),
                (client, id, kind),
                "{site}"
            );
            assert!(change.is_transition() && !change.request_id.is_empty(), "{site}: {change:?}");
        }
        assert_eq!(changes[0].request_id, changes[1].request_id, "{site}");
    }
}

/// Answers the first two polls for a result of this kind with a pause.
fn pause_polls(server: &FakeServer, kind: RequestType, pause: &Pause) {
    let of_this_kind =
        move |request: &Received| request.header("x-tinker-request-type") == Some(kind.as_str());
    server.script_when("retrieve_future", of_this_kind, [pause.step().repeat(2)]).then_behave();
}

async fn trainer(client: &ServiceClient) -> TrainingClient {
    client.lora_training_client(MODEL).rank(2).create().await.unwrap()
}

/// Carries an operation out that polls for a result of this kind. `site` tells apart those of one kind.
async fn operate(trainer: &TrainingClient, site: &str, checkpoint: &str) {
    let data = || vec![example("abcd")];
    match site {
        "forward" => drop(trainer.forward(data(), LossFn::CrossEntropy).await.unwrap()),
        "forward_backward" => drop(trainer.forward_backward(data(), LossFn::CrossEntropy).await.unwrap()),
        "optim_step" => drop(trainer.optim_step(AdamParams::new(1e-3)).await.unwrap()),
        "save_state" => drop(trainer.save_state("saved").await.unwrap()),
        "load_state" => trainer.load_state(checkpoint).await.unwrap(),
        "load_state_with_optimizer" => trainer.load_state_with_optimizer(checkpoint).await.unwrap(),
        "save_weights_for_sampler" => drop(trainer.save_weights_for_sampler("named").await.unwrap()),
        "snapshot" => drop(trainer.save_weights_and_get_sampling_client().await.unwrap()),
        "save_weights_external" => drop(trainer.save_weights_external("exported").await.unwrap()),
        "custom loss, forward" | "custom loss, backward" => {
            drop(trainer.forward_backward_custom(data(), WeightedNll).await.unwrap());
        }
        "unload" => trainer.unload().await.unwrap(),
        other => panic!("unknown site {other}"),
    }
}

/// S2-04, QS-2: at each site a pause writes one line, in all its forms, and the user's observer is told of the pause and
/// of its end, whereas the result is what it would have been.
#[tokio::test(start_paused = true)]
async fn every_operation_tells_of_its_pause() {
    for (site, kind) in [
        ("forward", RequestType::Forward),
        ("forward_backward", RequestType::ForwardBackward),
        ("optim_step", RequestType::OptimStep),
        ("save_state", RequestType::SaveWeights),
        ("load_state", RequestType::LoadWeights),
        ("load_state_with_optimizer", RequestType::LoadWeights),
        ("save_weights_for_sampler", RequestType::SaveWeightsForSampler),
        ("snapshot", RequestType::SaveWeightsForSampler),
        ("save_weights_external", RequestType::SaveWeightsExternal),
        ("custom loss, forward", RequestType::Forward),
        ("custom loss, backward", RequestType::ForwardBackward),
        ("unload", RequestType::UnloadModel),
    ] {
        for pause in &PAUSES {
            let (log, _guard) = LogCapture::start();
            let server = FakeServer::new();
            let client = harness::service(&server).await;
            let changes = Changes::default();
            let builder = client.lora_training_client(MODEL).rank(2).queue_state_observer(changes.clone());
            let trainer = builder.create().await.unwrap();
            let checkpoint = trainer.save_state("before").await.unwrap().path;
            pause_polls(&server, kind, pause);
            operate(&trainer, site, &checkpoint).await;
            server.verify().unwrap();
            let id = trainer.model_id();
            pause.assert_line(&log.pauses(), ClientKind::Training, id, site);
            assert!(trainer.flush_observers(PATIENCE));
            pause.assert_changes(&changes.all(), ClientKind::Training, id, kind, site);
        }
    }
}

/// S2-04: a model in creation is told of by its base model.
#[tokio::test(start_paused = true)]
async fn creation_tells_of_its_pause() {
    for pause in &PAUSES {
        let (log, _guard) = LogCapture::start();
        let server = FakeServer::new();
        let client = harness::service(&server).await;
        let changes = Changes::default();
        pause_polls(&server, RequestType::CreateModel, pause);
        let builder = client.lora_training_client(MODEL).queue_state_observer(changes.clone());
        let trainer = builder.create().await.unwrap();
        server.verify().unwrap();
        pause.assert_line(&log.pauses(), ClientKind::ModelCreation, MODEL, "create_model");
        assert!(trainer.flush_observers(PATIENCE));
        let kind = RequestType::CreateModel;
        pause.assert_changes(&changes.all(), ClientKind::ModelCreation, MODEL, kind, "create_model");
    }
}

/// S2-04: a model that is created by loading is told of by its id; where it is created first, each step has its line.
#[tokio::test(start_paused = true)]
async fn creation_from_a_checkpoint_tells_of_its_pause() {
    for pause in &PAUSES {
        for dialect in
            [Dialect::production(), Dialect { create_from_checkpoint: false, ..Dialect::production() }]
        {
            let model_first = !dialect.create_from_checkpoint;
            let server = FakeServer::with(Service::new(dialect));
            let client = harness::service(&server).await;
            let checkpoint = trainer(&client).await.save_state("before").await.unwrap();
            let (log, _guard) = LogCapture::start();
            let changes = Changes::default();
            pause_polls(&server, RequestType::LoadWeights, pause);
            if model_first {
                pause_polls(&server, RequestType::CreateModel, pause);
            }
            let builder = client.training_client_from_state(checkpoint).queue_state_observer(changes.clone());
            let resumed = builder.create().await.unwrap();
            server.verify().unwrap();
            let mut lines = log.pauses();
            let last = lines.split_off(lines.len() - 1);
            pause.assert_line(&last, ClientKind::ModelCreation, resumed.model_id(), "load_weights");
            assert!(resumed.flush_observers(PATIENCE));
            let mut told = changes.all();
            let of_loading = told.split_off(told.len() - 2);
            let (creation, kind) = (ClientKind::ModelCreation, RequestType::LoadWeights);
            pause.assert_changes(&of_loading, creation, resumed.model_id(), kind, "load_weights");
            if model_first {
                pause.assert_line(&lines, creation, MODEL, "create_model");
                pause.assert_changes(&told, creation, MODEL, RequestType::CreateModel, "create_model");
            } else {
                assert!(lines.is_empty() && told.is_empty(), "{lines:?}, {told:?}");
            }
        }
    }
}

/// QS-2, S2-12, S2-25: all operations of a client that are paused together write one line, and another when a minute
/// is over; its clones share it, another client has its own, and each operation's observer hears of its own pause.
#[tokio::test(start_paused = true)]
async fn operations_of_a_client_share_one_line() {
    let (log, _guard) = LogCapture::start();
    let service = Service::default();
    let server = FakeServer::with(service.clone());
    let client = harness::service(&server).await;
    let changes = Changes::default();
    let builder = client.lora_training_client(MODEL).rank(2).queue_state_observer(changes.clone());
    let first = builder.create().await.unwrap();
    let second = trainer(&client).await;
    let checkpoint = first.save_state("before").await.unwrap().path;
    let minutes = |count: u64| Duration::from_secs(60 * count);
    service.pause(QueueState::PausedCapacity, None, Some(minutes(1) - Duration::from_secs(5)));
    let clone = first.clone();
    let sites = ["forward", "optim_step", "save_state", "snapshot", "load_state", "custom loss, backward"];
    let operations = sites.map(|site| operate(&clone, site, &checkpoint));
    let (_, ()) = tokio::join!(join_all(operations), operate(&second, "optim_step", &checkpoint));
    let line = |trainer: &TrainingClient| {
        format!("Training is paused for {}. Reason: out of capacity", trainer.model_id())
    };
    let mut expected = vec![line(&first), line(&second)];
    let mut texts = log.pause_texts();
    texts.sort();
    assert_eq!(texts, expected);
    assert!(first.flush_observers(PATIENCE));
    let of_request =
        |change: &QueueStateChange| (change.request_id.clone(), change.state.as_str().to_owned());
    let mut told: Vec<_> = changes.all().iter().map(of_request).collect();
    told.sort();
    told.dedup();
    assert_eq!(told.len(), changes.all().len(), "each transition of each promise once");
    // The backward pass comes after the pause.
    assert_eq!(told.len(), 2 * sites.len());

    tokio::time::sleep(minutes(1)).await;
    service.pause(QueueState::PausedCapacity, None, Some(Duration::from_secs(5)));
    operate(&first, "optim_step", &checkpoint).await;
    expected.push(line(&first));
    let mut texts = log.pause_texts();
    texts.sort();
    expected.sort();
    assert_eq!(texts, expected);
}
