//! Both passes of a custom loss: what is sent, in which order, and what comes out (PROTOCOL 13.1).

use std::convert::Infallible;
use std::time::Duration;

use serde_json::json;
use tinkex_client::losses::{Dpo, WeightedNll};
use tinkex_client::{CustomLossOutput, Datum, Logprobs, LossFn, ProvenanceSpan, QueueState, TensorData};
use tinkex_testkit::service::Dialect;
use tinkex_testkit::{Gate, Step};
use tokio::time::Instant;

use super::{Setup, step, text, trainer};
use crate::log_capture::LogCapture;

#[track_caller]
fn assert_close(ours: &[Vec<f32>], theirs: &[Vec<f32>]) {
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(ours.len(), theirs.len());
        for (a, b) in ours.iter().zip(theirs) {
            assert!((a - b).abs() < 1e-5, "{a}, not {b}");
        }
    }
}

/// The negative log-likelihood, computed here, trains as the server's own does: same loss, same weights afterwards.
#[tokio::test(start_paused = true)]
async fn trains_like_the_loss_of_the_server() {
    let setup = Setup::new().await;
    let twin = trainer(&setup.client).await;
    let data = [text("to be or not"), text("that is the question")];
    for _ in 0..5 {
        let ours = setup.trainer.forward_backward_custom(data.to_vec(), WeightedNll);
        let stepped = setup.trainer.optim_step(step());
        let theirs = twin.forward_backward(data.to_vec(), LossFn::CrossEntropy);
        let stepped_too = twin.optim_step(step());
        let (ours, theirs) = (ours.await.unwrap(), theirs.await.unwrap());
        let (a, b) = (ours.loss().unwrap(), theirs.loss().unwrap());
        assert!((a - b).abs() < 1e-4 * b, "{a}, not {b}");
        assert_eq!(ours.metric("surrogate_loss:sum"), theirs.loss());
        stepped.await.unwrap();
        stepped_too.await.unwrap();
    }
    let ours = setup.logprobs(&data).await;
    let theirs = twin.forward(data.to_vec(), LossFn::CrossEntropy).await.unwrap();
    let theirs: Vec<_> = theirs.loss_fn_outputs.iter().map(|o| o.logprobs().unwrap().to_vec()).collect();
    assert_close(&ours, &theirs);
}

/// A preference is learned: the margin grows, and accuracy reaches 1.
#[tokio::test(start_paused = true)]
async fn learns_a_preference() {
    let setup = Setup::new().await;
    let mut data =
        vec![text("I like tea"), text("I like mud"), text("the sky is blue"), text("the sky is soup")];
    let reference = setup.logprobs(&data).await;
    for (datum, reference) in data.iter_mut().zip(reference) {
        datum.loss_fn_inputs.insert("ref_logprobs".to_owned(), reference.into());
    }
    let mut margins = Vec::new();
    for _ in 0..10 {
        let pass = setup.trainer.forward_backward_custom(data.clone(), Dpo::new(0.1));
        let update = setup.trainer.optim_step(step());
        let output = pass.await.unwrap();
        margins.push(output.metric("margin").unwrap());
        assert_eq!(output.loss(), output.metric("dpo_loss"));
        update.await.unwrap();
    }
    assert!(margins[0].abs() < 1e-6, "{margins:?}");
    assert!(margins.is_sorted() && margins[9] > 0.1, "{margins:?}");
}

/// TR-2, F-12: an optimizer step that is called right behind the loss waits for the backward pass, however long the
/// forward pass takes.
#[tokio::test(start_paused = true)]
async fn no_later_operation_overtakes_the_backward_pass() {
    let setup = Setup::new().await;
    let gate = Gate::new();
    setup.server.script("retrieve_future", [Step::behave().gate(&gate)]).then_behave();
    let pass = setup.trainer.forward_backward_custom(vec![text("abc")], WeightedNll);
    let update = setup.trainer.optim_step(step());
    let save = setup.trainer.save_state("after");
    gate.arrived(1).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!((setup.server.count("forward_backward"), setup.server.count("optim_step")), (1, 0));
    gate.open();
    pass.await.unwrap();
    update.await.unwrap();
    save.await.unwrap();
    setup.server.assert_order(&["forward_backward", "forward_backward", "optim_step", "save_weights"]);
    let run = setup.run();
    assert_eq!((run.seq_ids.as_slice(), run.steps), ([1, 2, 3, 4].as_slice(), 1));
    assert!(run.is_ordered() && run.gaps().is_empty(), "{run:?}");
}

