//! What follows a submission that failed: ids are used again, filled, or counted anew; the client goes on by itself.

use std::time::Duration;

use serde_json::json;
use tinkex_client::{Effect, ErrorKind, LossFn};
use tinkex_testkit::Step;
use tinkex_testkit::service::{Dialect, Service, TrainingOrder};
use tokio::time::Instant;

use super::{adam, arrivals, hasty_of, ids, is_filler};
use crate::harness::{example, trainer_of};

fn refused(status: u16) -> Step {
    Step::status(status).json_body(json!({"detail": "no"}))
}

fn strict() -> Dialect {
    Dialect { training_order: TrainingOrder::Strict, ..Dialect::production() }
}

/// F-11: an operation that never reached the server, or was refused, leaves its id to the next one. Nothing is filled.
#[tokio::test(start_paused = true)]
async fn an_id_that_does_not_count_is_used_again() {
    for (name, step, kind) in [
        ("never sent", Step::refuse(), ErrorKind::Connection),
        ("400", refused(400), ErrorKind::Status),
        ("404", refused(404), ErrorKind::Status),
        ("422", refused(422), ErrorKind::Status),
        ("429", Step::status(429), ErrorKind::Status),
        ("501", refused(501), ErrorKind::Status),
    ] {
        let service = Service::new(strict());
        let (server, _client, trainer) = hasty_of(&service).await;
        server.script("optim_step", [Step::behave(), step]).then_behave();
        let handles = [(); 4].map(|()| trainer.optim_step(adam()));
        let mut results = Vec::new();
        for handle in handles {
            results.push(handle.await);
        }
        let error = results.remove(1).unwrap_err();
        assert_eq!((error.kind(), error.effect()), (kind, Some(Effect::Nothing)), "{name}: {error}");
        assert!(error.to_string().contains("nothing of it"), "{name}: {error}");
        assert!(results.iter().all(Result::is_ok), "{name}");
        assert_eq!(ids(&server, "optim_step"), [1, 2, 2, 3], "{name}");
        assert_eq!(server.count("forward_backward"), 0, "{name}");
    }
}

/// F-11, F-14: of an id that is in doubt the server is asked first, by a filler that changes nothing: whether the request
/// had been taken in or not, the run has no gap, and no step is done twice.
#[tokio::test(start_paused = true)]
async fn an_id_in_doubt_is_settled_before_the_next_operation() {
    for (name, fault, taken_in) in [
        ("lost on the way", Step::reset(), false),
        ("the answer lost", Step::behave().then_lose(), true),
        ("500", Step::status(500), false),
        ("a time-out", Step::behave().delay(Duration::from_secs(61)), true),
    ] {
        for order in [TrainingOrder::Waiting, TrainingOrder::Strict] {
            let dialect = Dialect { training_order: order, ..Dialect::production() };
            let service = Service::new(dialect);
            let (server, _client, trainer) = hasty_of(&service).await;
            trainer.forward_backward([example("abcd")], LossFn::CrossEntropy).await.unwrap();
            server.script("optim_step", [fault.clone()]).then_behave();
            let (lost, next) = (trainer.optim_step(adam()), trainer.optim_step(adam()));
            let error = lost.await.unwrap_err();
            assert_eq!(error.effect(), Some(Effect::Unknown), "{name}: {error}");
            assert!(error.to_string().contains("may have been taken in"), "{name}: {error}");
            next.await.unwrap();
            assert_eq!(
                arrivals(&server),
                ["forward_backward 1", "optim_step 2", "forward_backward 2", "optim_step 3"],
                "{name}"
            );
            assert!(is_filler(&server.requests("forward_backward")[1]), "{name}");
            let run = service.run(trainer.model_id()).unwrap();
            assert_eq!((run.gaps(), run.waiting.len()), (vec![], 0), "{name}");
            assert_eq!(run.steps, if taken_in { 2 } else { 1 }, "{name}");
        }
    }
}

