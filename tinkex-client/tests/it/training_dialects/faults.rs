//! Trouble on the way, under every dialect: the loop goes on, and nothing counts twice.

use std::time::Duration;

use tinkex_client::{Effect, ErrorCategory, ErrorKind, LossFn, QueueState, losses::WeightedNll};
use tinkex_testkit::Step;
use tinkex_testkit::service::{PendingStyle, TrainingOrder};
use tokio::time::Instant;

use super::{SOON, World, adam, batch, loss_of, step};
use crate::log_capture::LogCapture;

const ROUTES: [&str; 5] =
    ["forward_backward", "optim_step", "save_weights", "save_weights_for_sampler", "forward"];

/// F-14, row 9: the answer to every submission is lost once. A server that tells repetitions gives its promise again; a
/// strict one answers 409, and the operation counts all the same. In both the weights are as if nothing had happened.
pub(super) async fn lost_answers(world: World) {
    let calm = world.trainer().await;
    let expected = [step(&calm).await, step(&calm).await, loss_of(&calm).await];
    let trainer = world.trainer().await;
    for route in ROUTES {
        world.server.script(route, [Step::behave().then_lose()]).then_behave();
    }
    let strict = world.dialect.training_order == TrainingOrder::Strict;
    let pass = trainer.forward_backward(batch(), LossFn::CrossEntropy);
    let update = trainer.optim_step(adam());
    let save = trainer.save_state("saved");
    let snapshot = trainer.save_weights_and_get_sampling_client();
    let results =
        [pass.await.map(drop), update.await.map(drop), save.await.map(drop), snapshot.await.map(drop)];
    for (result, route) in results.into_iter().zip(ROUTES) {
        match result {
            Ok(()) => assert!(!strict, "{route}"),
            Err(error) => {
                assert!(strict, "{route}: {error}");
                assert_eq!(
                    (error.kind(), error.effect()),
                    (ErrorKind::SequenceConflict, Some(Effect::Unknown))
                );
            }
        }
    }
    let second = step(&trainer).await;
    assert_eq!([second, loss_of(&trainer).await], expected[1..]);
    world.assert_in_order(&trainer);
    assert_eq!(world.run(&trainer).steps, 2);
}

/// Every submission is answered 429, 503 and 408 first: it is repeated under the same identity, and those behind it wait.
pub(super) async fn refused_for_now(world: World) {
    let trainer = world.trainer().await;
    // The first pass finds out the form.
    let before = loss_of(&trainer).await;
    let later = Step::status(429).header("retry-after-ms", "300");
    for route in ROUTES {
        let steps = [later.clone(), Step::status(503), Step::status(408)];
        world.server.script(route, steps).then_behave();
    }
    let begun = Instant::now();
    let custom = trainer.forward_backward_custom(batch(), WeightedNll);
    let update = trainer.optim_step(adam());
    let save = trainer.save_state("saved");
    custom.await.unwrap();
    update.await.unwrap();
    save.await.unwrap();
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(3) && took < SOON, "{took:?}");
    assert!(loss_of(&trainer).await < before);
    world.assert_in_order(&trainer);
    let keys = |route: &str| {
        let requests = world.server.requests(route);
        let mut keys: Vec<_> =
            requests.iter().map(|request| request.idempotency_key().unwrap().to_owned()).collect();
        keys.dedup();
        keys.len()
    };
    assert_eq!((keys("optim_step"), keys("save_weights")), (1, 1));
}

/// Row 6: a pause is sat out by all that wait, and told in one line where the server tells it.
pub(super) async fn a_pause(world: World) {
    let (log, _guard) = LogCapture::start();
    let trainer = world.trainer().await;
    world.service.pause(QueueState::PausedRateLimit, None, Some(Duration::from_secs(45)));
    let begun = Instant::now();
    step(&trainer).await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(45) && took < Duration::from_secs(47), "{took:?}");
    let line =
        format!("Training is paused for {}. Reason: concurrent models rate limit hit", trainer.model_id());
    let expected = if world.dialect.pending == PendingStyle::Bare408 { vec![] } else { vec![line] };
    assert_eq!(log.pause_texts(), expected);
}

/// Row 7: an operation that fails at the server is the same typed error everywhere, and stops nothing behind it.
pub(super) async fn a_failure_of_the_server(world: World) {
    let trainer = world.trainer().await;
    let before = loss_of(&trainer).await;
    world.service.fail_next(ErrorCategory::User, "the data are forbidden");
    let failing = trainer.forward_backward(batch(), LossFn::CrossEntropy);
    let update = trainer.optim_step(adam());
    let error = failing.await.unwrap_err();
    assert_eq!(
        (error.kind(), error.category()),
        (ErrorKind::RequestFailed, ErrorCategory::User),
        "{error:?}"
    );
    assert!(error.is_user_error() && !error.is_retryable() && error.request_id().is_some(), "{error:?}");
    assert!(error.to_string().contains("the data are forbidden"), "{error}");
    update.await.unwrap();
    assert_eq!(loss_of(&trainer).await, before, "no gradient was added");
    assert!(step(&trainer).await == before && loss_of(&trainer).await < before);
    world.assert_in_order(&trainer);
}