/// The loss runs apart from the async workers: while it blocks its thread everything else goes on, and the operations
/// behind it wait. (Virtual time stands still meanwhile, as it would not if the worker itself were blocked.)
#[tokio::test(start_paused = true)]
async fn a_busy_loss_blocks_only_its_own_step() {
    let setup = Setup::new().await;
    let other = trainer(&setup.client).await;
    let (begun, mut running) = tokio::sync::mpsc::unbounded_channel();
    let (finish, finished) = std::sync::mpsc::channel();
    let loss = move |_: &[Datum], logprobs: &[Logprobs<'_>]| {
        begun.send(std::thread::current().id()).unwrap();
        finished.recv().unwrap();
        let gradients = logprobs.iter().map(|l| vec![0.0; l.len()]).collect();
        Ok::<_, Infallible>(CustomLossOutput::new(7.5, gradients).metric("reward", 0.25))
    };
    let pass = setup.trainer.forward_backward_custom(vec![text("abc")], loss);
    let update = setup.trainer.optim_step(step());
    let thread = running.recv().await.unwrap();
    assert_ne!(thread, std::thread::current().id());
    let now = Instant::now();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!((setup.server.count("forward_backward"), setup.server.count("optim_step")), (1, 0));
    assert_eq!(Instant::now(), now);
    let elsewhere = other.optim_step(step());
    setup.server.wait_for("optim_step", 1).await;
    finish.send(()).unwrap();
    let output = pass.await.unwrap();
    assert_eq!((output.loss(), output.metric("reward")), (Some(7.5), Some(0.25)));
    assert_eq!(output.metric("surrogate_loss:sum"), Some(0.0));
    update.await.unwrap();
    elsewhere.await.unwrap();
}

/// What only the loss needs stays here; targets and spans go out in both passes; weights are 0 where there are none.
#[tokio::test(start_paused = true)]
async fn sends_targets_and_weights_only() {
    let setup = Setup::new().await;
    let datum = Datum::new(vec![97, 98])
        .target_tokens([98, 99])
        .advantages([3.0, 4.0])
        .model_input_spans([ProvenanceSpan::prompt("p", 0, 2)])
        .loss_fn_input_spans([ProvenanceSpan::sampled("s", 1, 2)]);
    let loss = |data: &[Datum], _: &[Logprobs<'_>]| -> Result<_, Infallible> {
        let gradient = data[0].loss_fn_inputs["advantages"].as_float32().unwrap_or_default().to_vec();
        Ok(CustomLossOutput::new(1.0, vec![gradient]))
    };
    setup.trainer.forward_backward_custom(vec![datum], loss).await.unwrap();
    let passes = setup.passes();
    assert_eq!(passes.iter().map(|pass| pass.forward_only).collect::<Vec<_>>(), [true, false]);
    for (pass, weights) in passes.iter().zip([[0.0, 0.0], [-3.0, -4.0]]) {
        assert_eq!(pass.loss_fn, "cross_entropy");
        assert!(pass.loss_fn_config.is_empty() && pass.loss_fn_config_v2.is_empty());
        let [datum] = pass.data.as_slice() else { panic!("one datum") };
        let mut names: Vec<_> = datum.loss_fn_inputs.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["target_tokens", "weights"]);
        let sent = TensorData::from_proto(&datum.loss_fn_inputs["weights"]).unwrap();
        assert_eq!((sent.as_float32(), sent.shape()), (Some(weights.as_slice()), Some([2].as_slice())));
        assert_eq!((datum.model_input_spans.len(), datum.loss_fn_input_spans.len()), (1, 1));
    }
}