/// An acceptance that cannot be read may come from something in front of the server, which then waits for the id: it is
/// settled like any other that is in doubt.
#[tokio::test(start_paused = true)]
async fn an_acceptance_that_cannot_be_read_leaves_its_id_in_doubt() {
    for (name, body, content_type) in [
        ("a page of a proxy", "<html>sorry</html>", "text/html"),
        ("no promise", r#"{"request_id":null}"#, "application/json"),
    ] {
        let service = Service::default();
        let (server, _client, trainer) = trainer_of(&service).await;
        server.script("optim_step", [Step::raw(body, content_type)]).then_behave();
        let error = trainer.optim_step(adam()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.effect()),
            (ErrorKind::Decode, Some(Effect::Unknown)),
            "{name}: {error}"
        );
        trainer.optim_step(adam()).await.unwrap();
        assert_eq!(arrivals(&server), ["optim_step 1", "forward_backward 1", "optim_step 2"], "{name}");
        let run = service.run(trainer.model_id()).unwrap();
        assert_eq!((run.steps, run.waiting.len()), (1, 0), "{name}");
    }
}

/// What was or may have been taken in is not to be repeated blindly; what left nothing behind is.
#[tokio::test(start_paused = true)]
async fn what_may_count_is_not_said_to_be_retryable() {
    for (name, step, retryable) in [
        ("never sent", Step::refuse(), true),
        ("429", Step::status(429), true),
        ("the answer lost", Step::behave().then_lose(), false),
        ("503", Step::status(503), false),
    ] {
        let (server, _client, trainer) = hasty_of(&Service::default()).await;
        server.script("optim_step", [step]).then_behave();
        let error = trainer.optim_step(adam()).await.unwrap_err();
        assert_eq!(error.is_retryable(), retryable, "{name}: {error}");
        assert_eq!(error.effect() == Some(Effect::Nothing), retryable, "{name}: {error}");
    }
    let service = Service::default();
    let (_server, _client, trainer) = trainer_of(&service).await;
    service.expire_next();
    let error = trainer.optim_step(adam()).await.unwrap_err();
    assert_eq!((error.effect(), error.is_retryable()), (Some(Effect::TakenIn), false), "{error}");
}

/// While an id cannot be settled nothing else is sent; each operation tries again, and the first that can goes on.
#[tokio::test(start_paused = true)]
async fn operations_fail_until_an_id_is_settled() {
    let service = Service::default();
    let (server, _client, trainer) = hasty_of(&service).await;
    trainer.forward_backward([example("abcd")], LossFn::CrossEntropy).await.unwrap();
    server.script("optim_step", [Step::reset()]).then_behave();
    trainer.optim_step(adam()).await.unwrap_err();
    server.script("forward_backward", [Step::status(503), Step::refuse()]).then_behave();
    for _ in 0..2 {
        let error = trainer.optim_step(adam()).await.unwrap_err();
        assert_eq!(error.effect(), Some(Effect::Nothing));
        assert!(error.to_string().contains("sequence id 2 in doubt"), "{error}");
    }
    assert_eq!(server.count("optim_step"), 1);
    trainer.optim_step(adam()).await.unwrap();
    assert_eq!(ids(&server, "optim_step"), [2, 3]);
    assert_eq!(ids(&server, "forward_backward"), [1, 2, 2, 2]);
    assert!(service.run(trainer.model_id()).unwrap().waiting.is_empty());
}

/// A server that refuses the filler says that the id counts for nothing.
#[tokio::test(start_paused = true)]
async fn a_refused_filler_is_followed_by_another() {
    let service = Service::default();
    let (server, _client, trainer) = hasty_of(&service).await;
    trainer.forward_backward([example("abcd")], LossFn::CrossEntropy).await.unwrap();
    server.script("optim_step", [Step::reset()]).then_behave();
    trainer.optim_step(adam()).await.unwrap_err();
    server.script("forward_backward", [refused(400)]).then_behave();
    trainer.optim_step(adam()).await.unwrap();
    assert_eq!((ids(&server, "forward_backward"), ids(&server, "optim_step")), (vec![1, 2, 2], vec![2, 3]));
}

