//! Custom losses that fail: what is said, what happens to the operations behind, and that nothing is left that the
//! server would wait for (PROTOCOL 13.2, F-12).

use std::error::Error as _;

use serde_json::json;
use tinkex_client::losses::{KlPolicyGradient, WeightedNll};
use tinkex_client::{
    CustomLossOutput, Datum, Effect, Error, ErrorCategory, ErrorKind, InvalidInput, Logprobs, TrainingHandle,
};
use tinkex_testkit::Step;

use super::{Setup, step, text};

fn zeros(logprobs: &[Logprobs<'_>]) -> Vec<Vec<f32>> {
    logprobs.iter().map(|logprobs| vec![0.0; logprobs.len()]).collect()
}

/// Asserts that a step failed, that what was called behind it meanwhile was not sent, and that what is called
/// afterwards works, with consecutive ids.
async fn assert_fails_alone<T: std::fmt::Debug>(
    setup: &Setup,
    begin: impl FnOnce() -> TrainingHandle<T>,
    passes: u64,
) -> Error {
    let failing = begin();
    let behind = setup.trainer.optim_step(step());
    let also_behind = setup.trainer.forward_backward_custom(vec![text("abc")], WeightedNll);
    let error = failing.await.unwrap_err();
    for poisoned in [behind.await.unwrap_err(), also_behind.await.unwrap_err()] {
        assert_eq!(poisoned.kind(), ErrorKind::Poisoned, "{poisoned}");
        assert_eq!((poisoned.effect(), poisoned.attempts()), (Some(Effect::Nothing), 0), "{poisoned}");
        assert!(poisoned.to_string().contains(&error.to_string()), "{poisoned}");
    }
    assert_eq!((setup.server.count("forward_backward"), setup.server.count("optim_step")), (passes, 0));
    let pass = setup.trainer.forward_backward_custom(vec![text("abc")], WeightedNll);
    setup.trainer.optim_step(step()).await.unwrap();
    pass.await.unwrap();
    let run = setup.run();
    assert!(run.gaps().is_empty() && run.waiting.is_empty() && run.steps == 1, "{run:?}");
    error
}

/// The error of a loss is the cause of the step's error.
#[tokio::test(start_paused = true)]
async fn a_loss_that_fails() {
    let setup = Setup::new().await;
    let loss = |_: &[Datum], _: &[Logprobs<'_>]| {
        Err::<CustomLossOutput, _>(InvalidInput::new("reward", "is not to be had today"))
    };
    let begin = || setup.trainer.forward_backward_custom(vec![text("abc")], loss);
    let error = assert_fails_alone(&setup, begin, 1).await;
    assert_eq!(error.kind(), ErrorKind::CustomLoss);
    assert_eq!(error.effect(), Some(Effect::Nothing));
    assert!(error.is_user_error() && !error.is_retryable());
    assert!(error.to_string().contains("reward is not to be had today"), "{error}");
}

/// The error that a loss gave can be had back, as what it is.
#[tokio::test(start_paused = true)]
async fn the_cause_is_kept() {
    #[derive(Debug)]
    struct NoReward(u32);
    impl std::fmt::Display for NoReward {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("no reward")
        }
    }
    impl std::error::Error for NoReward {}
    let setup = Setup::new().await;
    let loss = |_: &[Datum], _: &[Logprobs<'_>]| Err::<CustomLossOutput, _>(NoReward(7));
    let error = setup.trainer.forward_backward_custom(vec![text("abc")], loss).await.unwrap_err();
    assert_eq!(error.source().unwrap().downcast_ref::<NoReward>().map(|cause| cause.0), Some(7));
    assert!(error.to_string().contains("no reward"), "{error}");
}

/// A panic is an error that says what the panic said.
#[tokio::test(start_paused = true)]
async fn a_loss_that_panics() {
    let setup = Setup::new().await;
    let loss = |data: &[Datum], _: &[Logprobs<'_>]| -> Result<CustomLossOutput, Error> {
        panic!("{} is not enough", data.len())
    };
    let begin = || setup.trainer.forward_backward_custom(vec![text("abc")], loss);
    let error = assert_fails_alone(&setup, begin, 1).await;
    assert_eq!(error.kind(), ErrorKind::CustomLoss);
    assert!(error.to_string().contains("panicked: 1 is not enough"), "{error}");
}

/// Gradients that do not fit or are not finite never reach the server.
#[tokio::test(start_paused = true)]
async fn gradients_that_cannot_be_used() {
    for (loss, gradients, part) in [
        (f64::NAN, vec![vec![0.0, 0.0]], "loss is NaN"),
        (1.0, vec![], "0 for 1 datums"),
        (1.0, vec![vec![0.0]], "1 values for datum 0"),
        (1.0, vec![vec![0.0, f32::NAN]], "NaN at position 1 of datum 0"),
    ] {
        let setup = Setup::new().await;
        let loss =
            move |_: &[Datum], _: &[Logprobs<'_>]| Ok::<_, Error>(CustomLossOutput::new(loss, gradients));
        let begin = || setup.trainer.forward_backward_custom(vec![text("abc")], loss);
        let error = assert_fails_alone(&setup, begin, 1).await;
        assert_eq!(error.kind(), ErrorKind::CustomLoss);
        assert!(error.to_string().contains(part), "{error} should say {part:?}");
    }
}

/// Data that cannot be used are refused at the call: nothing is sent, nothing behind is disturbed.
#[tokio::test(start_paused = true)]
async fn data_that_lack_something() {
    let setup = Setup::new().await;
    let cases: [(TrainingHandle<_>, &str); 3] = [
        (setup.trainer.forward_backward_custom(Vec::new(), WeightedNll), "empty"),
        (
            setup.trainer.forward_backward_custom(vec![text("abc"), Datum::new(vec![1])], WeightedNll),
            "`target_tokens` in datum 1",
        ),
        (
            setup.trainer.forward_backward_custom(vec![text("abc")], KlPolicyGradient::new(0.1)),
            "`logprobs` in datum 0",
        ),
    ];
    let behind = setup.trainer.optim_step(step());
    for (refused, part) in cases {
        let error = refused.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(part), "{error} should say {part:?}");
    }
    behind.await.unwrap();
    assert_eq!(setup.server.count("forward_backward"), 0);
}

/// The forward pass is refused, or fails at the server: the step fails with that, and adds no gradient.
#[tokio::test(start_paused = true)]
async fn a_forward_pass_that_fails() {
    let setup = Setup::new().await;
    let begin = || {
        setup.service.fail_next(ErrorCategory::User, "too long");
        setup.trainer.forward_backward_custom(vec![text("abc")], WeightedNll)
    };
    let error = assert_fails_alone(&setup, begin, 1).await;
    assert_eq!((error.kind(), error.effect()), (ErrorKind::RequestFailed, Some(Effect::Nothing)), "{error}");
    assert!(error.to_string().contains("too long"), "{error}");

    let setup = Setup::new().await;
    let begin = || {
        setup.server.script("forward_backward", [Step::status(413)]).then_behave();
        setup.trainer.forward_backward_custom(vec![text("abc")], WeightedNll)
    };
    let error = assert_fails_alone(&setup, begin, 1).await;
    assert_eq!((error.status(), error.effect()), (Some(413), Some(Effect::Nothing)), "{error}");
}

/// The server does not give the log-probabilities that were asked for.
#[tokio::test(start_paused = true)]
async fn a_forward_pass_without_log_probabilities() {
    let tensor = |values: &[f32]| json!({ "data": values, "dtype": "float32", "shape": [values.len()] });
    for (outputs, part) in [
        (json!([]), "0 outputs for 1 datums"),
        (json!([{}]), "no logprobs for datum 0"),
        (json!([{ "logprobs": tensor(&[-1.0]) }]), "1 logprobs for the 2 target tokens of datum 0"),
    ] {
        let setup = Setup::new().await;
        let answer = json!({ "loss_fn_output_type": "T", "loss_fn_outputs": outputs, "metrics": {} });
        let begin = || {
            setup.server.script("retrieve_future", [Step::json(answer)]).then_behave();
            setup.trainer.forward_backward_custom(vec![text("abc")], WeightedNll)
        };
        let error = assert_fails_alone(&setup, begin, 1).await;
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Decode, Some(Effect::Nothing)), "{error}");
        assert!(error.to_string().contains(part), "{error} should say {part:?}");
    }
}

