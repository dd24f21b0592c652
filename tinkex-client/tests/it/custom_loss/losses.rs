//! The ready-made losses: their values, their gradients against finite differences, and their limits.

use proptest::collection::vec;
use proptest::prelude::*;
use tinkex_client::losses::{Dpo, DpoReference, KlPolicyGradient, WeightedNll};
use tinkex_client::{CustomLossFn, CustomLossOutput, Datum, Logprobs};

/// One datum as the tests draw it: per position a log-probability and the values of the loss inputs.
#[derive(Clone, Debug)]
struct Drawn {
    logprobs: Vec<f32>,
    weights: Option<Vec<f32>>,
    old: Vec<f32>,
    reference: Vec<f32>,
    advantages: Vec<f32>,
}

impl Drawn {
    fn datum(&self) -> Datum {
        let positions = self.logprobs.len();
        let datum = Datum::new(vec![7; positions])
            .target_tokens(vec![7_i64; positions])
            .logprobs(self.old.clone())
            .advantages(self.advantages.clone())
            .tensor("ref_logprobs", self.reference.clone().into());
        match &self.weights {
            Some(weights) => datum.weights(weights.clone()),
            None => datum,
        }
    }
}

/// The step of the finite differences. All drawn values are multiples of it, so that a step is exact in float32.
const STEP: f32 = 1.0 / 1024.0;

fn drawn() -> impl Strategy<Value = Drawn> {
    (1usize..5).prop_flat_map(|positions| {
        let grid =
            |range: std::ops::Range<i32>| vec(range.prop_map(|n| n as f32 * STEP), positions..=positions);
        let weights = proptest::option::of(vec(
            prop_oneof![Just(0.0f32), Just(1.0), Just(0.5), Just(2.0)],
            positions..=positions,
        ));
        (grid(-4096..0), weights, grid(-4096..0), grid(-4096..0), grid(-2048..2048)).prop_map(
            |(logprobs, weights, old, reference, advantages)| Drawn {
                logprobs,
                weights,
                old,
                reference,
                advantages,
            },
        )
    })
}

fn evaluate(loss: impl CustomLossFn, data: &[Datum], logprobs: &[Vec<f32>]) -> CustomLossOutput {
    loss.check(data).unwrap();
    let views: Vec<_> = logprobs.iter().map(|values| Logprobs::from(values.as_slice())).collect();
    let output = loss.evaluate(data, &views).unwrap();
    output.check(&views).unwrap();
    output
}