/// Large batches: both passes are cut in the same places, though the backward data are larger, and the outputs come
/// back in the order of the data.
#[tokio::test(start_paused = true)]
async fn chunks_of_both_passes_have_the_same_boundaries() {
    for parallel in [false, true] {
        let flags = json!({
            "fwdbwd_max_chunk_len": 3,
            "fwdbwd_max_chunk_bytes_count": 800,
            "parallel_fwdbwd_chunks": parallel,
        });
        let setup = Setup::with_flags(&flags).await;
        // Eight positions with four targets each: weights of 0 go out sparse, the gradient dense.
        let datum = |n: i64| {
            let targets: Vec<i64> = (0..32).map(|t| 97 + (n + t) % 26).collect();
            Datum::new(vec![97; 8]).tensor("target_tokens", TensorData::int64(targets, &[8, 4]).unwrap())
        };
        let data: Vec<_> = (0..5).map(datum).collect();
        let pass = setup.trainer.forward_backward_custom(data.clone(), WeightedNll);
        let update = setup.trainer.optim_step(step());
        let output = pass.await.unwrap();
        update.await.unwrap();
        let mut passes = setup.passes();
        passes.sort_by_key(|pass| pass.seq_id);
        let sent: Vec<_> =
            passes.iter().map(|pass| (pass.seq_id, pass.data.len(), pass.forward_only)).collect();
        let expected =
            [(1, 2, true), (2, 2, true), (3, 1, true), (4, 2, false), (5, 2, false), (6, 1, false)];
        assert_eq!(sent, expected, "parallel: {parallel}");
        let alone = setup.service.run(setup.trainer.model_id()).unwrap();
        assert!(alone.gaps().is_empty() && alone.steps == 1, "{alone:?}");
        assert_eq!(output.loss_fn_outputs.len(), 5);
        assert_eq!(output.loss_fn_outputs[4].get("logprobs").unwrap().shape(), Some([8, 4].as_slice()));
    }
}

/// A step whose handle is dropped still makes both passes.
#[tokio::test(start_paused = true)]
async fn a_dropped_handle_detaches_the_step() {
    let setup = Setup::new().await;
    drop(setup.trainer.forward_backward_custom(vec![text("abc")], WeightedNll));
    setup.trainer.optim_step(step()).await.unwrap();
    let forward_only: Vec<_> = setup.passes().iter().map(|pass| pass.forward_only).collect();
    assert_eq!(forward_only, [true, false]);
    assert_eq!(setup.run().steps, 1);
}

/// Under every dialect: protobuf or JSON, strict ids, failures as statuses.
#[tokio::test(start_paused = true)]
async fn every_dialect() {
    for dialect in [Dialect::production(), Dialect::skyrl(), Dialect::tuft(), Dialect::hatchery()] {
        let name = dialect.name;
        let setup = Setup::of(dialect, &serde_json::Value::Null).await;
        let mut losses = Vec::new();
        for _ in 0..3 {
            let pass = setup.trainer.forward_backward_custom(vec![text("hello world")], WeightedNll);
            let update = setup.trainer.optim_step(step());
            losses.push(pass.await.unwrap().loss().unwrap());
            update.await.unwrap();
        }
        assert!(losses.is_sorted_by(|a, b| a > b), "{name}: {losses:?}");
        let run = setup.run();
        assert!(run.gaps().is_empty() && run.is_ordered() && run.steps == 3, "{name}: {run:?}");
    }
}

/// QS-2, S2-04: a pause that either pass meets is told as one of training.
#[tokio::test(start_paused = true)]
async fn pauses_of_both_passes_are_told() {
    for backward in [false, true] {
        let setup = Setup::new().await;
        let (log, _guard) = LogCapture::start();
        let service = setup.service.clone();
        let pause = move || service.pause_next(QueueState::PausedCapacity, None, Duration::from_secs(5));
        if !backward {
            pause();
        }
        let loss = move |_: &[Datum], logprobs: &[Logprobs<'_>]| {
            if backward {
                pause();
            }
            let gradients = logprobs.iter().map(|l| vec![0.0; l.len()]).collect();
            Ok::<_, Infallible>(CustomLossOutput::new(0.0, gradients))
        };
        setup.trainer.forward_backward_custom(vec![text("abc")], loss).await.unwrap();
        let told = format!("Training is paused for {}. Reason: out of capacity", setup.trainer.model_id());
        assert_eq!(log.pause_texts(), [told], "in the backward pass: {backward}");
    }
}
