//! Batches of several chunks (PROTOCOL 12.5, TR-1).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tinkex_client::{Datum, Effect, ErrorCategory, LossFn, TrainingClient};
use tinkex_testkit::service::{Dialect, Service, TrainingOrder};
use tinkex_testkit::{FakeServer, Gate, Received, Step};
use tokio::time::Instant;

use super::{adam, arrivals, hasty_of, id, ids, is_filler, pass};
use crate::harness::{assert_within, example, trainer_of};

/// Chunks of two.
fn in_pairs() -> Service {
    let service = Service::default();
    service.set_client_config(&json!({"fwdbwd_max_chunk_len": 2}));
    service
}

fn data(count: usize) -> Vec<Datum> {
    (0..count).map(|n| example(&format!("example {n}"))).collect()
}

async fn loss_of(trainer: &TrainingClient, count: usize) -> f64 {
    trainer.forward(data(count), LossFn::CrossEntropy).await.unwrap().loss().unwrap()
}

fn sizes(server: &FakeServer) -> Vec<(u64, usize)> {
    server
        .requests("forward_backward")
        .iter()
        .map(|request| (id(request), pass(request).data.len()))
        .collect()
}

/// All chunks but the first go out at once; the first follows when they are accepted; the next operation after that.
#[tokio::test(start_paused = true)]
async fn the_first_chunk_goes_last() {
    let service = in_pairs();
    let (server, _client, trainer) = trainer_of(&service).await;
    // The service's first pass finds out the form, one request at a time.
    loss_of(&trainer, 1).await;
    let gate = Gate::new();
    server.script("forward_backward", [Step::behave().gate(&gate).repeat(2)]).then_behave();
    let batch = trainer.forward_backward(data(5), LossFn::CrossEntropy);
    let step = trainer.optim_step(adam());
    gate.arrived(2).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(sizes(&server)[1..], [(3, 2), (4, 1)]);
    gate.release(1);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(server.count("forward_backward"), 3, "the first waits for all others");
    gate.open();
    let output = batch.await.unwrap();
    step.await.unwrap();
    assert_eq!(sizes(&server)[1..], [(3, 2), (4, 1), (2, 2)]);
    assert_eq!(ids(&server, "optim_step"), [5]);
    let lengths: Vec<_> =
        output.loss_fn_outputs.iter().map(|output| output.logprobs().unwrap().len()).collect();
    assert_eq!(lengths, [8; 5], "in the order of the data");
    assert_eq!(service.run(trainer.model_id()).unwrap().executed, [1, 2, 3, 4, 5]);
}

/// However a batch is cut and sent, its result is the same.
#[tokio::test(start_paused = true)]
async fn chunks_make_no_difference() {
    let mut losses = Vec::new();
    for flags in [
        json!({}),
        json!({"fwdbwd_max_chunk_len": 2}),
        json!({"fwdbwd_max_chunk_len": 2, "parallel_fwdbwd_chunks": false}),
        json!({"fwdbwd_max_chunk_len": 1, "proto_compress_fwdbwd": true}),
        json!({"fwdbwd_max_chunk_bytes_count": 300, "fwdbwd_dispatch_bytes_semaphore_size": 0}),
    ] {
        let service = Service::default();
        service.set_client_config(&flags);
        let (server, _client, trainer) = trainer_of(&service).await;
        let output = trainer.forward_backward(data(5), LossFn::CrossEntropy).await.unwrap();
        assert_eq!(output.loss_fn_outputs.len(), 5, "{flags}");
        trainer.optim_step(adam()).await.unwrap();
        losses.push(loss_of(&trainer, 5).await);
        let compressed = flags.get("proto_compress_fwdbwd").is_some();
        let encoding = server.requests("forward_backward")[0].header("content-encoding").map(str::to_owned);
        assert_eq!(encoding.as_deref(), compressed.then_some("zstd"), "{flags}");
    }
    for loss in &losses {
        assert!((loss - losses[0]).abs() < 1e-6, "{losses:?}");
    }
}