/// Asserts that the gradient is the central difference of the loss, in every direction.
fn assert_gradient<L: CustomLossFn + Clone>(loss: &L, drawn: &[Drawn]) -> Result<(), TestCaseError> {
    let data: Vec<_> = drawn.iter().map(Drawn::datum).collect();
    let logprobs: Vec<_> = drawn.iter().map(|drawn| drawn.logprobs.clone()).collect();
    let output = evaluate(loss.clone(), &data, &logprobs);
    for (n, gradient) in output.gradients.iter().enumerate() {
        for (t, analytic) in gradient.iter().enumerate() {
            let at = |step: f32| {
                let mut moved = logprobs.clone();
                moved[n][t] += step;
                evaluate(loss.clone(), &data, &moved).loss
            };
            let numeric = (at(STEP) - at(-STEP)) / f64::from(2.0 * STEP);
            let analytic = f64::from(*analytic);
            let tolerance = 1e-4 * (1.0 + numeric.abs());
            prop_assert!(
                (analytic - numeric).abs() <= tolerance,
                "datum {n}, position {t}: {analytic}, not {numeric}"
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(20_260_101),
        ..ProptestConfig::default()
    })]

    /// Weighted NLL: gradient, and that weights of 1 are the default.
    #[test]
    fn weighted_nll_has_its_gradient(drawn in vec(drawn(), 1..4)) {
        assert_gradient(&WeightedNll, &drawn)?;
    }

    /// DPO, with both sources of the reference: the same loss, the same gradient.
    #[test]
    fn dpo_has_its_gradient(mut drawn in vec(drawn(), 1..3), other in vec(drawn(), 3), beta in 0.05f64..2.0) {
        drawn.extend(other.into_iter().take(drawn.len()));
        assert_gradient(&Dpo::new(beta), &drawn)?;
        let sums = drawn.iter().map(|drawn| {
            let ones = vec![1.0; drawn.reference.len()];
            let weights = drawn.weights.as_ref().unwrap_or(&ones);
            weights.iter().zip(&drawn.reference).map(|(w, r)| f64::from(w * r)).sum()
        });
        let by_sums = Dpo::new(beta).reference(DpoReference::Sums(sums.collect()));
        let data: Vec<_> = drawn.iter().map(Drawn::datum).collect();
        let logprobs: Vec<_> = drawn.iter().map(|drawn| drawn.logprobs.clone()).collect();
        let (a, b) = (evaluate(by_sums, &data, &logprobs), evaluate(Dpo::new(beta), &data, &logprobs));
        prop_assert!((a.loss - b.loss).abs() < 1e-9);
        let pairs = a.gradients.concat().into_iter().zip(b.gradients.concat());
        for (one, other) in pairs {
            prop_assert!((one - other).abs() < 1e-6, "{one}, not {other}");
        }
    }

    /// The penalised policy gradient, for on-policy and off-policy tokens.
    #[test]
    fn kl_policy_gradient_has_its_gradient(drawn in vec(drawn(), 1..4), coefficient in 0.0f64..2.0) {
        assert_gradient(&KlPolicyGradient::new(coefficient), &drawn)?;
        assert_gradient(&KlPolicyGradient::new(coefficient).reference_input("logprobs"), &drawn)?;
    }
}

fn datum(weights: &[f32]) -> Datum {
    Datum::new(vec![7; weights.len()]).target_tokens(vec![7_i64; weights.len()]).weights(weights.to_vec())
}

#[track_caller]
fn assert_close(value: f64, expected: f64) {
    assert!((value - expected).abs() <= 1e-6 * (1.0 + expected.abs()), "{value}, not {expected}");
}

/// −Σ w·log p, worked by hand.
#[test]
fn weighted_nll_by_hand() {
    let unweighted = Datum::new(vec![7]).target_tokens(vec![7_i64]);
    let output =
        evaluate(WeightedNll, &[datum(&[1.0, 0.0, 2.0]), unweighted], &[vec![-1.0, -8.0, -0.5], vec![-3.0]]);
    assert_close(output.loss, 5.0);
    assert_eq!(output.gradients, [vec![-1.0, 0.0, -2.0], vec![-1.0]]);
}

/// DPO of two pairs, worked by hand: the mean over pairs, and every metric.
#[test]
fn dpo_by_hand() {
    let data: Vec<_> = (0..4).map(|_| datum(&[0.0, 1.0])).collect();
    let loss = Dpo::new(0.5).reference(DpoReference::Sums(vec![-2.0, -3.0, -1.0, -1.0]));
    let logprobs = [[-9.0, -1.0], [-9.0, -4.0], [-9.0, -3.0], [-9.0, -1.0]].map(Vec::from);
    let output = evaluate(loss, &data, &logprobs);
    // Rewards: 0.5·(−1+2), 0.5·(−4+3), 0.5·(−3+1), 0.5·(−1+1); margins 1 and −1.
    let (good, bad) = ((1.0 + (-1.0f64).exp()).ln(), (1.0 + 1.0f64.exp()).ln());
    assert_close(output.loss, (good + bad) / 2.0);
    assert_close(output.metrics["dpo_loss"], output.loss);
    assert_close(output.metrics["accuracy"], 0.5);
    assert_close(output.metrics["chosen_reward"], -0.25);
    assert_close(output.metrics["rejected_reward"], -0.25);
    assert_close(output.metrics["margin"], 0.0);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    assert_close(output.gradients[0][1].into(), -0.25 * sigmoid(-1.0));
    assert_close(output.gradients[1][1].into(), 0.25 * sigmoid(-1.0));
    assert_close(output.gradients[2][1].into(), -0.25 * sigmoid(1.0));
    assert!(output.gradients.iter().all(|gradient| gradient[0] == 0.0));
}

