//! The order of the operations of a run: ids out of order, repeated, changed, refused.

use std::time::Duration;

use serde_json::{Value, json};
use tinkex_testkit::Reply;
use tinkex_testkit::service::{Dialect, Service, TrainingBody, TrainingOrder};
use tinkex_types::{ErrorCategory, QueueState};
use tokio::time::Instant;

use crate::caller::{Caller, refusal, text};
use crate::training::{Found, Pass, SECRET, Trainer};

const ORDERS: [TrainingOrder; 3] = [TrainingOrder::Waiting, TrainingOrder::Tolerant, TrainingOrder::Strict];

async fn caller(order: TrainingOrder) -> Caller {
    Caller::new(Dialect { training_order: order, ..Dialect::production() }).await
}

fn failure(reply: &Reply) -> (String, String) {
    (text(reply, "category"), text(reply, "error"))
}

/// PROTOCOL 22: chunk 1 arrives last; what came before it is held, however long, and then all is done in order.
#[tokio::test(start_paused = true)]
async fn operations_that_come_too_early_wait_for_the_missing_id() {
    let caller = caller(TrainingOrder::Waiting).await;
    let trainer = Trainer::new(&caller, 0).await;
    let pass = Pass::new(&[SECRET]);
    let step = trainer.step(4, 0.02).await;
    let second = trainer.pass(2, &pass).await;
    let third = trainer.pass(3, &pass).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let start = Instant::now();
    let pending = caller.retrieve(&text(&second, "request_id")).await;
    assert_eq!((pending.status.as_u16(), start.elapsed().as_secs()), (408, 30), "held for the hold time");
    assert_eq!((trainer.info().waiting, trainer.info().executed), (vec![2, 3, 4], vec![]));
    assert_eq!(trainer.info().gaps(), [1]);
    // A poll that is held sees the missing operation come.
    let poll = trainer.fetch(second);
    let arrival = async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        trainer.pass(1, &pass).await
    };
    let start = Instant::now();
    let (second, first) = tokio::join!(poll, arrival);
    assert_eq!(start.elapsed().as_millis(), 7005, "the latency after the missing one came");
    let found =
        [Found::of(&second), Found::of(&trainer.fetch(first).await), Found::of(&trainer.fetch(third).await)];
    assert!(found[0] == found[1] && found[1] == found[2], "no step in between");
    trainer.fetch(step).await;
    let run = trainer.info();
    assert_eq!((run.seq_ids.clone(), run.executed.clone()), (vec![4, 2, 3, 1], vec![1, 2, 3, 4]));
    assert!(run.is_ordered() && run.gaps().is_empty() && run.waiting.is_empty());
    assert!(trainer.found(5, &pass).await.loss < found[0].loss, "three gradients and one step");
}

/// Whatever the order of arrival, the run ends with the same bits.
#[tokio::test(start_paused = true)]
async fn the_order_of_arrival_makes_no_difference() {
    let caller = caller(TrainingOrder::Waiting).await;
    let pass = Pass::new(&[SECRET, "and another one"]);
    let mut outcomes = Vec::new();
    for (run, order) in [[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1], [3, 1, 2, 6, 4, 5]].into_iter().enumerate() {
        let trainer = Trainer::new(&caller, run as u64).await;
        let mut last = None;
        for seq_id in order {
            let reply = if seq_id % 2 == 1 {
                trainer.pass(seq_id, &pass).await
            } else {
                trainer.step(seq_id, 0.02).await
            };
            assert_eq!(reply.status, 200);
            last = Some(reply);
        }
        trainer.fetch(last.unwrap()).await;
        outcomes.push(trainer.found(7, &pass).await);
        assert_eq!(trainer.info().executed, [1, 2, 3, 4, 5, 6, 7]);
    }
    assert_eq!(outcomes[0], outcomes[1]);
    assert_eq!(outcomes[0], outcomes[2]);
}