/// TR-1: 1,025 examples are two chunks; the second is refused: nothing counts, and the ids come back.
#[tokio::test(start_paused = true)]
async fn a_batch_of_which_nothing_was_taken_in_fails_as_a_whole() {
    let service = Service::default();
    let (server, _client, trainer) = hasty_of(&service).await;
    loss_of(&trainer, 1).await;
    server
        .script("forward_backward", [Step::status(422).json_body(json!({"detail": "too long"}))])
        .then_behave();
    let batch = trainer.forward_backward(vec![example("ab"); 1025], LossFn::CrossEntropy);
    let step = trainer.optim_step(adam());
    let error = batch.await.unwrap_err();
    assert_eq!(error.effect(), Some(Effect::Nothing));
    assert!(error.to_string().starts_with("chunk 2 of 2"), "{error}");
    step.await.unwrap();
    assert_eq!(arrivals(&server), ["forward_backward 1", "forward_backward 3", "optim_step 2"]);
}

/// TR-1: where others were taken in the first chunk is sent all the same, the hole is filled, and the error says what
/// counts. Those behind go on.
#[tokio::test(start_paused = true)]
async fn a_batch_that_was_taken_in_in_part_is_completed_without_the_rest() {
    for (name, fault, effect) in [
        ("refused", Step::status(422), Effect::Partial),
        ("never sent", Step::refuse(), Effect::Partial),
        ("in doubt", Step::reset(), Effect::Unknown),
    ] {
        let service = in_pairs();
        let (server, _client, trainer) = hasty_of(&service).await;
        loss_of(&trainer, 1).await;
        server.script_when("forward_backward", |request| id(request) == 3 && !is_filler(request), [fault]);
        let batch = trainer.forward_backward(data(8), LossFn::CrossEntropy);
        let step = trainer.optim_step(adam());
        let error = batch.await.unwrap_err();
        assert_eq!(error.effect(), Some(effect), "{name}: {error}");
        let text = error.to_string();
        assert!(text.starts_with("chunk 2 of 4"), "{name}: {text}");
        assert!(
            text.contains("3 of 4 chunks were taken in and their gradients count: 1, 3, 4"),
            "{name}: {text}"
        );
        step.await.unwrap();
        let sent = ids(&server, "forward_backward");
        assert_eq!(sent[1..], [3, 4, 5, 2, 3], "{name}");
        assert!(is_filler(&server.requests("forward_backward")[5]), "{name}");
        let run = service.run(trainer.model_id()).unwrap();
        assert_eq!(run.executed, [1, 2, 3, 4, 5, 6], "{name}");
    }
}

/// The first chunk fails after the others were taken in: its id is filled, so that they are executed.
#[tokio::test(start_paused = true)]
async fn a_batch_without_its_first_chunk_is_completed() {
    let service = in_pairs();
    let (server, _client, trainer) = hasty_of(&service).await;
    loss_of(&trainer, 1).await;
    let refusal = Step::status(400).json_body(json!({"detail": "no"}));
    server.script_when("forward_backward", |request| id(request) == 2 && !is_filler(request), [refusal]);
    let batch = trainer.forward_backward(data(6), LossFn::CrossEntropy);
    let step = trainer.optim_step(adam());
    let error = batch.await.unwrap_err();
    assert!(error.to_string().starts_with("chunk 1 of 3"), "{error}");
    assert!(error.to_string().contains("2 of 3 chunks were taken in"), "{error}");
    step.await.unwrap();
    assert_eq!(ids(&server, "forward_backward")[1..], [3, 4, 2, 2]);
    assert_eq!(service.run(trainer.model_id()).unwrap().executed, [1, 2, 3, 4, 5]);
}

/// A chunk that fails after it was taken in does not hide the others: their results are waited for, and the error says
/// which chunks count.
#[tokio::test(start_paused = true)]
async fn a_failed_result_says_which_chunks_count() {
    const SERVER: ErrorCategory = ErrorCategory::Server;
    type Case = (&'static str, fn(&Service), Option<Effect>, &'static str);
    let cases: [Case; 4] = [
        (
            "one failed",
            |service| service.fail_next(SERVER, "out of memory"),
            Some(Effect::Partial),
            "2 of 3 chunks were carried out: 1, 3",
        ),
        (
            "one lost, one failed",
            |service| {
                service.expire_next();
                service.fail_next(SERVER, "out of memory");
            },
            Some(Effect::Partial),
            "1 of 3 chunks were carried out: 1; taken in, without a result: 2",
        ),
        (
            "one lost",
            Service::expire_next,
            Some(Effect::TakenIn),
            "2 of 3 chunks were carried out: 1, 3; taken in, without a result: 2",
        ),
        ("all failed", |service| (0..3).for_each(|_| service.fail_next(SERVER, "no")), None, "chunk 1 of 3"),
    ];
    for (name, fate, effect, words) in cases {
        let service = in_pairs();
        let (server, _client, trainer) = trainer_of(&service).await;
        loss_of(&trainer, 1).await;
        fate(&service);
        let error = trainer.forward_backward(data(6), LossFn::CrossEntropy).await.unwrap_err();
        assert_eq!((error.effect(), error.is_retryable()), (effect, effect.is_none()), "{name}: {error}");
        assert!(error.to_string().contains(words), "{name}: {error}");
        let polled = server.requests("retrieve_future").into_iter();
        let polled: BTreeSet<_> = polled.map(|poll| poll.request_id().unwrap().to_owned()).collect();
        // The model, the first pass, and three chunks.
        assert_eq!(polled.len(), 5, "{name}");
    }
}