/// Margins far beyond what eˣ can hold: the loss grows linearly or vanishes, the gradient saturates.
#[test]
fn dpo_stands_large_margins() {
    let data = [datum(&[1.0]), datum(&[1.0])];
    let of = |chosen: f32, rejected: f32| {
        let loss = Dpo::new(1.0).reference(DpoReference::Sums(vec![0.0, 0.0]));
        evaluate(loss, &data, &[vec![chosen], vec![rejected]])
    };
    let lost = of(-1e6, -1.0);
    assert_close(lost.loss, 999_999.0);
    assert_eq!(lost.gradients, [[-1.0], [1.0]]);
    let won = of(-1.0, -1e6);
    assert_eq!(won.loss, 0.0);
    assert_eq!(won.gradients, [[-0.0], [0.0]]);
    // Every one of many pairs: an accuracy of 1 and nothing less.
    let many = Dpo::new(1.0).reference(DpoReference::Sums(vec![0.0; 14]));
    let logprobs: Vec<_> = (0..14).map(|n| vec![if n % 2 == 0 { -1.0 } else { -2.0 }]).collect();
    let data: Vec<_> = (0..14).map(|_| datum(&[1.0])).collect();
    assert_eq!(evaluate(many, &data, &logprobs).metrics["accuracy"], 1.0);
    // Where 1 + e⁻ˣ is 1 in a float64, the loss still is e⁻ˣ.
    assert!((of(0.0, -40.0).loss / (-40.0f64).exp() - 1.0).abs() < 1e-9);
}

/// The penalty and the ratio, worked by hand.
#[test]
fn kl_policy_gradient_by_hand() {
    let two = 2.0f32.ln();
    let datum = datum(&[1.0, 3.0, 0.0])
        .logprobs(vec![-1.0 - two, -1.0, -1.0])
        .advantages(vec![0.5, -1.0, 9.0])
        .tensor("ref_logprobs", vec![-1.0, -1.0 + two, -9.0].into());
    let output = evaluate(KlPolicyGradient::new(0.1), &[datum], &[vec![-1.0, -1.0, -1.0]]);
    // Position 0: r = 2, k = 0. Position 1: r = 1, k = 2 − 1 − ln 2.
    let kl = 1.0 - 2.0f64.ln();
    assert_close(output.loss, -2.0 * 0.5 + 3.0 * (1.0 + 0.1 * kl));
    assert_close(output.metrics["kl"], 0.75 * kl);
    assert_close(output.metrics["importance_ratio"], (2.0 + 3.0) / 4.0);
    assert_close(output.gradients[0][0].into(), -1.0);
    assert_close(output.gradients[0][1].into(), 3.0 * (1.0 - 0.1));
    assert_eq!(output.gradients[0][2], 0.0);
}

/// A position without weight takes no part, even where the model gives its token no probability at all.
#[test]
fn weightless_positions_take_no_part() {
    let impossible = f32::NEG_INFINITY;
    let of_weights = |weights: &[f32]| {
        datum(weights)
            .logprobs(vec![0.0; weights.len()])
            .advantages(vec![1.0; weights.len()])
            .tensor("ref_logprobs", vec![impossible, -1.0].into())
    };
    let data = [of_weights(&[0.0, 1.0]), of_weights(&[0.0, 1.0])];
    let logprobs = [vec![impossible, -1.0], vec![impossible, -2.0]];
    assert_close(evaluate(WeightedNll, &data, &logprobs).loss, 3.0);
    assert!(evaluate(Dpo::new(0.1), &data, &logprobs).loss.is_finite());
    assert!(evaluate(KlPolicyGradient::new(0.1), &data, &logprobs).loss.is_finite());
    let none =
        [datum(&[0.0]).logprobs(vec![0.0]).advantages(vec![0.0]).tensor("ref_logprobs", vec![0.0].into())];
    assert!(evaluate(KlPolicyGradient::new(0.1), &none, &[vec![-1.0]]).metrics.is_empty());
}