/// The backward pass is refused: the optimizer step behind it is not sent.
#[tokio::test(start_paused = true)]
async fn a_backward_pass_that_is_refused() {
    let setup = Setup::new().await;
    let begin = || {
        setup.server.script("forward_backward", [Step::behave(), Step::status(413)]).then_behave();
        setup.trainer.forward_backward_custom(vec![text("abc")], WeightedNll)
    };
    let error = assert_fails_alone(&setup, begin, 2).await;
    assert_eq!((error.status(), error.effect()), (Some(413), Some(Effect::Nothing)), "{error}");
    assert!(error.to_string().contains("backward pass"), "{error}");
}

/// One chunk of the backward pass is refused: the error says which gradients count all the same.
#[tokio::test(start_paused = true)]
async fn a_backward_pass_that_is_refused_in_part() {
    let flags = json!({ "fwdbwd_max_chunk_len": 1, "parallel_fwdbwd_chunks": false });
    let setup = Setup::with_flags(&flags).await;
    let begin = || {
        let behave = || Step::behave().repeat(3);
        setup.server.script("forward_backward", [behave(), Step::status(413)]).then_behave();
        setup.trainer.forward_backward_custom(vec![text("abc"), text("def")], WeightedNll)
    };
    let error = assert_fails_alone(&setup, begin, 4).await;
    assert_eq!((error.status(), error.effect()), (Some(413), Some(Effect::Partial)), "{error}");
    assert!(error.to_string().contains("1 of 2 chunks"), "{error}");
}

/// Once the backward pass has been accepted its failure is like that of any other step: what follows is carried out
/// (PROTOCOL 12.4).
#[tokio::test(start_paused = true)]
async fn a_backward_pass_that_fails_at_the_server() {
    let setup = Setup::new().await;
    let service = setup.service.clone();
    let loss = move |_: &[Datum], logprobs: &[Logprobs<'_>]| {
        service.fail_next(ErrorCategory::Server, "out of memory");
        Ok::<_, Error>(CustomLossOutput::new(1.0, zeros(logprobs)))
    };
    let pass = setup.trainer.forward_backward_custom(vec![text("abc")], loss);
    let behind = setup.trainer.optim_step(step());
    let error = pass.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RequestFailed);
    assert!(error.to_string().contains("out of memory"), "{error}");
    behind.await.unwrap();
}

/// PROTOCOL 13.1: a result without `loss:sum` is an error, of a step that counts.
#[tokio::test(start_paused = true)]
async fn a_backward_pass_without_a_loss() {
    let setup = Setup::new().await;
    let answer = json!({ "loss_fn_output_type": "T", "loss_fn_outputs": [{}], "metrics": {} });
    setup.server.script("retrieve_future", [Step::behave(), Step::json(answer)]).then_behave();
    let error = setup.trainer.forward_backward_custom(vec![text("abc")], WeightedNll).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Decode, Some(Effect::TakenIn)), "{error}");
    assert!(error.to_string().contains("loss:sum"), "{error}");
    setup.trainer.optim_step(step()).await.unwrap();
}
