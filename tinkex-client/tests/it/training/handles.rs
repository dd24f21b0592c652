//! Handles: what dropping one means, and what is refused without being sent.

use std::time::Duration;

use tinkex_client::{
    AdamParams, Datum, ErrorKind, FinishReason, LossFn, ModelInput, RequestType, SaveState, Stage,
    TrainingClient, WireFormat,
};
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, Gate, Step};
use tracing::Level;

use super::{adam, arrivals};
use crate::harness::{self, example, trainer_of};
use crate::log_capture::LogCapture;

/// A dropped handle detaches its operation: it reaches the server in its turn, and its result is not fetched.
#[tokio::test(start_paused = true)]
async fn dropping_a_handle_detaches_the_operation() {
    let service = Service::default();
    let (server, client, trainer) = trainer_of(&service).await;
    let gate = Gate::new();
    server.script("forward_backward", [Step::behave().gate(&gate)]).then_behave();
    let pass = trainer.forward_backward([example("abcd")], LossFn::CrossEntropy);
    gate.arrived(1).await;
    // One is dropped on the wire, one in the queue.
    drop(pass);
    drop(trainer.optim_step(adam()));
    let saved = trainer.save_state("after");
    assert_eq!(client.inflight().len(), 3);
    gate.open();
    saved.await.unwrap();
    assert_eq!(arrivals(&server), ["forward_backward 1", "optim_step 2", "save_weights 3"]);
    let polled: Vec<_> = server
        .requests("retrieve_future")
        .iter()
        .map(|poll| poll.header("x-tinker-request-type").unwrap().to_owned())
        .filter(|kind| kind != "CreateModel")
        .collect();
    assert!(polled.iter().all(|kind| kind == "SaveWeights"), "{polled:?}");
    assert_eq!(service.run(trainer.model_id()).unwrap().executed, [1, 2, 3]);
    assert!(client.inflight().is_empty());
}

/// Dropped while it is polled: the poll ends, and the operation stays what it is.
#[tokio::test(start_paused = true)]
async fn dropping_a_polled_handle_ends_the_poll() {
    let (log, _guard) = LogCapture::start();
    let service = Service::default();
    let (server, client, trainer) = trainer_of(&service).await;
    server.script("retrieve_future", [Step::hang()]).then_behave();
    let step = trainer.optim_step(adam());
    server.wait_for("retrieve_future", 2).await;
    assert_eq!(step.request_ids().len(), 1);
    drop(step);
    server.wait_for_in_flight("retrieve_future", 0).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(client.inflight().is_empty());
    assert_eq!(service.run(trainer.model_id()).unwrap().steps, 1);
    let said = log.messages(Level::DEBUG).into_iter().filter(|text| text.contains("detached"));
    let said: Vec<_> = said.collect();
    assert!(said.len() == 1 && said[0].contains("its handle was dropped"), "{said:?}");
    assert!(!said[0].contains("runtime"), "{said:?}");
}

/// Arguments that no server accepts are refused in the call; they take no sequence id and hold nobody up.
#[tokio::test(start_paused = true)]
async fn unusable_arguments_are_refused_without_being_sent() {
    let service = Service::default();
    let (server, _client, trainer) = trainer_of(&service).await;
    let hour = Duration::from_secs(3600);
    let refused = [
        ("data", trainer.forward_backward(vec![], LossFn::CrossEntropy).await.map(drop).unwrap_err()),
        (
            "loss_fn_config",
            trainer
                .forward_backward(
                    [example("abcd")],
                    LossFn::CrossEntropy
                        .with_config([("x", f64::NAN)].into_iter().collect::<tinkex_client::LossFnConfig>()),
                )
                .await
                .map(drop)
                .unwrap_err(),
        ),
        ("learning_rate", trainer.optim_step(AdamParams::new(f64::NAN)).await.map(drop).unwrap_err()),
        ("name", trainer.save_state(" ").await.map(drop).unwrap_err()),
        ("ttl_seconds", trainer.save_state(SaveState::new("a").ttl(hour / 2)).await.map(drop).unwrap_err()),
        ("path", trainer.load_state(" ").await.unwrap_err()),
    ];
    for (field, error) in refused {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().starts_with(field), "{error}");
    }
    trainer.optim_step(adam()).await.unwrap();
    assert_eq!(arrivals(&server), ["optim_step 1"]);
}

/// Data that the form in use cannot say are found in their turn; the id goes to the next operation.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_takes_no_id() {
    let service = Service::default();
    let server = FakeServer::with(service);
    let client = harness::service(&server).await;
    let builder = client.lora_training_client(harness::MODEL).wire_format(WireFormat::Protobuf);
    let trainer = builder.create().await.unwrap();
    let asset = tinkex_client::Chunk::ImageAssetPointer(
        serde_json::from_value(serde_json::json!({"location": "asset", "format": "png"})).unwrap(),
    );
    let datum = Datum::new(ModelInput::new(vec![asset])).target_tokens([1]);
    let (bad, good) = (trainer.forward_backward([datum], LossFn::CrossEntropy), trainer.optim_step(adam()));
    assert_eq!(bad.await.unwrap_err().kind(), ErrorKind::InvalidInput);
    good.await.unwrap();
    assert_eq!(arrivals(&server), ["optim_step 1"]);
}

