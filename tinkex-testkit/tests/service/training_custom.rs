//! Uploaded losses.

use serde_json::{Value, json};
use tinkex_testkit::Reply;
use tinkex_testkit::service::Dialect;
use tinkex_types::ErrorCategory;
use tinkex_types::custom_loss::{CreateCustomLossRequest, CustomLoss, LossOutput, Rank};

use crate::caller::{Caller, refusal, text};
use crate::training::{Found, Pass, SECRET, Trainer};

/// −Σ weight · logprob, which is what cross_entropy computes.
fn weighted() -> CustomLoss {
    CustomLoss::build("neg_ll", [("weights", Rank::Vector)], |x| {
        let loss = -(x.logprobs() * x.input("weights")).sum();
        LossOutput::new(loss)
            .metric("custom/weight:sum", x.input("weights").sum())
            .metric("custom/weight:mean", x.input("weights").sum())
    })
    .unwrap()
}

async fn upload(caller: &Caller, number: u64, loss: &CustomLoss, change: impl FnOnce(&mut Value)) -> Reply {
    let mut body = serde_json::to_value(CreateCustomLossRequest::new(&caller.session, number, loss)).unwrap();
    change(&mut body);
    caller.post("create_custom_loss", body).await
}

/// The id of an uploaded loss that must have been accepted.
async fn uploaded(caller: &Caller, number: u64, loss: &CustomLoss) -> String {
    let promise = text(&upload(caller, number, loss, |_| {}).await, "request_id");
    let result = caller.retrieve(&promise).await;
    assert_eq!(text(&result, "type"), "create_custom_loss");
    text(&result, "loss_id")
}

fn custom(pass: Pass, loss_id: &str) -> Pass {
    let inputs = pass.inputs.clone();
    pass.loss("custom", json!({ "loss_id": loss_id }), &inputs)
}

/// PROTOCOL 13.3: an uploaded −Σ w·logprob is cross_entropy, step by step.
#[tokio::test(start_paused = true)]
async fn an_uploaded_loss_trains_as_the_built_in_one_it_equals() {
    let caller = Caller::production().await;
    let loss_id = uploaded(&caller, 0, &weighted()).await;
    let (built_in, own) = (Trainer::new(&caller, 0).await, Trainer::new(&caller, 1).await);
    let mut pass = Pass::new(&[SECRET, "something else"]);
    pass.inputs = vec![("weights", 0.5)];
    let custom = custom(pass.clone(), &loss_id);
    let mut losses = Vec::new();
    for step in 0..20 {
        let expected = built_in.learn(2 * step + 1, &pass).await;
        let loss = own.learn(2 * step + 1, &custom).await;
        assert!((loss - expected).abs() < 1e-4 * expected, "{step}: {loss} {expected}");
        losses.push(loss);
    }
    assert!(losses[19] < 0.5 * losses[0], "{losses:?}");
    let (expected, found) = (built_in.found(41, &pass).await, own.found(41, &custom).await);
    let pairs = expected.logprobs.iter().flatten().zip(found.logprobs.iter().flatten());
    assert!(pairs.clone().count() == 35 && pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-3));
    let metric = |name: &str| found.metrics.iter().find(|(key, _)| key == name).unwrap().1;
    assert_eq!((metric("custom/weight:sum"), metric("custom/weight:mean")), (17.5, 8.75));
    assert_eq!(metric("loss:sum"), found.loss);
}

/// Looking with an uploaded loss leaves no gradient.
#[tokio::test(start_paused = true)]
async fn an_uploaded_loss_can_be_looked_at_without_learning() {
    let caller = Caller::production().await;
    let loss_id = uploaded(&caller, 0, &weighted()).await;
    let trainer = Trainer::new(&caller, 0).await;
    let pass = custom(Pass::new(&[SECRET]), &loss_id).forward_only();
    let first = trainer.found(1, &pass).await;
    trainer.fetch(trainer.step(2, 0.1).await).await;
    assert_eq!(trainer.found(3, &pass).await, first);
}