#[tokio::test(start_paused = true)]
async fn a_tolerant_server_works_in_the_order_of_arrival() {
    let caller = caller(TrainingOrder::Tolerant).await;
    let trainer = Trainer::new(&caller, 0).await;
    for seq_id in [7, 2, 40, 3] {
        trainer.found(seq_id, &Pass::new(&[SECRET])).await;
    }
    let run = trainer.info();
    assert_eq!((run.executed.clone(), run.seq_ids.clone()), (vec![7, 2, 40, 3], vec![7, 2, 40, 3]));
    assert!(!run.is_ordered() && run.gaps().len() == 36);
}

/// PROTOCOL 22, F-14: a repeated request is the same operation, a different one under the same id a conflict.
#[tokio::test(start_paused = true)]
async fn a_repeated_request_gets_the_same_promise_and_a_changed_one_is_a_conflict() {
    for order in [TrainingOrder::Waiting, TrainingOrder::Tolerant] {
        let caller = caller(order).await;
        let trainer = Trainer::new(&caller, 0).await;
        let pass = Pass::new(&[SECRET]);
        let first = text(&trainer.pass(1, &pass).await, "request_id");
        assert_eq!(text(&trainer.pass(1, &pass).await, "request_id"), first);
        let step = text(&trainer.step(2, 0.5).await, "request_id");
        for (reply, seq_id) in [
            (trainer.pass(1, &Pass::new(&["other"])).await, 1),
            (trainer.step(2, 0.25).await, 2),
            (trainer.step(1, 0.5).await, 1),
        ] {
            let (status, detail) = refusal(&reply);
            assert!(status == 409 && detail.contains(&format!("seq_id {seq_id} ")), "{detail}");
        }
        assert_eq!(caller.retrieve(&step).await.status, 200);
        assert_eq!(
            text(&trainer.step(2, 0.5).await, "request_id"),
            step,
            "after its result was fetched, too"
        );
        let run = trainer.info();
        assert_eq!((run.steps, run.executed), (1, vec![1, 2]), "nothing was done twice");
        assert_eq!(refusal(&trainer.step(0, 0.5).await).0, 400, "ids begin at 1");
    }
}

/// OPEN_SERVERS 9: a strict server takes the next id and nothing else, not even a repetition.
#[tokio::test(start_paused = true)]
async fn a_strict_server_says_which_id_it_expects() {
    let caller = caller(TrainingOrder::Strict).await;
    let trainer = Trainer::new(&caller, 0).await;
    let pass = Pass::new(&[SECRET]);
    trainer.found(1, &pass).await;
    for (reply, got) in
        [(trainer.pass(1, &pass).await, 1), (trainer.step(3, 0.1).await, 3), (trainer.step(0, 0.1).await, 0)]
    {
        let expected = format!("Sequence conflict: expected 2, got {got}");
        assert_eq!(refusal(&reply), (409, expected));
    }
    trainer.fetch(trainer.step(2, 0.1).await).await;
    assert_eq!(trainer.info().executed, [1, 2]);
}

/// A refused request is not waited for, and may come again.
#[tokio::test(start_paused = true)]
async fn the_id_of_a_refused_request_is_passed_over() {
    let caller = caller(TrainingOrder::Waiting).await;
    let trainer = Trainer::new(&caller, 0).await;
    let none = trainer.operation("optim_step", 2, json!({})).await;
    assert_eq!(refusal(&none).0, 422, "neither parameters");
    let third = trainer.pass(3, &Pass::new(&[SECRET])).await;
    assert_eq!(trainer.info().waiting, [3]);
    trainer.found(1, &Pass::new(&[SECRET])).await;
    trainer.fetch(third).await;
    let run = trainer.info();
    assert_eq!((run.executed.clone(), run.refused.clone(), run.gaps()), (vec![1, 3], vec![2], vec![]));
    trainer.fetch(trainer.step(2, 0.1).await).await;
    let run = trainer.info();
    assert_eq!((run.executed, run.refused, run.steps), (vec![1, 3, 2], vec![], 1), "late, but welcome");
    // Those that wait already go on when the one they wait for is refused.
    let waiting = trainer.pass(5, &Pass::new(&[SECRET])).await;
    assert_eq!(refusal(&trainer.operation("optim_step", 4, json!({})).await).0, 422);
    trainer.fetch(waiting).await;
    // An id that is refused and comes again in time keeps its place.
    let both = json!({ "adam_params": {}, "optimizer_params": { "type": "dimuon", "learning_rate": 0.1 } });
    assert_eq!(refusal(&trainer.operation("optim_step", 7, both).await).0, 422);
    let seventh = trainer.step(7, 0.1).await;
    trainer.found(6, &Pass::new(&[SECRET])).await;
    trainer.fetch(seventh).await;
    assert_eq!(trainer.info().executed, [1, 3, 2, 5, 6, 7]);
}