/// After `unload` nothing more is sent, on any clone; it comes after everything called before.
#[tokio::test(start_paused = true)]
async fn unloading_comes_last() {
    let service = Service::default();
    let (server, _client, trainer) = trainer_of(&service).await;
    let clone = trainer.clone();
    let gate = Gate::new();
    server.script("optim_step", [Step::behave().gate(&gate)]).then_behave();
    let step = trainer.optim_step(adam());
    let unload = trainer.unload();
    let later = clone.optim_step(adam());
    assert_eq!(later.await.unwrap_err().kind(), ErrorKind::Closed);
    gate.arrived(1).await;
    assert_eq!(server.count("unload_model"), 0);
    server.script("unload_model", [Step::status(400)]).then_behave();
    gate.open();
    step.await.unwrap();
    assert_eq!(unload.await.unwrap_err().status(), Some(400));
    clone.optim_step(adam()).await.expect("a client that could not be unloaded goes on");
    trainer.unload().await.unwrap();
    assert!(service.run(trainer.model_id()).unwrap().unloaded);
    assert_eq!(trainer.unload().await.unwrap_err().kind(), ErrorKind::Closed);
}

/// Closing the service refuses new operations; those queued go on, and their results are still to be had.
#[tokio::test(start_paused = true)]
async fn closing_the_service_lets_queued_operations_through() {
    let service = Service::default();
    let (server, client, trainer) = trainer_of(&service).await;
    let gate = Gate::new();
    server.script("optim_step", [Step::behave().gate(&gate)]).then_behave();
    server.script("sessions/*/finish", [Step::json(serde_json::json!({}))]);
    let (first, second) = (trainer.optim_step(adam()), trainer.optim_step(adam()));
    gate.arrived(1).await;
    let closing = tokio::spawn(async move { client.close(FinishReason::Success).await });
    tokio::task::yield_now().await;
    assert_eq!(trainer.optim_step(adam()).await.unwrap_err().kind(), ErrorKind::Closed);
    gate.open();
    first.await.unwrap();
    second.await.unwrap();
    closing.await.unwrap().unwrap();
}

/// F-30: when the runtime goes, every handle ends, queued, submitting or polling; dropping a long queue is no trouble.
#[test]
fn handles_end_with_the_runtime() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let service = Service::default();
    let (server, _client, trainer) = runtime.block_on(trainer_of(&service));
    server.script("optim_step", [Step::hang()]);
    let handles: Vec<_> = (0..10_000).map(|_| trainer.optim_step(adam())).collect();
    runtime.block_on(server.wait_for("optim_step", 1));
    drop(runtime);
    for handle in handles {
        assert_eq!(handle.wait().unwrap_err().kind(), ErrorKind::TaskEnded);
    }
    let late: TrainingClient = trainer.clone();
    assert_eq!(late.optim_step(adam()).wait().unwrap_err().kind(), ErrorKind::TaskEnded);
}

/// Waiting for the turn is visible in the table of requests in flight, with what it is.
#[tokio::test(start_paused = true)]
async fn the_table_shows_what_waits() {
    let service = Service::default();
    let (server, client, trainer) = trainer_of(&service).await;
    let gate = Gate::new();
    server.script("optim_step", [Step::behave().gate(&gate)]).then_behave();
    let (step, save) = (trainer.optim_step(adam()), trainer.save_weights_for_sampler("s"));
    gate.arrived(1).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let rows: Vec<_> =
        client.inflight().into_iter().map(|row| (row.kind, row.stage, row.client_id)).collect();
    let id: std::sync::Arc<str> = trainer.model_id().into();
    assert_eq!(
        rows,
        [
            (RequestType::OptimStep, Stage::Submitting, id.clone()),
            (RequestType::SaveWeightsForSampler, Stage::Queued, id)
        ]
    );
    gate.open();
    step.await.unwrap();
    save.await.unwrap();
}

/// Handles are `Send`, and small wherever they are kept.
#[test]
fn handles_are_send_and_small() {
    fn is_send<T: Send + 'static>() {}
    is_send::<tinkex_client::TrainingHandle<tinkex_client::ForwardBackwardOutput>>();
    fn is_shared<T: Send + Sync + Clone>() {}
    is_shared::<TrainingClient>();
    assert!(size_of::<tinkex_client::TrainingHandle<tinkex_client::ForwardBackwardOutput>>() <= 32);
}