/// TR-3: a strict server that has counted a refused request names the id it expects; that is adopted at once.
#[tokio::test(start_paused = true)]
async fn the_count_of_the_server_is_adopted() {
    let dialect = Dialect { rejected_requests_use_ids: true, unknown_loss_status: Some(400), ..strict() };
    let service = Service::new(dialect);
    let (server, _client, trainer) = trainer_of(&service).await;
    trainer.forward_backward([example("abcd")], LossFn::CrossEntropy).await.unwrap();
    let unknown = trainer.forward_backward([example("abcd")], LossFn::Other("nonsense".into())).await;
    assert_eq!(unknown.unwrap_err().effect(), Some(Effect::Nothing));
    let begun = Instant::now();
    trainer.optim_step(adam()).await.unwrap();
    trainer.optim_step(adam()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "no conflict is waited out");
    assert_eq!(
        arrivals(&server),
        ["forward_backward 1", "forward_backward 2", "optim_step 2", "optim_step 3", "optim_step 4"]
    );
    assert!(service.run(trainer.model_id()).unwrap().gaps().is_empty());
    // Ahead or behind, as often as it is plausible.
    let expecting = |id: u64| Step::status(409).json_body(json!({"detail": format!("expected seq_id {id}")}));
    server.script("optim_step", [expecting(90), expecting(7), Step::json(json!({"request_id": "r"}))]);
    server.script("retrieve_future", [Step::json(json!({"metrics": null}))]);
    trainer.optim_step(adam()).await.unwrap();
    server.script("optim_step", [expecting(9), expecting(10), expecting(11), expecting(12)]);
    let error = trainer.optim_step(adam()).await.unwrap_err();
    assert_eq!((error.kind(), error.expected_seq_id()), (ErrorKind::SequenceConflict, Some(12)), "{error}");
    assert_eq!(ids(&server, "optim_step")[3..], [5, 90, 7, 8, 9, 10, 11]);
}

/// A number that cannot be the count of the server, below what it has accepted or far beyond what was sent, fails the
/// operation and changes nothing.
#[tokio::test(start_paused = true)]
async fn an_implausible_count_is_not_adopted() {
    let service = Service::default();
    let (server, _client, trainer) = trainer_of(&service).await;
    for _ in 0..3 {
        trainer.optim_step(adam()).await.unwrap();
    }
    let implausible = [1, 3, 20_000, 1 << 40];
    let detail = |expected| json!({"detail": format!("Sequence conflict: expected {expected}, got 4")});
    let conflicts = implausible.map(|expected: u64| Step::status(409).json_body(detail(expected)));
    server.script("optim_step", conflicts).then_behave();
    for expected in implausible {
        let error = trainer.optim_step(adam()).await.unwrap_err();
        let told = (error.kind(), error.expected_seq_id(), error.effect());
        assert_eq!(told, (ErrorKind::SequenceConflict, Some(expected), Some(Effect::Nothing)), "{error}");
    }
    trainer.optim_step(adam()).await.unwrap();
    assert_eq!(ids(&server, "optim_step"), [1, 2, 3, 4, 4, 4, 4, 4]);
}

/// A server that does not say which id it expects: an id it may have counted is passed over, and settled all the same.
#[tokio::test(start_paused = true)]
async fn a_conflict_without_a_number_passes_over_an_id_in_doubt() {
    let service = Service::new(Dialect { training_order: TrainingOrder::Tolerant, ..Dialect::production() });
    let (server, _client, trainer) = hasty_of(&service).await;
    trainer.forward_backward([example("abcd")], LossFn::CrossEntropy).await.unwrap();
    let conflict = || Step::status(409).json_body(json!({"detail": "seq_id is used up"}));
    server.script("optim_step", [refused(422), conflict()]).then_behave();
    server.script("forward_backward", [conflict()]).then_behave();
    trainer.optim_step(adam()).await.unwrap_err();
    trainer.optim_step(adam()).await.unwrap();
    assert_eq!(
        arrivals(&server)[1..],
        ["optim_step 2", "optim_step 2", "optim_step 3", "forward_backward 2"]
    );
}

