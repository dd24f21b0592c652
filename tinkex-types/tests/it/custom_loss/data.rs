//! Losses on data: the recorded handle that runs locally, shapes, and data that is refused (PROTOCOL 13.3).

use std::sync::Arc;

use serde_json::json;
use tinkex_types::custom_loss::{LossGraphErrorKind, LossOutput, Rank};
use tinkex_types::{CsrIndices, CustomLoss, Datum, TensorData, TensorValues};

use super::recorded_graph;
use crate::support::{bytes, fixture};

fn neg_ll() -> CustomLoss {
    let recorded = super::recorded(1);
    let inputs: Vec<_> = serde_json::from_value(recorded["inputs"].clone()).unwrap();
    CustomLoss::new("neg_ll", inputs, recorded_graph(1)).unwrap()
}

/// The recorded run: losses summed, `:sum` metrics summed, `:mean` ones divided by the number of datums, and the
/// negative gradients are the weights that were sent back.
#[test]
fn the_recorded_handle_runs() {
    let scenario = fixture(include_str!("../../fixtures/custom_loss_handle_client_side.json"));
    let recorded = &scenario["decoded"];
    let sent = &scenario["exchanges"][2]["request"]["body_proto"]["data"];
    let mut data = Vec::new();
    let mut logprobs: Vec<Vec<f32>> = Vec::new();
    let mut sent_weights: Vec<Vec<f32>> = Vec::new();
    for (datum, output) in
        sent.as_array().unwrap().iter().zip(recorded["loss_fn_outputs"].as_array().unwrap())
    {
        let packed = bytes(&datum["loss_fn_inputs"]["weights"]["dense"]);
        let weights: Vec<f32> = packed.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        data.push(Datum::new(vec![1, 2, 3]).target_tokens([2, 3, 4]).weights(weights.clone()));
        logprobs.push(serde_json::from_value(output["logprobs"]["data"].clone()).unwrap());
        sent_weights.push(weights);
    }
    let loss = neg_ll();
    loss.check_data(&data).unwrap();
    let slices: Vec<&[f32]> = logprobs.iter().map(Vec::as_slice).collect();
    let outcome = loss.evaluate_data(&data, &slices).unwrap();
    let metrics = &recorded["metrics"];
    assert_eq!(json!(outcome.loss), metrics["loss:sum"]);
    assert_eq!(outcome.metrics.len(), 2);
    for (key, value) in &outcome.metrics {
        assert_eq!(&json!(value), &metrics[key], "{key}");
    }
    let negated: Vec<Vec<f32>> =
        outcome.gradients.iter().map(|gradient| gradient.iter().map(|g| -g).collect()).collect();
    assert_eq!(negated, sent_weights);
}

fn matrix_loss() -> CustomLoss {
    CustomLoss::build_on_matrix(
        "distill",
        [("weights", Rank::Matrix), ("scale", Rank::Scalar), ("counts", Rank::Vector)],
        |x| {
            let weighted = x.logprobs() * x.input("weights") * x.input("scale");
            LossOutput::new(-(weighted * x.input("counts")).sum())
        },
    )
    .unwrap()
}