/// OPEN_SERVERS 20: an unsupported loss is 501, and later operations hang behind it until its id is taken.
#[tokio::test(start_paused = true)]
async fn a_refused_id_may_block_the_run() {
    let caller = Caller::new(Dialect::hatchery()).await;
    let trainer = Trainer::new(&caller, 0).await;
    let unknown = Pass::new(&[SECRET]).loss("no_such_loss", json!({}), &[]);
    assert_eq!(refusal(&trainer.pass(1, &unknown).await).0, 501);
    let step = trainer.step(2, 0.1).await;
    for _ in 0..3 {
        assert_eq!(trainer.fetch(trainer.step(2, 0.1).await).await.to_json().unwrap()["type"], "try_again");
    }
    let known = Pass::new(&[SECRET]);
    let (again, step) = tokio::join!(trainer.found(1, &known), trainer.fetch(step));
    assert!(again.loss > 0.0);
    assert!(step.to_json().unwrap()["metrics"].is_object());
}

/// OPEN_SERVERS 9: what cannot be decoded uses up its id where the server is so.
#[tokio::test(start_paused = true)]
async fn a_strict_server_may_count_what_it_cannot_decode() {
    for uses_up in [false, true] {
        let dialect = Dialect {
            training_order: TrainingOrder::Strict,
            refuse_unknown_fields: true,
            rejected_requests_use_ids: uses_up,
            ..Dialect::production()
        };
        let caller = Caller::new(dialect).await;
        let trainer = Trainer::new(&caller, 0).await;
        let newer = json!({ "adam_params": {}, "optimizer_params": { "type": "dimuon" } });
        let (status, detail) = refusal(&trainer.operation("optim_step", 1, newer).await);
        assert!(status == 422 && detail.contains("optimizer_params"), "{detail}");
        let again = trainer.step(1, 0.1).await;
        if uses_up {
            assert!(refusal(&again).1.contains("expected 2"));
            trainer.fetch(trainer.step(2, 0.1).await).await;
        } else {
            trainer.fetch(again).await;
        }
        assert_eq!(trainer.info().steps, 1);
    }
}

/// PROTOCOL 12.4, TR-3: a failed operation uses its id and stops nothing.
#[tokio::test(start_paused = true)]
async fn a_failed_operation_stops_nothing_and_changes_nothing() {
    for order in ORDERS {
        let caller = caller(order).await;
        let trainer = Trainer::new(&caller, 0).await;
        let pass = Pass::new(&[SECRET]);
        let before = trainer.found(1, &pass.clone().forward_only()).await;
        caller.service.fail_next(ErrorCategory::Server, "boom");
        let failed = trainer.fetch(trainer.pass(2, &pass).await).await;
        assert_eq!(failure(&failed), ("server".into(), "boom".into()));
        caller.service.expire_next();
        assert_eq!(trainer.fetch(trainer.pass(3, &pass).await).await.status, 410);
        trainer.fetch(trainer.step(4, 0.5).await).await;
        assert_eq!(trainer.found(5, &pass.clone().forward_only()).await, before, "there was no gradient");
        assert_eq!(trainer.info().executed, [1, 2, 3, 4, 5]);
        assert_eq!(trainer.info().steps, 1);
    }
}

