//! Batches of several chunks: their order, and what is left of them where one fails (TR-1, TR-2, F-11, F-12, F-22).

use std::time::Duration;

use serde_json::json;
use tinkex_client::{
    Datum, Effect, ErrorCategory, ErrorKind, LossFn, QueueState, RetryPolicy, losses::WeightedNll,
};
use tinkex_testkit::service::{Dialect, TrainingOrder};
use tinkex_testkit::{Chaos, ChaosFault, Received, Step};
use tinkex_types::proto;

use super::{Setup, adam, data, loss_of, pass, policy};
use crate::harness::example;

/// The flags that decide how chunks are sent.
fn flags(parallel: bool) -> serde_json::Value {
    json!({"parallel_fwdbwd_chunks": parallel})
}

/// The passes that were sent after the first, in order of arrival.
fn passes_of(setup: &Setup) -> Vec<proto::ForwardBackwardRequest> {
    setup.server.requests("forward_backward")[1..].iter().map(|request| pass(request)).collect()
}

/// TR-1: 1,025 datums are two chunks, and 2,049 are three, in the order of the data whatever the order on the way.
#[tokio::test(start_paused = true)]
async fn chunks_hold_the_data_in_order() {
    for (parallel, count) in [(true, 1025), (false, 1025), (true, 2049), (false, 2049)] {
        let setup = Setup::new(Dialect::production(), &flags(parallel)).await;
        let trainer = setup.trainer(policy()).await;
        let batch = data(count);
        let handle = trainer.forward_backward(batch.clone(), LossFn::CrossEntropy);
        let update = trainer.optim_step(adam());
        let output = handle.await.unwrap();
        update.await.unwrap();
        let lengths = output.loss_fn_outputs.iter().map(|output| output.logprobs().unwrap().len() as u64);
        let expected = batch.iter().map(|datum| datum.model_input.tokens().count() as u64);
        assert!(lengths.eq(expected), "outputs in the order of the data");
        let mut passes = passes_of(&setup);
        assert_eq!(passes.last().unwrap().seq_id == 2, parallel, "the first chunk goes last, or first");
        passes.sort_by_key(|pass| pass.seq_id);
        let sizes: Vec<_> = passes.iter().map(|pass| pass.data.len()).collect();
        assert_eq!(sizes, if count == 1025 { vec![1024, 1] } else { vec![1024, 1024, 1] });
        let sent = passes.iter().flat_map(|pass| &pass.data).map(|datum| {
            let Some(proto::chunk::Chunk::EncodedText(text)) = &datum.model_input[0].chunk else { panic!() };
            let (cells, _) = text.tokens.as_chunks::<4>();
            cells.iter().map(|cell| i32::from_le_bytes(*cell)).collect::<Vec<_>>()
        });
        let wanted = batch.iter().map(|datum| datum.model_input.tokens().collect::<Vec<_>>());
        assert!(sent.eq(wanted), "every datum, in order");
        setup.assert_in_order(&trainer);
    }
}

/// TR-1, F-11: chunk 2 fails; the error says what counts, what is called behind goes on without a gap, and the weights are
/// what comes of the chunks that count, no more and no less.
#[tokio::test(start_paused = true)]
async fn chunk_2_fails() {
    #[derive(Clone, Copy, Debug)]
    enum How {
        Refused,
        NeverSent,
        InDoubt,
        AtTheServer,
    }
    for how in [How::Refused, How::NeverSent, How::InDoubt, How::AtTheServer] {
        for (parallel, count) in [(true, 1025), (false, 1025), (true, 2049), (false, 2049)] {
            let case = format!("{how:?}, parallel {parallel}, {count} datums");
            let setup = Setup::new(Dialect::production(), &flags(parallel)).await;
            let trainer = setup.trainer(RetryPolicy::none()).await;
            let chunk_2 = |request: &Received| {
                let pass = pass(request);
                pass.seq_id == 3 && !pass.forward_only
            };
            let meet = |step| setup.server.script_when("forward_backward", chunk_2, [step]).then_behave();
            match how {
                How::Refused => drop(meet(Step::status(422))),
                How::NeverSent => drop(meet(Step::refuse())),
                How::InDoubt => drop(meet(Step::reset())),
                How::AtTheServer => {
                    // In order it is the second to be accepted, else the first.
                    if !parallel {
                        setup.service.pause_next(QueueState::PausedCapacity, None, Duration::ZERO);
                    }
                    setup.service.fail_next(ErrorCategory::User, "out of memory");
                }
            }
            let handle = trainer.forward_backward(data(count), LossFn::CrossEntropy);
            let update = trainer.optim_step(adam());
            let error = handle.await.unwrap_err();
            update.await.unwrap();
            assert!(error.to_string().starts_with("chunk 2 of "), "{case}: {error}");
            let last = (count == 2049).then_some(2048..2049);
            // Of the chunks in order, none follows the one that was not taken in.
            let counted: Vec<_> = match (how, parallel) {
                (How::AtTheServer, _) => Some(0..1024).into_iter().chain(last).collect(),
                (How::InDoubt, true) => Some(0..1024).into_iter().chain(last).collect(),
                (_, true) if last.is_none() => vec![],
                (_, true) => Some(0..1024).into_iter().chain(last).collect(),
                (_, false) => std::iter::once(0..1024).collect(),
            };
            match how {
                How::AtTheServer => assert_eq!(error.kind(), ErrorKind::RequestFailed, "{case}: {error}"),
                How::InDoubt => assert_eq!(error.effect(), Some(Effect::Unknown), "{case}: {error}"),
                _ if counted.is_empty() => {
                    assert_eq!(error.effect(), Some(Effect::Nothing), "{case}: {error}")
                }
                _ => assert_eq!(error.effect(), Some(Effect::Partial), "{case}: {error}"),
            }
            let loss = loss_of(&trainer).await;
            setup.assert_in_order(&trainer);

            let undisturbed = setup.trainer(policy()).await;
            for range in counted {
                undisturbed.forward_backward(&data(count)[range], LossFn::CrossEntropy).await.unwrap();
            }
            undisturbed.optim_step(adam()).await.unwrap();
            assert_eq!(loss, loss_of(&undisturbed).await, "{case}");
        }
    }
}

