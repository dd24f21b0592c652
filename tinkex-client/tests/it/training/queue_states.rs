//! Pauses, as training and the creation of models tell them (S2-04, QS-2).

use serde_json::json;
use tinkex_client::{LossFn, QueueState, QueueStateObserver, SamplingSnapshot, TrainingClient};
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, Step};

use super::adam;
use crate::harness::{self, MODEL, example, trainer_of};
use crate::log_capture::LogCapture;

const RATE: &str = "concurrent models rate limit hit";

fn paused() -> Step {
    Step::status(408).json_body(json!({"queue_state": "paused_rate_limit"}))
}

async fn pass(trainer: &TrainingClient) {
    trainer.forward_backward([example("abcd")], LossFn::CrossEntropy).await.unwrap();
}

/// S2-04, QS-2: every operation tells its pause as training of the model, one line each.
#[tokio::test(start_paused = true)]
async fn every_operation_tells_of_its_pause() {
    for operation in [
        "forward",
        "forward_backward",
        "optim_step",
        "save_state",
        "save_weights_for_sampler",
        "snapshot",
        "external",
        "load_state",
        "load_state_with_optimizer",
        "unload",
    ] {
        let (log, _guard) = LogCapture::start();
        let service = Service::default();
        let (server, _client, trainer) = trainer_of(&service).await;
        let checkpoint = trainer.save_state("before").await.unwrap();
        server.script("retrieve_future", [paused().repeat(2)]).then_behave();
        match operation {
            "forward" => drop(trainer.forward([example("abcd")], LossFn::CrossEntropy).await.unwrap()),
            "forward_backward" => pass(&trainer).await,
            "optim_step" => drop(trainer.optim_step(adam()).await.unwrap()),
            "save_state" => drop(trainer.save_state("a").await.unwrap()),
            "save_weights_for_sampler" => drop(trainer.save_weights_for_sampler("a").await.unwrap()),
            "snapshot" => drop(trainer.sampling_snapshot(SamplingSnapshot::new()).await.unwrap()),
            "external" => drop(trainer.save_weights_external("a").await.unwrap()),
            "load_state" => trainer.load_state(checkpoint).await.unwrap(),
            "load_state_with_optimizer" => trainer.load_state_with_optimizer(checkpoint).await.unwrap(),
            _ => trainer.unload().await.unwrap(),
        }
        let expected = format!("Training is paused for {}. Reason: {RATE}", trainer.model_id());
        assert_eq!(log.pause_texts(), [expected], "{operation}");
    }
}

/// One clock for all operations of a client: two that are paused at once write one line.
#[tokio::test(start_paused = true)]
async fn operations_of_a_client_share_its_clock() {
    let (log, _guard) = LogCapture::start();
    let service = Service::default();
    let (server, client, trainer) = trainer_of(&service).await;
    server.script("retrieve_future", [paused().repeat(4)]).then_behave();
    let handles = [trainer.optim_step(adam()), trainer.optim_step(adam())];
    for handle in handles {
        handle.await.unwrap();
    }
    assert_eq!(log.pauses().len(), 1);
    let other = client.lora_training_client(MODEL).create().await.unwrap();
    server.script("retrieve_future", [paused()]).then_behave();
    other.optim_step(adam()).await.unwrap();
    assert_eq!(log.pauses().len(), 2, "another client has a clock of its own");
}

/// The creation of a model is told as such, by its base model; a creation by loading by the id of the model.
#[tokio::test(start_paused = true)]
async fn creation_tells_of_its_pause() {
    let (log, _guard) = LogCapture::start();
    let server = FakeServer::new();
    let client = harness::service(&server).await;
    server.script("retrieve_future", [paused().repeat(2)]).then_behave();
    let trainer = client.lora_training_client(MODEL).create().await.unwrap();
    let texts = log.pause_texts();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0].contains(MODEL) && texts[0].contains("paused"), "{texts:?}");
    let checkpoint = trainer.save_state("a").await.unwrap();
    server.script("retrieve_future", [paused().repeat(2)]).then_behave();
    let resumed = client.training_client_from_state(checkpoint).create().await.unwrap();
    let texts = log.pause_texts();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts[1].contains(resumed.model_id()), "{texts:?}");
}

/// C-5: a submission that is refused for now with a queue state tells it, and that it is over once it is taken in.
#[tokio::test(start_paused = true)]
async fn a_refused_submission_tells_its_state() {
    #[derive(Clone, Default)]
    struct Told(std::sync::Arc<std::sync::Mutex<Vec<QueueState>>>);
    impl QueueStateObserver for Told {
        fn on_queue_state_change(&self, state: QueueState) {
            self.0.lock().unwrap().push(state);
        }
    }
    let (log, _guard) = LogCapture::start();
    let server = FakeServer::new();
    let client = harness::service(&server).await;
    let told = Told::default();
    let builder = client.lora_training_client(MODEL).queue_state_observer(told.clone());
    let trainer = builder.create().await.unwrap();
    let limited =
        json!({"detail": "slow down", "queue_state": "paused_capacity", "queue_state_reason": "calm"});
    let limited = Step::status(429).header("retry-after", "2").json_body(limited);
    server.script("forward_backward", [limited.repeat(2)]).then_behave();
    pass(&trainer).await;
    assert_eq!(log.pause_texts(), [format!("Training is paused for {}. Reason: calm", trainer.model_id())]);
    assert!(trainer.flush_observers(std::time::Duration::from_secs(30)));
    assert_eq!(*told.0.lock().unwrap(), [QueueState::PausedCapacity, QueueState::Active]);
}