/// Rank 2, a sparse input, a scalar and integers: inputs become dense numbers.
#[test]
fn inputs_of_every_kind() {
    let csr = CsrIndices { crow: Arc::from([0, 1, 2]), col: Arc::from([1, 0]) };
    let weights = TensorValues::Float32(Arc::from([2.0f32, 3.0]));
    let sparse = TensorData::sparse(weights, csr, 2, 2).unwrap();
    let datum = Datum::new(vec![1, 2])
        .tensor("target_tokens", TensorData::int64(vec![1, 2, 3, 4], &[2, 2]).unwrap())
        .tensor("weights", sparse)
        .tensor("scale", TensorData::scalar_f32(0.5))
        .tensor("counts", TensorData::from(vec![10i64, 100]));
    let loss = matrix_loss();
    loss.check_data(std::slice::from_ref(&datum)).unwrap();
    let outcome = loss.evaluate_data(std::slice::from_ref(&datum), &[&[-1.0, -2.0, -3.0, -4.0]]).unwrap();
    // Weights [[0, 2], [3, 0]], counts [10, 100], scale 0.5.
    assert_eq!(outcome.gradients, [[-0.0, -100.0, -15.0, -0.0]]);
    assert_eq!(outcome.loss, 245.0);
    // By protobuf a scalar loses its shape: the check refuses it, the evaluation takes it.
    let shapeless = TensorData::from_proto(&TensorData::scalar_f32(0.5).to_proto()).unwrap();
    assert_eq!(shapeless.shape(), None);
    let datum = datum.tensor("scale", shapeless);
    assert!(loss.check_data(std::slice::from_ref(&datum)).is_err());
    assert_eq!(loss.evaluate_data(&[datum], &[&[-1.0, -2.0, -3.0, -4.0]]).unwrap().loss, 245.0);
}

/// [custom_loss] missing_input and bad_rank: refused before anything is sent, and by the evaluation, with the index
/// of the datum and the name of the input.
#[test]
fn bad_data_is_refused() {
    let good = || Datum::new(vec![1, 2, 3]).target_tokens([2, 3, 4]).weights([1.0, 1.0, 1.0]);
    let without = |name: &str| {
        let mut datum = good();
        datum.loss_fn_inputs.remove(name);
        datum
    };
    let matrix = TensorData::float32(vec![1.0, 1.0, 1.0], &[1, 3]).unwrap();
    let targets = TensorData::int64(vec![2, 3, 4], &[3, 1]).unwrap();
    let loss = neg_ll();
    assert_eq!(loss.check_data(&[good(), good()]), Ok(()));
    for (bad, expected) in [
        (without("weights"), "must have `weights`: datum 1 has not"),
        (without("target_tokens"), "must have `target_tokens`: datum 1 has not"),
        (good().tensor("weights", matrix), "`weights` of rank 1: in datum 1 it has rank 2"),
        (
            good().tensor("weights", TensorData::scalar_f32(1.0)),
            "`weights` of rank 1: in datum 1 it has rank 0",
        ),
        (good().tensor("target_tokens", targets), "`target_tokens` of rank 1: in datum 1 it has rank 2"),
    ] {
        let data = [good(), bad];
        let refused = loss.check_data(&data).unwrap_err();
        assert_eq!(refused.field(), "data");
        assert!(refused.to_string().contains(expected), "{refused}");
        let error = loss.evaluate_data(&data, &[&[-1.0; 3], &[-1.0; 3]]).unwrap_err();
        assert_eq!((error.kind(), error.datum()), (LossGraphErrorKind::Input, Some(1)), "{error}");
    }
    // A tensor without a shape counts as rank 1.
    let shapeless: TensorData =
        serde_json::from_value(json!({"data": [1, 1, 1], "dtype": "float32"})).unwrap();
    assert_eq!(loss.check_data(&[good().tensor("weights", shapeless)]), Ok(()));
    // Log-probabilities that do not fit the targets, and lengths that do not fit each other.
    for (logprobs, kind) in [(vec![-1.0; 2], LossGraphErrorKind::Input), (vec![], LossGraphErrorKind::Input)]
    {
        let error = loss.evaluate_data(&[good()], &[&logprobs]).unwrap_err();
        assert_eq!((error.kind(), error.datum()), (kind, Some(0)), "{error}");
    }
    assert_eq!(loss.evaluate_data(&[good()], &[]).unwrap_err().kind(), LossGraphErrorKind::Input);
    let error = loss.evaluate_data(&[good().weights([1.0, 2.0])], &[&[-1.0; 3]]).unwrap_err();
    assert_eq!(
        (error.kind(), error.node(), error.datum()),
        (LossGraphErrorKind::Shape, Some("mul"), Some(0))
    );
    assert!(error.to_string().starts_with("custom loss: datum 0: node `mul` (operator.mul): "), "{error}");
}