/// Where an attempt was lost and a strict server then says that its id is used up, the request itself may have been
/// counted: it is not sent again.
#[tokio::test(start_paused = true)]
async fn a_request_that_may_have_been_counted_is_not_repeated_under_another_id() {
    let service = Service::new(strict());
    let (server, _client, trainer) = trainer_of(&service).await;
    trainer.forward_backward([example("abcd")], LossFn::CrossEntropy).await.unwrap();
    server.script("optim_step", [Step::behave().then_lose()]).then_behave();
    let error = trainer.optim_step(adam()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SequenceConflict, "{error}");
    assert_eq!((error.expected_seq_id(), error.effect()), (Some(3), Some(Effect::Unknown)), "{error}");
    trainer.optim_step(adam()).await.unwrap();
    assert_eq!(ids(&server, "optim_step"), [2, 2, 3]);
    assert_eq!(service.run(trainer.model_id()).unwrap().steps, 2);
}

/// A failure that passes is repeated under the same id and key, and those behind wait (F-14).
#[tokio::test(start_paused = true)]
async fn a_submission_keeps_its_id_and_key() {
    let service = Service::default();
    let (server, _client, trainer) = trainer_of(&service).await;
    let hinted = Step::status(429).header("retry-after", "2");
    server
        .script("optim_step", [Step::status(503), Step::reset(), hinted, Step::behave().then_lose()])
        .then_behave();
    let (first, second) = (trainer.optim_step(adam()), trainer.optim_step(adam()));
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(ids(&server, "optim_step"), [1, 1, 1, 1, 1, 2]);
    let requests = server.requests("optim_step");
    let keys: Vec<_> = requests.iter().map(|request| request.idempotency_key().unwrap()).collect();
    assert!(keys[..5].iter().all(|key| *key == keys[0]) && keys[5] != keys[0]);
}

/// F-12: a declaration that queued operations must not be sent reaches exactly those (see the unit tests of turns); an
/// ordinary failure declares nothing.
#[tokio::test(start_paused = true)]
async fn a_failed_result_stops_nothing() {
    let service = Service::default();
    let (_server, _client, trainer) = trainer_of(&service).await;
    service.fail_next(tinkex_client::ErrorCategory::Server, "out of memory");
    let (pass, step) =
        (trainer.forward_backward([example("abcd")], LossFn::CrossEntropy), trainer.optim_step(adam()));
    let error = pass.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RequestFailed);
    assert!(error.to_string().contains("out of memory"), "{error}");
    step.await.unwrap();
}

/// F-14: that a filler is refused says nothing of the request whose id it fills. Were the id taken for free, the next equal
/// operation would be taken for its repetition, and be lost.
#[tokio::test(start_paused = true)]
async fn a_refused_filler_leaves_the_doubt() {
    for status in [400, 401, 403, 404, 422] {
        let service = Service::default();
        let (server, _client, trainer) = hasty_of(&service).await;
        trainer.forward_backward([example("abcd")], LossFn::CrossEntropy).await.unwrap();
        server.script("optim_step", [Step::behave().then_lose()]).then_behave();
        let lost = trainer.optim_step(adam()).await.unwrap_err();
        assert_eq!(lost.effect(), Some(Effect::Unknown));
        server.script("forward_backward", [Step::status(status)]).then_behave();
        let sent = [trainer.optim_step(adam()).await, trainer.optim_step(adam()).await];
        let told = 1 + sent.iter().filter(|step| step.is_ok()).count() as u64;
        assert_eq!(service.run(trainer.model_id()).unwrap().steps, told, "{status}: {:?}", arrivals(&server));
    }
}