/// Operations overlap in time, but none is ready before an earlier one.
#[tokio::test(start_paused = true)]
async fn none_is_ready_before_an_earlier_one() {
    let caller = caller(TrainingOrder::Waiting).await;
    let trainer = Trainer::new(&caller, 0).await;
    let pass = Pass::new(&[SECRET]);
    caller.service.set_latency(Duration::from_secs(10));
    let first = trainer.pass(1, &pass).await;
    caller.service.set_latency(Duration::from_secs(1));
    let step = trainer.step(2, 0.1).await;
    let start = Instant::now();
    trainer.fetch(step).await;
    assert_eq!(start.elapsed().as_secs(), 10);
    trainer.fetch(first).await;
    // One that is paused alone holds up those behind it, and only them.
    caller.service.pause_next(QueueState::PausedCapacity, Some("full"), Duration::from_secs(20));
    let paused = trainer.pass(3, &pass).await;
    let behind = trainer.step(4, 0.1).await;
    let other = Trainer::new(&caller, 1).await;
    let start = Instant::now();
    other.found(1, &pass).await;
    assert_eq!(start.elapsed().as_secs(), 1);
    let told = trainer.fetch(paused).await;
    assert_eq!((told.status.as_u16(), text(&told, "queue_state_reason").as_str()), (408, "full"));
    trainer.fetch(behind).await;
    assert_eq!((start.elapsed().as_secs(), trainer.info().executed), (20, vec![1, 2, 3, 4]));
}

/// A pause of the queue holds training as it holds samples.
#[tokio::test(start_paused = true)]
async fn a_pause_holds_the_runs_and_is_told() {
    let caller = caller(TrainingOrder::Waiting).await;
    let trainer = Trainer::new(&caller, 0).await;
    let pass = Pass::new(&[SECRET]);
    caller.service.set_latency(Duration::from_secs(2));
    let (first, second) = (trainer.pass(1, &pass).await, trainer.step(2, 0.1).await);
    caller.service.pause(QueueState::PausedRateLimit, Some("busy"), Some(Duration::from_secs(100)));
    let third = trainer.pass(3, &pass).await;
    for reply in [&first, &second, &third] {
        let told = caller.retrieve(&text(reply, "request_id")).await;
        assert_eq!((told.status.as_u16(), text(&told, "queue_state").as_str()), (408, "paused_rate_limit"));
    }
    let start = Instant::now();
    tokio::time::sleep(Duration::from_secs(99)).await;
    assert_eq!(trainer.info().executed, [0u64; 0]);
    trainer.fetch(third).await;
    assert_eq!(start.elapsed().as_secs(), 102);
    assert_eq!(trainer.info().executed, [1, 2, 3]);
}

/// CA-1: cancelling is for samples; a training operation is carried out all the same.
#[tokio::test(start_paused = true)]
async fn training_is_not_cancelled() {
    let caller = caller(TrainingOrder::Waiting).await;
    let trainer = Trainer::new(&caller, 0).await;
    let promise = trainer.pass(1, &Pass::new(&[SECRET])).await;
    let id = text(&promise, "request_id");
    assert_eq!(caller.post("cancel_future", json!({ "request_id": id })).await.status, 200);
    assert!(Found::of(&trainer.fetch(promise).await).loss > 0.0);
}

/// RL-1: the limit concerns samples only.
#[tokio::test(start_paused = true)]
async fn training_is_not_limited_and_does_not_count_as_samples() {
    let caller = caller(TrainingOrder::Waiting).await;
    let trainer = Trainer::new(&caller, 0).await;
    caller.service.limit_inflight(1, Duration::from_millis(10));
    for seq_id in 1..=5 {
        assert_eq!(trainer.pass(seq_id, &Pass::new(&[SECRET])).await.status, 200);
    }
    assert_eq!((caller.service.in_progress(), caller.service.samples_accepted()), (0, 0));
    caller.submit(0, json!({})).await;
    assert_eq!(caller.asample(1, json!({})).await.status, 429);
}

