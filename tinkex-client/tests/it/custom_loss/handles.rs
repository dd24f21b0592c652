//! Losses that a session knows: their creation, what is refused, and both ways of computing them (PROTOCOL 13.3).

use std::error::Error as _;

use serde_json::{Value, json};
use tinkex_client::{
    CustomLoss, CustomLossHandle, CustomLossInput, Datum, Error, ErrorKind, LossGraph, LossGraphError,
    LossOutput, Rank, ServiceClient,
};
use tinkex_testkit::Step;

use super::{Setup, step, text, trainer};
use crate::harness;

/// A clipped policy gradient.
fn clipped(name: &str) -> CustomLoss {
    let inputs = [("old", Rank::Vector), ("adv", Rank::Vector)];
    let loss = CustomLoss::build(name, inputs, |x| {
        let ratio = (x.logprobs() - x.input("old")).exp();
        let objective = (&ratio * x.input("adv")).minimum(ratio.clamp(0.8, 1.2) * x.input("adv"));
        LossOutput::new(-objective.sum())
            .metric("custom/ratio:mean", ratio.mean())
            .metric("custom/objective:sum", objective.sum())
    });
    loss.unwrap()
}

fn squares() -> CustomLoss {
    let none: [(&str, Rank); 0] = [];
    CustomLoss::build("squares", none, |x| LossOutput::new(x.logprobs().pow(2.0).sum())).unwrap()
}

fn datum(words: &str, old: f32, advantage: f32) -> Datum {
    let datum = text(words);
    let n = words.len() - 1;
    datum.tensor("old", vec![old; n].into()).tensor("adv", vec![advantage; n].into())
}

fn server_side() -> Value {
    json!({ "custom_loss_server_side": true })
}

#[track_caller]
fn assert_refused(result: Result<impl std::fmt::Debug, Error>, parts: &[&str]) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{error} should say {part:?}");
    }
}

/// Nothing is sent where the server takes no uploads; the handle says what it is.
#[tokio::test(start_paused = true)]
async fn a_loss_that_is_evaluated_here() {
    let setup = Setup::new().await;
    let handle = setup.client.create_custom_loss(clipped("clip")).await.unwrap();
    assert_eq!(setup.server.count("create_custom_loss"), 0);
    assert_eq!((handle.name(), handle.loss_id()), ("clip", None));
    assert_eq!(Some(handle.session_id()), setup.client.session_id().as_deref());
    let inputs: Vec<_> = handle.inputs().iter().map(|input| (input.name.as_str(), input.rank)).collect();
    assert_eq!(inputs, [("logprobs", Rank::Vector), ("old", Rank::Vector), ("adv", Rank::Vector)]);
    let pass = setup.trainer.forward_backward_custom(vec![datum("abc", -5.0, 1.0)], &handle);
    let update = setup.trainer.optim_step(step());
    let output = pass.await.unwrap();
    update.await.unwrap();
    assert_eq!(setup.passes().len(), 2);
    assert!(output.metric("custom/ratio:mean").is_some() && output.metric("surrogate_loss:sum").is_some());
}

/// A session creates each loss once, whatever its name (vector `custom_loss`, `duplicate`); other sessions and other
/// losses are not concerned.
#[tokio::test(start_paused = true)]
async fn a_loss_is_created_once() {
    for flags in [Value::Null, server_side()] {
        let setup = Setup::with_flags(&flags).await;
        let handle = setup.client.create_custom_loss(clipped("clip")).await.unwrap();
        let sent = setup.server.count("create_custom_loss");
        assert_refused(setup.client.create_custom_loss(clipped("clip")).await, &["`clip`", "before"]);
        assert_refused(setup.client.create_custom_loss(clipped("other")).await, &["`other`", "before"]);
        drop(handle);
        assert_refused(setup.client.create_custom_loss(clipped("clip")).await, &["before"]);
        assert_eq!(setup.server.count("create_custom_loss"), sent);
        setup.client.create_custom_loss(squares()).await.unwrap();
        let elsewhere = harness::service(&setup.server).await;
        elsewhere.create_custom_loss(clipped("clip")).await.unwrap();
    }
}

/// A creation that failed can be made again: with the same number where the server refused it, with the next where it
/// took it in.
#[tokio::test(start_paused = true)]
async fn a_creation_that_fails_can_be_repeated() {
    let setup = Setup::with_flags(&server_side()).await;
    let refused = Step::status(422);
    let accepted = || Step::json(json!({ "request_id": "upload" }));
    setup.server.script("create_custom_loss", [refused, accepted(), accepted()]);
    let failed = Step::json(json!({ "error": "no such operation", "category": "user" }));
    let created = Step::json(json!({ "loss_id": "loss-7" }));
    setup.server.script("retrieve_future", [failed, created]);
    let error = setup.client.create_custom_loss(clipped("clip")).await.unwrap_err();
    assert_eq!(error.status(), Some(422));
    let error = setup.client.create_custom_loss(clipped("clip")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RequestFailed);
    assert!(error.to_string().contains("no such operation"), "{error}");
    let handle = setup.client.create_custom_loss(clipped("clip")).await.unwrap();
    assert_eq!(handle.loss_id(), Some("loss-7"));
    let numbers = setup.server.requests("create_custom_loss");
    let numbers: Vec<_> =
        numbers.iter().map(|request| request.json().unwrap()["custom_loss_seq_id"].as_u64()).collect();
    assert_eq!(numbers, [Some(0), Some(0), Some(1)]);
    assert!(setup.client.inflight().is_empty());
}