/// A server that refuses the filler of a hole gets another one, and where it refuses that as well the id, known to count
/// for nothing, is passed over: the client goes on.
#[tokio::test(start_paused = true)]
async fn a_refused_filler_blocks_nobody() {
    let no = || Step::status(400).json_body(json!({"detail": "no"}));
    for (name, refusals, fillers) in [
        ("forward passes", vec![no()], vec![true, false]),
        ("any filler", vec![no(), no()], vec![true, false]),
    ] {
        let dialect = Dialect { training_order: TrainingOrder::Tolerant, ..Dialect::production() };
        let service = Service::new(dialect);
        service.set_client_config(&json!({"fwdbwd_max_chunk_len": 2}));
        let (server, _client, trainer) = hasty_of(&service).await;
        loss_of(&trainer, 1).await;
        let is_first = |request: &Received| id(request) == 3 && pass(request).data.len() == 2;
        server.script_when("forward_backward", is_first, [no()]).then_behave();
        let filler = |request: &Received| id(request) == 3 && pass(request).data.len() == 1;
        server.script_when("forward_backward", filler, refusals).then_behave();
        let error = trainer.forward_backward(data(8), LossFn::CrossEntropy).await.unwrap_err();
        assert_eq!(error.effect(), Some(Effect::Partial), "{name}: {error}");
        trainer.optim_step(adam()).await.unwrap();
        assert_eq!(ids(&server, "optim_step"), [6], "{name}");
        let sent = server.requests("forward_backward").into_iter().filter(|request| filler(request));
        let forward_only: Vec<_> = sent.map(|request| pass(&request).forward_only).collect();
        assert_eq!(forward_only, fillers, "{name}");
    }
}

/// In an outage the user hears of it after one limit of the retry policy, not after those of the chunk, of the first
/// chunk and of the fillers in turn. The next operation settles what is left.
#[tokio::test(start_paused = true)]
async fn an_outage_is_reported_after_one_limit() {
    let service = in_pairs();
    let (server, _client, trainer) = trainer_of(&service).await;
    loss_of(&trainer, 1).await;
    let begun = Instant::now();
    // The third chunk is taken in before the connection goes.
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let lost = move |request: &Received| is_down.load(Ordering::Relaxed) && id(request) != 4;
    server.script_when("forward_backward", lost, [Step::reset()]).then_repeat_last();
    let error = trainer.forward_backward(data(6), LossFn::CrossEntropy).await.unwrap_err();
    assert_within(begun.elapsed().as_secs_f64(), 1795.0..=1980.0, "one limit");
    assert_eq!(error.effect(), Some(Effect::Unknown), "{error}");
    down.store(false, Ordering::Relaxed);
    trainer.optim_step(adam()).await.unwrap();
    assert_eq!(service.run(trainer.model_id()).unwrap().executed, [1, 2, 3, 4, 5]);
}

/// One after the other: a failure ends the batch, and the error says what counts before it.
#[tokio::test(start_paused = true)]
async fn a_batch_in_order_ends_at_its_first_failure() {
    let service = Service::default();
    service.set_client_config(&json!({"fwdbwd_max_chunk_len": 2, "parallel_fwdbwd_chunks": false}));
    let (server, _client, trainer) = hasty_of(&service).await;
    let refusal = Step::status(400).json_body(json!({"detail": "no"}));
    server.script("forward_backward", [Step::behave(), Step::behave(), refusal]).then_behave();
    let batch = trainer.forward_backward(data(8), LossFn::CrossEntropy);
    let step = trainer.optim_step(adam());
    let error = batch.await.unwrap_err();
    assert_eq!(error.effect(), Some(Effect::Partial));
    let text = error.to_string();
    assert!(text.starts_with("chunk 3 of 4") && text.contains("2 of 4 chunks were taken in"), "{text}");
    step.await.unwrap();
    assert_eq!(
        arrivals(&server),
        ["forward_backward 1", "forward_backward 2", "forward_backward 3", "optim_step 3"]
    );
}