/// Runs of one session and of two keep apart, and interleave freely.
#[tokio::test(start_paused = true)]
async fn runs_do_not_disturb_each_other() {
    let caller = caller(TrainingOrder::Waiting).await;
    let (one, two) = (Trainer::new(&caller, 0).await, Trainer::new(&caller, 1).await);
    let session = text(&caller.create_session().await, "session_id");
    let made = crate::training::create_model(&caller, 0, json!({ "session_id": session })).await;
    let model = text(&caller.retrieve(&text(&made, "request_id")).await, "model_id");
    let alone = Trainer { caller: &caller, model };
    let pass = Pass::new(&[SECRET]);
    let base = one.found(1, &pass.clone().forward_only()).await;
    for step in 0..10 {
        two.learn(2 * step + 1, &pass).await;
    }
    assert_eq!(one.found(2, &pass.clone().forward_only()).await, base);
    assert_eq!(alone.found(1, &pass.clone().forward_only()).await, base);
    let (learned, untrained) = (two.found(21, &pass).await.loss, base.loss);
    assert!(learned < 0.8 * untrained, "{learned} {untrained}");
    let runs = caller.service.runs();
    assert_eq!(runs.iter().map(|run| run.steps).collect::<Vec<_>>(), [0, 10, 0]);
    assert_eq!(runs.iter().filter(|run| run.session == caller.session).count(), 2);
}

/// A finished session takes no new work; one that goes on does.
#[tokio::test(start_paused = true)]
async fn a_finished_session_refuses_new_work() {
    let caller = caller(TrainingOrder::Waiting).await;
    let trainer = Trainer::new(&caller, 0).await;
    let accepted = trainer.pass(1, &Pass::new(&[SECRET])).await;
    caller.post(&format!("sessions/{}/finish", caller.session), json!({})).await;
    for reply in [
        trainer.step(2, 0.1).await,
        trainer.pass(2, &Pass::new(&[SECRET])).await,
        crate::training::create_model(&caller, 1, json!({})).await,
    ] {
        assert_eq!(refusal(&reply).0, 400);
    }
    Found::of(&trainer.fetch(accepted).await);
}

/// Two polls of the same run on two threads: each operation is done once, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn polls_of_one_run_on_many_threads_do_everything_once() {
    let caller = caller(TrainingOrder::Waiting).await;
    caller.service.set_latency(Duration::ZERO);
    let trainer = Trainer::new(&caller, 0).await;
    let pass = Pass::new(&[SECRET, SECRET, SECRET, SECRET]);
    let mut polls = tokio::task::JoinSet::new();
    for seq_id in 1..=60 {
        let reply = if seq_id % 2 == 0 {
            trainer.step(seq_id, 0.05).await
        } else {
            trainer.pass(seq_id, &pass).await
        };
        let (service, id): (Service, Value) = (caller.service.clone(), json!(text(&reply, "request_id")));
        polls.spawn(async move {
            let body = json!({ "request_id": id, "allow_metadata_only": false });
            let request =
                tinkex_testkit::Received::post("retrieve_future", &body).with_header("x-api-key", "k");
            tinkex_testkit::Behaviour::respond(&service, &request).await.status.as_u16()
        });
    }
    assert_eq!(polls.join_all().await, [200; 60]);
    let run = trainer.info();
    assert_eq!((run.executed, run.steps), ((1..=60).collect(), 30));
    let last = trainer.found(61, &pass).await.loss;
    assert!(last < 10.0, "{last}");
}

/// The dialects have the orders of the table of open servers.
#[test]
fn the_presets_have_the_orders_of_the_table() {
    let [production, skyrl, tuft, hatchery] = Dialect::presets();
    assert_eq!(
        [&production, &skyrl, &tuft, &hatchery].map(|dialect| dialect.training_order),
        [TrainingOrder::Waiting, TrainingOrder::Tolerant, TrainingOrder::Strict, TrainingOrder::Waiting]
    );
    assert_eq!(
        [&production, &skyrl, &tuft, &hatchery].map(|dialect| dialect.training_bodies),
        [TrainingBody::Both, TrainingBody::ProtobufOnly, TrainingBody::ProtobufOnly, TrainingBody::JsonOnly]
    );
    assert!(hatchery.refused_ids_block && !production.refused_ids_block);
    assert!(
        production.create_from_checkpoint
            && ![&skyrl, &tuft, &hatchery].iter().any(|d| d.create_from_checkpoint)
    );
}