/// What has failed is told soon, even where its filler is told to wait for ever.
#[tokio::test(start_paused = true)]
async fn a_throttled_filler_keeps_nobody_waiting() {
    let service = Service::default();
    service.set_client_config(&json!({"fwdbwd_max_chunk_len": 1}));
    let (server, _client, trainer) = trainer_of(&service).await;
    trainer.forward([example("ab")], LossFn::CrossEntropy).await.unwrap();
    let broken = [Step::status(503).repeat(100_000)];
    server.script_when("forward_backward", |r| super::id(r) == 3 && !super::is_filler(r), broken);
    let throttled = Step::status(429).header("retry-after", "30").repeat(100_000);
    server.script_when("forward_backward", super::is_filler, [throttled]);
    let begun = Instant::now();
    trainer.forward_backward(vec![example("abc"); 3], LossFn::CrossEntropy).await.unwrap_err();
    let half_an_hour = Duration::from_secs(1800);
    assert!(
        (half_an_hour..half_an_hour + Duration::from_secs(120)).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
}

/// An outage is waited out once, not once for each operation that was queued when it began, nor for their chunks.
#[tokio::test(start_paused = true)]
async fn an_outage_does_not_add_up() {
    let (refuse, broken) = (Step::refuse(), Step::status(503));
    for (of_steps, of_passes) in
        [(refuse.clone(), refuse.clone()), (broken.clone(), broken.clone()), (refuse, broken)]
    {
        let service = Service::default();
        service.set_client_config(&json!({"fwdbwd_max_chunk_len": 1}));
        let (server, _client, trainer) = trainer_of(&service).await;
        server.script("optim_step", [of_steps]).then_repeat_last();
        server.script("forward_backward", [of_passes]).then_repeat_last();
        let begun = Instant::now();
        let handles: Vec<_> = (0..10).map(|_| trainer.optim_step(adam())).collect();
        let pass = trainer.forward_backward(vec![example("abc"); 3], LossFn::CrossEntropy);
        for handle in handles {
            handle.await.unwrap_err();
        }
        pass.await.unwrap_err();
        let (least, most) = (Duration::from_secs(1800), Duration::from_secs(1800 + 12 * 45));
        assert!((least..most).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }
}

/// That the few attempts at the end of a turn could not settle an id is no outage: what was called before is repeated for
/// as long as the policy says, like anything else.
#[tokio::test(start_paused = true)]
async fn a_filler_that_fails_for_now_takes_nobodys_patience() {
    let service = Service::default();
    service.set_client_config(&json!({"fwdbwd_max_chunk_len": 1}));
    let (server, _client, trainer) = trainer_of(&service).await;
    trainer.forward([example("ab")], LossFn::CrossEntropy).await.unwrap();
    server.script_when("forward_backward", |r| super::id(r) == 3 && !super::is_filler(r), [refused(400)]);
    server.script_when("forward_backward", super::is_filler, [Step::status(503).repeat(8)]).then_behave();
    server.script("optim_step", [Step::status(503).repeat(8)]).then_behave();
    let pass = trainer.forward_backward(vec![example("abc"); 3], LossFn::CrossEntropy);
    let step = trainer.optim_step(adam());
    assert_eq!(pass.await.unwrap_err().effect(), Some(Effect::Partial));
    step.await.unwrap();
    let run = service.run(trainer.model_id()).unwrap();
    assert_eq!((run.seq_ids.len(), run.waiting.len(), run.steps), (5, 0, 1));
    assert_eq!(ids(&server, "forward_backward")[4..], [3; 9]);
    assert_eq!(ids(&server, "optim_step"), [5; 9]);
}

/// Once the server takes anything in the outage is over, also for what was called before.
#[tokio::test(start_paused = true)]
async fn an_outage_ends_with_the_first_request_that_is_taken_in() {
    let service = Service::default();
    service.set_client_config(&json!({"fwdbwd_max_chunk_len": 1}));
    let (server, _client, trainer) = trainer_of(&service).await;
    trainer.forward([example("ab")], LossFn::CrossEntropy).await.unwrap();
    server.script_when("forward_backward", |r| !super::is_filler(r), [Step::status(503)]).then_repeat_last();
    let fillers = |id| move |r: &_| super::is_filler(r) && super::id(r) == id;
    // Those at the end of the turn fail too.
    server.script_when("forward_backward", fillers(2), [Step::status(503).repeat(3)]).then_behave();
    server.script_when("forward_backward", fillers(3), [Step::status(503).repeat(8)]).then_behave();
    server.script("optim_step", [Step::status(503).repeat(8)]).then_behave();
    let pass = trainer.forward_backward(vec![example("abc"); 2], LossFn::CrossEntropy);
    let step = trainer.optim_step(adam());
    pass.await.unwrap_err();
    step.await.unwrap();
    let run = service.run(trainer.model_id()).unwrap();
    assert_eq!((run.seq_ids, run.waiting.len(), run.steps), (vec![1, 2, 3, 4], 0, 1));
}
