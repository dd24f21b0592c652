//! Custom losses: computed by a function, by a graph here, and by a graph on the server (PROTOCOL 13).

use std::convert::Infallible;

use serde_json::json;
use tinkex_client::{
    AdamParams, CustomLoss, CustomLossOutput, Datum, ForwardBackwardOutput, Logprobs, LossOutput, Rank,
    ServiceClient, TrainingClient,
};
use tinkex_testkit::FakeServer;
use tinkex_types::CreateCustomLossRequest;

use super::compare;
use super::fixtures::Scenario;
use super::{rendered, replay};
use crate::harness::MODEL;

/// The scenarios of this file.
pub(super) const REPLAYED: &[&str] =
    &["custom_loss_client_side", "custom_loss_handle_client_side", "custom_loss_server_side"];

async fn clients(server: &FakeServer) -> (ServiceClient, TrainingClient) {
    let service = replay::client(server).build().await.unwrap();
    let trainer = service.lora_training_client(MODEL).create().await.unwrap();
    (service, trainer)
}

#[track_caller]
fn assert_output(scenario: &Scenario, output: &ForwardBackwardOutput) {
    let decoded = scenario.decoded();
    let recorded = decoded.get("result").unwrap_or(decoded);
    let ours = rendered::output(output);
    assert!(compare::same(&ours, recorded), "{}:\n  ours:     {ours}\n  recorded: {recorded}", scenario.name);
}

/// The submissions came in the recorded order, between whatever polls.
#[track_caller]
fn assert_submissions(server: &FakeServer, scenario: &Scenario) {
    let submissions = ["create_custom_loss", "forward_backward", "optim_step"];
    let submitted = server.all_requests();
    let submitted: Vec<_> =
        submitted.iter().map(|request| request.route()).filter(|route| submissions.contains(route)).collect();
    let recorded: Vec<_> = scenario.exchanges.iter().map(|exchange| exchange.route()).collect();
    let recorded: Vec<_> = recorded.into_iter().filter(|route| submissions.contains(route)).collect();
    assert_eq!(submitted, recorded, "{}", scenario.name);
}

fn datum(tokens: [i32; 3]) -> Datum {
    Datum::new(tokens.to_vec()).target_tokens(tokens.map(|token| token + 1))
}

#[tokio::test(start_paused = true)]
async fn custom_loss_client_side() {
    let scenario = Scenario::load("custom_loss_client_side");
    let server = replay::server(&scenario);
    let (_service, trainer) = clients(&server).await;
    let data = vec![datum([1, 2, 3]).advantages([1.0, 2.0, 3.0]), datum([5, 6, 7]).weights([1.0, 0.0, 1.0])];
    let loss = |_: &[Datum], logprobs: &[Logprobs<'_>]| -> Result<_, Infallible> {
        const FACTORS: [f32; 3] = [1.0, 2.0, 3.0];
        let squares =
            |l: &Logprobs<'_>| l.iter().zip(FACTORS).map(|(l, w)| f64::from(w * l * l)).sum::<f64>();
        let slopes = |l: &Logprobs<'_>| l.iter().zip(FACTORS).map(|(l, w)| 2.0 * w * l).collect();
        let loss = logprobs.iter().map(squares).sum();
        let output = CustomLossOutput::new(loss, logprobs.iter().map(slopes).collect());
        Ok(output.metric("custom_metric", loss))
    };
    let pass = trainer.forward_backward_custom(data, loss);
    let update = trainer.optim_step(AdamParams::new(1e-4));
    assert_output(&scenario, &pass.await.unwrap());
    update.await.unwrap();
    replay::assert_requests(&server, &scenario, &[], false);
    assert_submissions(&server, &scenario);
}

fn negative_log_likelihood() -> CustomLoss {
    let loss = CustomLoss::build("neg_ll", [("weights", Rank::Vector)], |x| {
        let loss = -(x.logprobs() * x.input("weights")).sum();
        let tokens = x.input("weights").sum();
        LossOutput::new(loss.clone()).metric("custom/neg_ll:sum", loss).metric("custom/tok:mean", tokens)
    });
    loss.unwrap()
}

#[tokio::test(start_paused = true)]
async fn custom_loss_handle_client_side() {
    let scenario = Scenario::load("custom_loss_handle_client_side");
    let server = replay::server(&scenario);
    let (service, trainer) = clients(&server).await;
    let handle = service.create_custom_loss(negative_log_likelihood()).await.unwrap();
    assert_eq!((handle.loss_id(), handle.session_id()), (None, "s-0001"));
    let data = vec![datum([1, 2, 3]).weights([1.0, 2.0, 3.0]), datum([5, 6, 7]).weights([1.0, 0.0, 1.0])];
    assert_output(&scenario, &trainer.forward_backward_custom(data, &handle).await.unwrap());
    replay::assert_requests(&server, &scenario, &[], false);
    replay::assert_order(&server, &scenario);
}

#[tokio::test(start_paused = true)]
async fn custom_loss_server_side() {
    let scenario = Scenario::load("custom_loss_server_side");
    let server = replay::server(&scenario);
    let (service, trainer) = clients(&server).await;
    let uploads = scenario.of_route("create_custom_loss");
    let clipped: CreateCustomLossRequest =
        serde_json::from_value(uploads[0].request["body"].clone()).unwrap();
    let clipped = CustomLoss::try_from(clipped).unwrap();
    let (clipped, other) = tokio::join!(
        service.create_custom_loss(clipped),
        service.create_custom_loss(negative_log_likelihood())
    );
    let handle = clipped.unwrap();
    other.unwrap();
    let inputs = handle.inputs().iter();
    let rendered = json!({
        "name": handle.name(),
        "loss_id": handle.loss_id(),
        "inputs": inputs.map(|i| json!({ "name": i.name, "rank": u64::from(i.rank) })).collect::<Vec<_>>(),
        "session_id": handle.session_id(),
    });
    assert_eq!(rendered, scenario.decoded()["handle"]);
    let data = datum([1, 2, 3]).tensor("old", vec![-1.0; 3].into()).tensor("adv", vec![1.0; 3].into());
    assert_output(&scenario, &trainer.forward_backward_custom(vec![data], &handle).await.unwrap());
    replay::assert_requests(&server, &scenario, &[], false);
    assert_submissions(&server, &scenario);
}