/// A handle works with the clients of its session only, and data must have its inputs at their ranks (vector
/// `custom_loss`, `missing_input` and `bad_rank`); nothing is sent otherwise, wherever the loss is computed.
#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_refused_before_anything_is_sent() {
    for flags in [Value::Null, server_side()] {
        let setup = Setup::with_flags(&flags).await;
        let handle = setup.client.create_custom_loss(clipped("clip")).await.unwrap();
        let elsewhere = harness::service(&setup.server).await;
        let stranger = trainer(&elsewhere).await;
        let good = || datum("abc", -1.0, 1.0);
        let refused = stranger.forward_backward_custom(vec![good()], &handle).await;
        assert_refused(refused, &["`clip`", setup.client.session_id().as_deref().unwrap()]);
        let lacking = vec![good(), text("abc")];
        assert_refused(setup.trainer.forward_backward_custom(lacking, &handle).await, &["`old`", "datum 1"]);
        let matrix = tinkex_client::TensorData::float32(vec![1.0, 1.0], &[2, 1]).unwrap();
        let of_rank_2 = vec![good().tensor("adv", matrix)];
        let refused = setup.trainer.forward_backward_custom(of_rank_2, &handle).await;
        assert_refused(refused, &["`adv`", "datum 0", "rank 2"]);
        assert_refused(setup.trainer.forward_backward_custom(Vec::new(), &handle).await, &["empty"]);
        assert_eq!(setup.server.count("forward_backward"), 0);
    }
}

/// A graph that cannot be evaluated here says at which datum and node.
#[tokio::test(start_paused = true)]
async fn a_graph_that_cannot_be_evaluated() {
    let setup = Setup::new().await;
    let graph: LossGraph = serde_json::from_value(json!({ "format": 1, "nodes": [
        { "op": "placeholder", "name": "logprobs", "target": "logprobs", "args": [], "kwargs": {} },
        { "op": "call_function", "name": "fft", "target": "torch.fft.fft", "args": [{ "ref": "logprobs" }], "kwargs": {} },
        { "op": "output", "name": "output", "target": "output",
          "args": [{ "tuple": [{ "ref": "fft" }, { "dict": {} }] }], "kwargs": {} },
    ]})).unwrap();
    let inputs = [CustomLossInput { name: "logprobs".to_owned(), rank: Rank::Vector }];
    let loss = CustomLoss::new("transformed", inputs, graph).unwrap();
    let handle = setup.client.create_custom_loss(loss).await.unwrap();
    let error = setup.trainer.forward_backward_custom(vec![text("abc")], &handle).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CustomLoss);
    let cause = error.source().unwrap().downcast_ref::<LossGraphError>().unwrap();
    assert_eq!((cause.datum(), cause.node()), (Some(0), Some("fft")));
}

async fn handle(client: &ServiceClient, loss: CustomLoss) -> CustomLossHandle {
    client.create_custom_loss(loss).await.unwrap()
}

/// The same loss, data and seed: computed on the server and here, loss, metrics and the model afterwards are equal.
#[tokio::test(start_paused = true)]
async fn both_ways_give_equal_results() {
    let here = Setup::new().await;
    let there = Setup::with_flags(&server_side()).await;
    let (ours, theirs) =
        (handle(&here.client, clipped("clip")).await, handle(&there.client, clipped("clip")).await);
    assert_eq!((ours.loss_id().is_some(), theirs.loss_id().is_some()), (false, true));
    let data = || vec![datum("to be", -5.0, 1.0), datum("not to be", -6.0, -0.5), datum("or", -5.5, 2.0)];
    for _ in 0..5 {
        let (a, b) = (
            here.trainer.forward_backward_custom(data(), &ours),
            there.trainer.forward_backward_custom(data(), &theirs),
        );
        let updates = (here.trainer.optim_step(step()), there.trainer.optim_step(step()));
        let (a, b) = (a.await.unwrap(), b.await.unwrap());
        for name in ["loss:sum", "custom/ratio:mean", "custom/objective:sum"] {
            let (a, b) = (a.metric(name).unwrap(), b.metric(name).unwrap());
            assert!((a - b).abs() < 1e-5 * (1.0 + b.abs()), "{name}: {a}, not {b}");
        }
        updates.0.await.unwrap();
        updates.1.await.unwrap();
    }
    let (ours, theirs) = (here.logprobs(&data()).await, there.logprobs(&data()).await);
    for (a, b) in ours.concat().into_iter().zip(theirs.concat()) {
        assert!((a - b).abs() < 1e-5, "{a}, not {b}");
    }
    // Two passes here, one there; and the forward pass of the comparison.
    assert_eq!((here.passes().len(), there.passes().len()), (11, 6));
}