/// TR-2, F-12: both passes of a custom loss, of three chunks each, arrive before the optimizer step that was called right
/// behind it, however long each request takes and however often it is repeated; the model learns what it would learn if
/// each step were waited for.
#[tokio::test(start_paused = true)]
async fn no_step_overtakes_a_custom_loss() {
    let count = 5;
    for order in [TrainingOrder::Waiting, TrainingOrder::Strict, TrainingOrder::Tolerant] {
        let dialect = Dialect { training_order: order, ..Dialect::production() };
        for seed in 0..20 {
            let flags = json!({"parallel_fwdbwd_chunks": seed % 2 == 0, "fwdbwd_max_chunk_len": 2});
            let setup = Setup::new(dialect.clone(), &flags).await;
            let calm = setup.trainer(policy()).await;
            for _ in 0..2 {
                calm.forward_backward_custom(data(count), WeightedNll).await.unwrap();
                calm.optim_step(adam()).await.unwrap();
            }
            let trainer = setup.trainer(policy()).await;
            let before = setup.server.all_requests().len();
            let faults = [ChaosFault::Delay, ChaosFault::Unavailable, ChaosFault::TooManyRequests];
            setup.server.chaos(Chaos::seeded(seed).rate(0.6).faults(faults));
            let calls: Vec<_> = (0..2)
                .map(|_| {
                    (trainer.forward_backward_custom(data(count), WeightedNll), trainer.optim_step(adam()))
                })
                .collect();
            for (custom, update) in calls {
                custom.await.unwrap();
                update.await.unwrap();
            }
            setup.server.end_chaos();
            // Per id the last request is the one that was accepted.
            let mut accepted = std::collections::BTreeMap::new();
            for request in &setup.server.all_requests()[before..] {
                match request.route() {
                    "forward_backward" => {
                        accepted.insert(i64::from(pass(request).seq_id), pass(request).forward_only.into())
                    }
                    "optim_step" => accepted.insert(request.seq_id().unwrap() as i64, 2),
                    _ => None,
                };
            }
            let kinds: Vec<i32> = accepted.into_values().collect();
            assert_eq!(kinds, [1, 1, 1, 0, 0, 0, 2, 1, 1, 1, 0, 0, 0, 2], "{order:?}, seed {seed}");
            assert_eq!(loss_of(&trainer).await, loss_of(&calm).await, "{order:?}, seed {seed}");
            let run = setup.service.run(trainer.model_id()).unwrap();
            let steps: Vec<_> = [8, 15].iter().map(|id| run.executed.iter().position(|e| e == id)).collect();
            assert_eq!(steps, [Some(7), Some(14)], "{order:?}, seed {seed}: {run:?}");
        }
    }
}

/// F-22: however large single datums are, no chunk is empty and together they are the batch; one that is too large alone
/// is a chunk of its own.
#[tokio::test(start_paused = true)]
async fn no_chunk_is_empty() {
    let mut random = fastrand::Rng::with_seed(22);
    for _ in 0..30 {
        let limit = random.u64(1..2_000);
        let flags = json!({
            "fwdbwd_max_chunk_bytes_count": limit,
            "fwdbwd_max_chunk_len": random.u64(1..5),
            "parallel_fwdbwd_chunks": random.bool(),
            "fwdbwd_dispatch_bytes_semaphore_size": random.u64(0..3_000),
        });
        let setup = Setup::new(Dialect::production(), &flags).await;
        let trainer = setup.trainer(policy()).await;
        // The first alone is often too large.
        let sizes = (0..random.usize(1..8)).map(|n| if n == 0 { 100 } else { random.usize(2..100) });
        let batch: Vec<Datum> = sizes.map(|size| example(&"x".repeat(size))).collect();
        let output = trainer.forward_backward(batch.clone(), LossFn::CrossEntropy).await.unwrap();
        assert_eq!(output.loss_fn_outputs.len(), batch.len(), "{flags}");
        let mut passes = passes_of(&setup);
        passes.sort_by_key(|pass| pass.seq_id);
        assert!(passes.iter().all(|pass| !pass.data.is_empty()), "{flags}");
        assert_eq!(passes.iter().map(|pass| pass.data.len()).sum::<usize>(), batch.len(), "{flags}");
        let mut rest = batch.as_slice();
        for pass in &passes {
            let (chunk, behind) = rest.split_at(pass.data.len());
            let bytes: u64 = chunk.iter().map(Datum::estimated_bytes).sum();
            assert!(chunk.len() == 1 || bytes <= limit, "{bytes} of {limit} bytes: {flags}");
            rest = behind;
        }
        setup.assert_in_order(&trainer);
    }
}
