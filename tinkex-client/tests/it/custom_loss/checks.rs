//! What is refused of data, losses and gradients, and in which words.

use tinkex_client::losses::{Dpo, DpoReference, KlPolicyGradient, WeightedNll};
use tinkex_client::{
    BoxError, CsrIndices, CustomLossFn, CustomLossOutput, Datum, InvalidInput, Logprobs, TensorData,
    TensorValues,
};

#[track_caller]
fn assert_refused<T>(result: Result<T, InvalidInput>, field: &str, parts: &[&str]) {
    let Err(refused) = result else { panic!("{field} should have been refused") };
    assert_eq!(refused.field(), field, "{refused}");
    let text = refused.to_string();
    for part in parts {
        assert!(text.contains(part), "{text:?} should say {part:?}");
    }
}

fn datum() -> Datum {
    Datum::new(vec![1, 2]).target_tokens(vec![2_i64, 3])
}

/// An input that is missing, of the wrong type or of the wrong length is named, with the datum, before anything runs.
#[test]
fn inputs_of_the_ready_made_losses() {
    let complete = || {
        datum().logprobs(vec![-1.0; 2]).advantages(vec![1.0; 2]).tensor("ref_logprobs", vec![-1.0; 2].into())
    };
    KlPolicyGradient::new(0.0).check(&[complete(), complete().weights(vec![1.0; 2])]).unwrap();
    for name in ["logprobs", "advantages", "ref_logprobs", "target_tokens"] {
        let mut lacking = complete();
        lacking.loss_fn_inputs.remove(name);
        let refused = KlPolicyGradient::new(0.1).check(&[complete(), lacking]);
        assert_refused(refused, "data", &[&format!("`{name}`"), "datum 1"]);
    }
    let refused = Dpo::new(0.1).check(&[complete(), datum()]);
    assert_refused(refused, "data", &["`ref_logprobs`", "datum 1"]);
    let elsewhere = Dpo::new(0.1).reference(DpoReference::Input("logprobs".to_owned()));
    elsewhere.check(&[complete(), complete()]).unwrap();

    assert_refused(
        WeightedNll.check(&[datum().weights(vec![1.0])]),
        "data",
        &["datum 0", "1 values", "`weights`", "2 target"],
    );
    let integers = datum().tensor("weights", vec![1_i64, 1].into());
    assert_refused(WeightedNll.check(&[integers]), "data", &["datum 0", "integers", "`weights`"]);
    assert_refused(WeightedNll.check(&[Datum::new(vec![1])]), "data", &["datum 0", "`target_tokens`"]);
}

/// The check runs in the call, so it looks at what is there and not at the values, whose number may be large. What is
/// wrong inside shows when the loss is computed.
#[test]
fn values_are_not_read_by_the_check() {
    let csr = |column: i64| CsrIndices { crow: vec![0, 1, 1].into(), col: vec![column].into() };
    let sparse = |values, columns| TensorData::sparse(values, csr(1), 2, columns).unwrap();
    let targets = sparse(TensorValues::Int64(vec![9].into()), 2);
    let datum = Datum::new(vec![1, 2]).tensor("target_tokens", targets);
    let misplaced: TensorData = serde_json::from_value(serde_json::json!({
        "data": [3.0], "dtype": "float32", "shape": [2, 2], "sparse_crow_indices": [0, 1, 1],
        "sparse_col_indices": [7],
    }))
    .unwrap();
    let broken = [datum.clone().tensor("weights", misplaced)];
    WeightedNll.check(&broken).unwrap();
    let logprobs = [Logprobs::new(&[-1.0; 4], &[2, 2]).unwrap()];
    let refused = WeightedNll.evaluate(&broken, &logprobs).unwrap_err().to_string();
    assert!(refused.contains("malformed") && refused.contains("`weights`"), "{refused}");
    let longer = datum.tensor("weights", sparse(TensorValues::Float32(vec![3.0].into()), 3));
    assert_refused(WeightedNll.check(&[longer]), "data", &["datum 0", "6 values", "`weights`", "4 target"]);
}