/// A loss is made once per number, and belongs to its session.
#[tokio::test(start_paused = true)]
async fn an_uploaded_loss_is_made_once_and_belongs_to_its_session() {
    let caller = Caller::production().await;
    let first = upload(&caller, 0, &weighted(), |_| {}).await;
    let again = upload(&caller, 0, &weighted(), |_| {}).await;
    assert_eq!(text(&first, "request_id"), text(&again, "request_id"));
    assert_eq!(refusal(&upload(&caller, 0, &weighted(), |body| body["name"] = json!("other")).await).0, 409);
    assert_eq!(
        refusal(&upload(&caller, 1, &weighted(), |body| body["session_id"] = json!("s")).await).0,
        404
    );
    let loss_id = uploaded(&caller, 0, &weighted()).await;
    let session = text(&caller.create_session().await, "session_id");
    let made = crate::training::create_model(&caller, 0, json!({ "session_id": session })).await;
    let model = text(&caller.retrieve(&text(&made, "request_id")).await, "model_id");
    let stranger = Trainer { caller: &caller, model };
    for (seq_id, loss_id, expected) in
        [(1, loss_id.as_str(), "another session"), (2, "loss-none", "unknown loss_id")]
    {
        let pass = custom(Pass::new(&[SECRET]), loss_id);
        let reply = stranger.fetch(stranger.pass(seq_id, &pass).await).await;
        assert_eq!(text(&reply, "category"), "user");
        assert!(text(&reply, "error").contains(expected));
    }
    let no_id = Pass::new(&[SECRET]).loss("custom", json!({}), &[]);
    assert!(text(&stranger.fetch(stranger.pass(3, &no_id).await).await, "error").contains("loss_id"));
}

/// What the server cannot run fails when it is uploaded; what does not fit the data, when it is used.
#[tokio::test(start_paused = true)]
async fn a_loss_that_cannot_be_run_fails_for_its_user() {
    let caller = Caller::production().await;
    let failing: [fn(&mut Value); 4] = [
        |body| body["graph"]["nodes"][2]["target"] = json!("torch.linalg.svd"),
        |body| body["graph"]["nodes"][2]["args"][0] = json!({ "ref": "nowhere" }),
        |body| body["inputs"][0]["name"] = json!("weights"),
        |body| body["graph"]["format"] = json!(2),
    ];
    for (number, change) in failing.into_iter().enumerate() {
        let reply = upload(&caller, number as u64, &weighted(), change).await;
        let failed = caller.retrieve(&text(&reply, "request_id")).await;
        assert_eq!(text(&failed, "category"), "user", "{number}");
    }
    assert_eq!(refusal(&upload(&caller, 9, &weighted(), |body| body["graph"] = json!("x")).await).0, 422);
    caller.service.fail_next(ErrorCategory::Server, "boom");
    let failed = upload(&caller, 10, &weighted(), |_| {}).await;
    assert_eq!(text(&caller.retrieve(&text(&failed, "request_id")).await, "error"), "boom");

    let loss_id = uploaded(&caller, 11, &weighted()).await;
    let trainer = Trainer::new(&caller, 0).await;
    let without = Pass::new(&[SECRET]).loss("custom", json!({ "loss_id": loss_id }), &[("adv", 1.0)]);
    let reply = trainer.fetch(trainer.pass(1, &without).await).await;
    assert!(text(&reply, "category") == "user" && text(&reply, "error").contains("weights"));
    let none = trainer.fetch(trainer.pass(2, &custom(Pass::new(&[]), &loss_id)).await).await;
    assert!(text(&none, "error").contains("no data"));
    Found::of(&trainer.fetch(trainer.pass(3, &custom(Pass::new(&[SECRET]), &loss_id)).await).await);
}

/// Other servers do not have them.
#[tokio::test(start_paused = true)]
async fn open_servers_have_no_uploaded_losses() {
    for dialect in [Dialect::skyrl(), Dialect::tuft(), Dialect::hatchery()] {
        let caller = Caller::new(dialect).await;
        assert_eq!(upload(&caller, 0, &weighted(), |_| {}).await.status, 404);
    }
}
