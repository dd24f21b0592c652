//! Closing the service while operations are on their way: what was called before is still submitted, within a limit.

use std::time::Duration;

use tinkex_client::losses::WeightedNll;
use tinkex_client::{Effect, ErrorKind, FinishReason, QueueState};
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, Gate, Step};
use tokio::time::Instant;

use super::{adam, arrivals};
use crate::harness::{assert_within, example, trainer_of};

/// The saves and the finish of the session, in order of arrival.
fn ending(server: &FakeServer) -> Vec<String> {
    let requests = server.all_requests();
    let routes = requests.iter().map(|request| request.route());
    let of_interest = routes.filter(|route| *route == "save_weights" || route.ends_with("/finish"));
    of_interest.map(|route| route.rsplit('/').next().unwrap_or_default().to_owned()).collect()
}

/// A detached save is with the server before the session is finished, also where it waits behind something else.
#[tokio::test(start_paused = true)]
async fn a_detached_save_comes_before_the_finish() {
    for held_up in [false, true] {
        let service = Service::default();
        let (server, client, trainer) = trainer_of(&service).await;
        let gate = Gate::new();
        if held_up {
            server.script("optim_step", [Step::behave().gate(&gate)]).then_behave();
            drop(trainer.optim_step(adam()));
        }
        drop(trainer.save_state("final"));
        let model_id = trainer.model_id().to_owned();
        let later = trainer.clone();
        drop(trainer);
        let closing = tokio::spawn(async move { client.close(FinishReason::Success).await });
        if held_up {
            gate.arrived(1).await;
            tokio::time::sleep(Duration::from_secs(20)).await;
            assert_eq!(later.optim_step(adam()).await.unwrap_err().kind(), ErrorKind::Closed);
            assert_eq!(ending(&server), [""; 0]);
            gate.open();
        }
        let begun = Instant::now();
        closing.await.unwrap().unwrap();
        assert_within(begun.elapsed().as_secs_f64(), 0.0..=0.1, "nothing is left to be waited for");
        assert_eq!(ending(&server), ["save_weights", "finish"], "{held_up}");
        tokio::time::sleep(Duration::from_secs(60)).await;
        let executed = service.run(&model_id).unwrap().executed.len();
        assert_eq!(executed, 1 + usize::from(held_up));
    }
}

/// A server that refuses for now, for ever: 30 s after `close` neither the operation that it refuses nor those behind
/// it are left, and nothing is sent any more.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_submitted_in_time_ends() {
    for (status, effect) in [(429, Effect::Nothing), (503, Effect::Unknown)] {
        let service = Service::default();
        let (server, client, trainer) = trainer_of(&service).await;
        server.script("optim_step", [Step::status(status).header("retry-after", "4")]).then_repeat_last();
        drop(trainer.optim_step(adam()));
        server.wait_for("optim_step", 1).await;
        assert_eq!(client.inflight().len(), 1);
        let (refused, behind) = (trainer.optim_step(adam()), trainer.save_state("final"));
        drop(trainer.save_state("never"));
        let begun = Instant::now();
        client.close(FinishReason::Interrupted).await.unwrap();
        assert_within(begun.elapsed().as_secs_f64(), 30.0..=30.1, "close");
        for error in [refused.await.unwrap_err(), behind.await.unwrap_err()] {
            assert_eq!((error.kind(), error.effect()), (ErrorKind::Closed, Some(Effect::Nothing)), "{error}");
            assert!(!error.is_retryable(), "{error}");
        }
        assert_eq!(ending(&server), ["finish"]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(*client.inflight(), []);
        let sent = server.all_requests().len();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(server.all_requests().len(), sent);

        // The same for one whose handle is kept: it says what it has left at the server.
        let (server, client, trainer) = trainer_of(&service).await;
        server.script("optim_step", [Step::status(status).header("retry-after", "4")]).then_repeat_last();
        let step = trainer.optim_step(adam());
        server.wait_for("optim_step", 1).await;
        client.close(FinishReason::Interrupted).await.unwrap();
        let error = step.await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Closed, Some(effect)), "{error}");
        assert!(error.to_string().contains("closed"), "{error}");
    }
}

/// The limit counts from the first `close`, also where that one is dropped.
#[tokio::test(start_paused = true)]
async fn a_close_that_is_dropped_sets_the_limit_all_the_same() {
    let service = Service::default();
    let (server, client, trainer) = trainer_of(&service).await;
    server.script("save_weights", [Step::status(429).header("retry-after", "2")]).then_repeat_last();
    let save = trainer.save_state("final");
    let begun = Instant::now();
    let dropped = tokio::time::timeout(Duration::from_secs(10), client.close(FinishReason::Success)).await;
    assert!(dropped.is_err());
    assert_eq!(save.await.unwrap_err().kind(), ErrorKind::Closed);
    assert_within(begun.elapsed().as_secs_f64(), 30.0..=30.1, "the save");
    client.close(FinishReason::Success).await.unwrap();
    assert_within(begun.elapsed().as_secs_f64(), 30.0..=30.2, "nothing is waited for twice");
    assert_eq!(ending(&server).last().map(String::as_str), Some("finish"));
}

/// A step with a loss of one's own waits for its forward pass before it sends its gradient; that wait ends too.
#[tokio::test(start_paused = true)]
async fn a_custom_loss_that_waits_for_its_forward_pass_ends() {
    let service = Service::default();
    let (server, client, trainer) = trainer_of(&service).await;
    service.pause(QueueState::PausedCapacity, None, None);
    drop(trainer.forward_backward_custom([example("abcd")], WeightedNll));
    let behind = trainer.optim_step(adam());
    server.wait_for("forward_backward", 1).await;
    let begun = Instant::now();
    client.close(FinishReason::Interrupted).await.unwrap();
    assert_within(begun.elapsed().as_secs_f64(), 30.0..=30.1, "close");
    assert_eq!(behind.await.unwrap_err().kind(), ErrorKind::Closed);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*client.inflight(), []);
    assert_eq!(arrivals(&server), ["forward_backward 1"]);
}
