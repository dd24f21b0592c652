//! Pauses that submissions are refused with. Those of polls are in `queue_states/training.rs`.

use serde_json::json;
use tinkex_client::{LossFn, QueueState, QueueStateObserver};
use tinkex_testkit::{FakeServer, Step};

use crate::harness::{self, MODEL, example};
use crate::log_capture::LogCapture;

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
    trainer.forward_backward([example("abcd")], LossFn::CrossEntropy).await.unwrap();
    assert_eq!(log.pause_texts(), [format!("Training is paused for {}. Reason: calm", trainer.model_id())]);
    assert!(trainer.flush_observers(std::time::Duration::from_secs(30)));
    assert_eq!(*told.0.lock().unwrap(), [QueueState::PausedCapacity, QueueState::Active]);
}