/// TR-3: a strict server refuses the second chunk because the first has not come: chunks go in order from then on.
#[tokio::test(start_paused = true)]
async fn a_strict_server_gets_chunks_in_order() {
    let service = Service::new(Dialect { training_order: TrainingOrder::Strict, ..Dialect::production() });
    service.set_client_config(&json!({"fwdbwd_max_chunk_len": 2}));
    let (server, client, trainer) = trainer_of(&service).await;
    for _ in 0..2 {
        trainer.forward_backward(data(6), LossFn::CrossEntropy).await.unwrap();
        trainer.optim_step(adam()).await.unwrap();
    }
    let sent = arrivals(&server);
    assert_eq!(sent[..2], ["forward_backward 2", "forward_backward 3"], "tried once");
    let in_order: Vec<_> =
        sent[2..].iter().map(|line| line.split(' ').next_back().unwrap().to_owned()).collect();
    assert_eq!(in_order, ["1", "2", "3", "4", "5", "6", "7", "8"]);
    let other = client.lora_training_client(crate::harness::MODEL).create().await.unwrap();
    other.forward_backward(data(6), LossFn::CrossEntropy).await.unwrap();
    assert_eq!(ids(&server, "forward_backward")[8..], [1, 2, 3], "remembered for the service");
}

/// A server that publishes no flags gets chunks in order from the start.
#[tokio::test(start_paused = true)]
async fn without_flags_chunks_go_in_order() {
    let service = Service::default();
    let server = FakeServer::with(service.clone());
    server.script("client/config", [Step::status(404)]);
    let client = crate::harness::service(&server).await;
    let trainer = client.lora_training_client(crate::harness::MODEL).create().await.unwrap();
    trainer.forward_backward(vec![example("ab"); 2049], LossFn::CrossEntropy).await.unwrap();
    assert_eq!(ids(&server, "forward_backward"), [1, 2, 3]);
}

/// The budget of bytes bounds what is on its way at once; a permit that comes back lets the next chunk go.
#[tokio::test(start_paused = true)]
async fn chunks_on_their_way_are_bounded_by_bytes() {
    let service = Service::default();
    // A pair is about 200 bytes: two fit, and a third overdraws.
    service
        .set_client_config(&json!({"fwdbwd_max_chunk_len": 2, "fwdbwd_dispatch_bytes_semaphore_size": 500}));
    let (server, _client, trainer) = trainer_of(&service).await;
    loss_of(&trainer, 1).await;
    let slow = Step::behave().delay(Duration::from_millis(100));
    server.script("forward_backward", [slow]).then_repeat_last();
    let bytes: u64 = data(2).iter().map(Datum::estimated_bytes).sum();
    let most = (500 / bytes + 1) as usize;
    trainer.forward_backward(data(40), LossFn::CrossEntropy).await.unwrap();
    assert_eq!(server.max_in_flight("forward_backward"), most);
}

/// TR-3: a passing failure of one chunk does not hide that the server takes ids in order only.
#[tokio::test(start_paused = true)]
async fn a_strict_server_is_recognised_behind_a_passing_failure() {
    let service = Service::new(Dialect { training_order: TrainingOrder::Strict, ..Dialect::production() });
    service.set_client_config(&json!({"fwdbwd_max_chunk_len": 1}));
    let (server, _client, trainer) = trainer_of(&service).await;
    trainer.forward([example("ab")], LossFn::CrossEntropy).await.unwrap();
    let struck = AtomicBool::new(false);
    let once = move |r: &Received| id(r) == 3 && !struck.swap(true, Ordering::Relaxed);
    server.script_when("forward_backward", once, [Step::status(503)]);
    trainer.forward_backward(vec![example("abc"); 3], LossFn::CrossEntropy).await.unwrap();
    assert!(service.run(trainer.model_id()).unwrap().gaps().is_empty());
}