/// Sparse inputs are read as what they stand for.
#[test]
fn sparse_inputs() {
    let csr = CsrIndices { crow: vec![0, 1, 1].into(), col: vec![1].into() };
    let weights = TensorData::sparse(TensorValues::Float32(vec![3.0].into()), csr.clone(), 2, 2).unwrap();
    let targets = TensorData::sparse(TensorValues::Int64(vec![9].into()), csr, 2, 2).unwrap();
    let datum = Datum::new(vec![1, 2]).tensor("target_tokens", targets).tensor("weights", weights);
    WeightedNll.check(std::slice::from_ref(&datum)).unwrap();
    let logprobs = Logprobs::new(&[-1.0, -2.0, -4.0, -8.0], &[2, 2]).unwrap();
    let output = WeightedNll.evaluate(&[datum], &[logprobs]).unwrap();
    assert_eq!((output.loss, output.gradients), (6.0, vec![vec![0.0, -3.0, 0.0, 0.0]]));
}

/// The numbers of the losses themselves.
#[test]
fn arguments_of_the_ready_made_losses() {
    for beta in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_refused(Dpo::new(beta).check(&[]), "beta", &["greater than 0"]);
    }
    for coefficient in [-0.1, f64::NAN, f64::INFINITY] {
        assert_refused(KlPolicyGradient::new(coefficient).check(&[]), "kl_coefficient", &["at least 0"]);
    }
    assert_refused(Dpo::new(0.1).check(&[datum()]), "data", &["pairs", "1 datums"]);
    let sums = Dpo::new(0.1).reference(DpoReference::Sums(vec![0.0; 3]));
    assert_refused(sums.check(&[datum(), datum()]), "reference", &["3 sums", "2 datums"]);
}

/// A loss is given one log-probability per target, and says so where it is not.
#[test]
fn log_probabilities_that_do_not_fit() {
    let of = |logprobs: &[Logprobs<'_>]| WeightedNll.evaluate(&[datum()], logprobs).unwrap_err().to_string();
    assert!(of(&[]).contains("0 of 1 datums"), "{}", of(&[]));
    let short = of(&[Logprobs::from([-1.0].as_slice())]);
    assert!(short.contains("1 for the 2 target tokens of datum 0"), "{short}");
    assert_refused(Logprobs::new(&[-1.0], &[2, 1]), "logprobs", &["[2, 1]", "1 values"]);
    assert_refused(Logprobs::new(&[], &[u64::MAX, 2]), "logprobs", &["cannot hold"]);
}

/// One finite gradient of the right length per datum, and a finite loss (PROTOCOL 13.1).
#[test]
fn outputs() {
    let (a, b) = ([-1.0, -2.0], [-3.0]);
    let logprobs = [Logprobs::from(a.as_slice()), Logprobs::from(b.as_slice())];
    let check = |loss: f64, gradients: &[&[f32]]| {
        CustomLossOutput::new(loss, gradients.iter().map(|g| g.to_vec()).collect()).check(&logprobs)
    };
    check(1.0, &[&[0.0, 1.0], &[-1.0]]).unwrap();
    assert_refused(check(f64::NAN, &[&[0.0, 1.0], &[-1.0]]), "loss", &["NaN", "finite"]);
    assert_refused(check(1.0, &[&[0.0, 1.0]]), "gradients", &["1 for 2 datums"]);
    assert_refused(check(1.0, &[&[0.0, 1.0], &[]]), "gradients", &["0 values", "datum 1", "1 log-prob"]);
    let infinite = check(1.0, &[&[0.0, f32::INFINITY], &[1.0]]);
    assert_refused(infinite, "gradients", &["inf", "position 1", "datum 0"]);
    assert_refused(check(1.0, &[&[0.0, 0.0], &[f32::NAN]]), "gradients", &["NaN", "datum 1"]);
}

/// Closures may fail with any error, which is kept.
#[test]
fn closures() {
    let typed =
        |_: &[Datum], _: &[Logprobs<'_>]| Err::<CustomLossOutput, _>(InvalidInput::new("x", "is odd"));
    let error = typed.evaluate(&[], &[]).unwrap_err();
    assert!(error.is::<InvalidInput>());
    let text = |_: &[Datum], _: &[Logprobs<'_>]| Err::<CustomLossOutput, &str>("no reward today");
    assert_eq!(text.evaluate(&[], &[]).unwrap_err().to_string(), "no reward today");
    let output = |_: &[Datum], _: &[Logprobs<'_>]| -> Result<_, BoxError> {
        Ok(CustomLossOutput::new(2.0, Vec::new()).metric("reward", 0.5))
    };
    output.check(&[Datum::new(vec![1])]).unwrap();
    assert_eq!(output.evaluate(&[], &[]).unwrap().metrics["reward"], 0.5);
}
