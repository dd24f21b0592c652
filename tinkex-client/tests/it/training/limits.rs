//! How much of training is on its way at once, and who waits when the server refuses for now.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tinkex_client::losses::WeightedNll;
use tinkex_client::{LossFn, QueueState};
use tinkex_testkit::Step;
use tinkex_testkit::service::Service;
use tokio::time::Instant;

use super::adam;
use crate::harness::{MODEL, assert_within, example, trainer_of};

fn throttled() -> Step {
    Step::status(429).header("retry-after", "30")
}

/// C-2: a model that may not be created yet holds up no model in training, and neither does one model another.
#[tokio::test(start_paused = true)]
async fn a_refusal_concerns_one_model() {
    let (server, client, trainer) = trainer_of(&Service::default()).await;
    server.script("create_model", [throttled()]).then_behave();
    let begun = Instant::now();
    let creating = tokio::spawn(client.lora_training_client(MODEL).create());
    server.wait_for("create_model", 2).await;
    trainer.optim_step(adam()).await.unwrap();
    assert_within(begun.elapsed().as_secs_f64(), 0.0..=1.0, "a step while a creation is refused");
    let other = creating.await.unwrap().unwrap();
    assert_within(begun.elapsed().as_secs_f64(), 30.0..=38.0, "the creation");

    server.script("optim_step", [throttled()]).then_behave();
    let begun = Instant::now();
    let refused = trainer.optim_step(adam());
    server.wait_for("optim_step", 2).await;
    other.optim_step(adam()).await.unwrap();
    let third = client.lora_training_client(MODEL).create().await.unwrap();
    third.optim_step(adam()).await.unwrap();
    assert_within(begun.elapsed().as_secs_f64(), 0.0..=1.0, "another model while one is refused");
    refused.await.unwrap();
    assert_within(begun.elapsed().as_secs_f64(), 30.0..=38.0, "the one that was refused");
}

/// Of operations that were started without awaiting, all are submitted, and the 64 oldest are polled.
#[tokio::test(start_paused = true)]
async fn polls_at_once_are_limited() {
    let service = Service::default();
    let (server, client, trainer) = trainer_of(&service).await;
    service.pause(QueueState::PausedCapacity, None, None);
    let mut steps: Vec<_> = (0..300).map(|_| trainer.optim_step(adam())).collect();
    let before = server.requests("retrieve_future").len();
    server.wait_for("optim_step", 300).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = || -> BTreeSet<String> {
        let polls = server.requests("retrieve_future");
        polls[before..]
            .iter()
            .map(|poll| poll.json().unwrap()["request_id"].as_str().unwrap().to_owned())
            .collect()
    };
    let oldest = || steps.iter().take(64).flat_map(|step| step.request_ids()).map(|id| id.to_string());
    assert_eq!(server.in_flight("retrieve_future"), 64);
    assert_eq!(asked(), oldest().collect());
    assert_eq!(client.inflight().len(), 300);

    // Places of those that nobody waits for any more go to the next.
    drop(steps.drain(..10));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.in_flight("retrieve_future"), 64);
    assert!(steps.iter().take(64).all(|step| asked().contains(&*step.request_ids()[0])));
    service.resume();
    for step in steps {
        step.await.unwrap();
    }
    assert_eq!(server.max_in_flight("retrieve_future"), 64);
    assert_eq!(service.run(trainer.model_id()).unwrap().steps, 300);
}

/// A batch of more chunks than are polled at once, with a loss of one's own, which polls within its turn.
#[tokio::test(start_paused = true)]
async fn a_batch_of_many_chunks_is_fetched_in_part_after_part() {
    let service = Service::default();
    service.set_client_config(&json!({"fwdbwd_max_chunk_len": 1}));
    let (server, _client, trainer) = trainer_of(&service).await;
    service.set_latency(Duration::from_secs(1));
    let data = || vec![example("abcd"); 150];
    let behind: Vec<_> = (0..100).map(|_| trainer.optim_step(adam())).collect();
    let pass = trainer.forward_backward(data(), LossFn::CrossEntropy);
    let custom = trainer.forward_backward_custom(data(), WeightedNll);
    assert_eq!(custom.await.unwrap().loss_fn_outputs.len(), 150);
    assert_eq!(pass.await.unwrap().loss_fn_outputs.len(), 150);
    for step in behind {
        step.await.unwrap();
    }
    assert_eq!(server.max_in_flight("retrieve_future"), 64);
}

/// The first pass of a service finds out the wire form. Told to wait, it keeps no other model waiting.
#[tokio::test(start_paused = true)]
async fn finding_out_the_form_holds_up_no_other_model() {
    let service = Service::default();
    let (server, client, first) = trainer_of(&service).await;
    let other = client.lora_training_client(MODEL).create().await.unwrap();
    let model = first.model_id().to_owned();
    let of_first = move |r: &tinkex_testkit::Received| super::pass(r).model_id == model;
    let throttled = throttled().repeat(100_000);
    server.script_when("forward_backward", of_first, [throttled]);
    let stuck = first.forward_backward([example("abcd")], LossFn::CrossEntropy);
    server.wait_for("forward_backward", 1).await;
    let pass = other.forward_backward([example("abcd")], LossFn::CrossEntropy);
    tokio::time::timeout(Duration::from_secs(60), pass).await.unwrap().unwrap();
    drop(stuck);
}

/// A model that is told to wait keeps its own bytes, not those of others.
#[tokio::test(start_paused = true)]
async fn the_byte_budget_is_a_clients_own() {
    let service = Service::default();
    let flags = json!({"fwdbwd_dispatch_bytes_semaphore_size": 50, "fwdbwd_max_chunk_len": 1});
    service.set_client_config(&flags);
    let (server, client, first) = trainer_of(&service).await;
    let other = client.lora_training_client(MODEL).create().await.unwrap();
    first.forward([example("ab")], LossFn::CrossEntropy).await.unwrap();
    let model = first.model_id().to_owned();
    let of_first = move |r: &tinkex_testkit::Received| super::pass(r).model_id == model;
    let throttled = throttled().repeat(100_000);
    server.script_when("forward_backward", of_first, [throttled]);
    let stuck = first.forward_backward(vec![example("abcdefghijkl"); 8], LossFn::CrossEntropy);
    server.wait_for("forward_backward", 2).await;
    let pass = other.forward_backward([example("abcd")], LossFn::CrossEntropy);
    tokio::time::timeout(Duration::from_secs(60), pass).await.unwrap().unwrap();
    drop(stuck);
}
