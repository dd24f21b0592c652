//! The gradient of every loss against central finite differences, in double precision and written down anew here.

use tinkex_testkit::learner::{Learner, LearnerDatum, LearnerLoss};
use tinkex_testkit::model::{LanguageModel, SplitMix64, VOCABULARY};

use super::learner::{adam, cross_entropy, datum, learner, train};

const RANK: usize = 3;

/// The model, in double precision.
struct Reference {
    a: Vec<f64>,
    b: Vec<Vec<f64>>,
    base: LanguageModel,
    adapted: LanguageModel,
}

impl Reference {
    fn of(learner: &Learner) -> Self {
        let adapted = learner.model();
        let weights = adapted.adapter().unwrap().weights();
        let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>();
        Self {
            a: wide(weights.a()),
            b: weights.b().iter().map(|column| wide(column)).collect(),
            base: LanguageModel::named(adapted.name()),
            adapted,
        }
    }

    fn logprobs(&self, datum: &LearnerDatum) -> Vec<f64> {
        let mut logprobs = Vec::new();
        for position in 0..datum.tokens.len() {
            let context = &datum.tokens[..=position];
            let mut hidden = [0.0; RANK];
            for feature in self.adapted.adapter().unwrap().features(context) {
                (0..RANK).for_each(|k| hidden[k] += self.a[feature * RANK + k]);
            }
            let mut logits = self.base.probabilities(context).map(f64::ln);
            for (byte, logit) in logits.iter_mut().enumerate() {
                *logit += (0..RANK).map(|k| self.b[k][byte] * hidden[k]).sum::<f64>();
            }
            let total = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
            let targets = &datum.targets[position * datum.width..][..datum.width];
            logprobs.extend(targets.iter().map(|target| logits[*target as usize] - total));
        }
        logprobs
    }
}

type Loss = fn(&LearnerDatum, &[f64], &[f64]) -> f64;

fn input(datum: &LearnerDatum, name: &str, cell: usize, default: f64) -> f64 {
    datum.inputs.get(name).map_or(default, |values| f64::from(values[cell]))
}

/// Sums a share per target, which is given the target's logprob, its logprob before the change that a difference is
/// taken over, its old logprob, advantage, low and high threshold.
fn sum(
    datum: &LearnerDatum,
    now: &[f64],
    fixed: &[f64],
    share: impl Fn(f64, f64, f64, f64, f64, f64) -> f64,
) -> f64 {
    let cell = |cell: usize| {
        input(datum, "weights", cell, 1.0)
            * share(
                now[cell],
                fixed[cell],
                input(datum, "logprobs", cell, 0.0),
                input(datum, "advantages", cell, 0.0),
                input(datum, "clip_low_threshold", cell, 0.7),
                input(datum, "clip_high_threshold", cell, 1.1),
            )
    };
    -(0..now.len()).map(cell).sum::<f64>()
}

fn reference_cross_entropy(datum: &LearnerDatum, now: &[f64], fixed: &[f64]) -> f64 {
    sum(datum, now, fixed, |lp, _, _, _, _, _| lp)
}

fn reference_importance_sampling(datum: &LearnerDatum, now: &[f64], fixed: &[f64]) -> f64 {
    sum(datum, now, fixed, |lp, _, old, advantage, _, _| (lp - old).exp() * advantage)
}

fn reference_ppo(datum: &LearnerDatum, now: &[f64], fixed: &[f64]) -> f64 {
    sum(datum, now, fixed, |lp, _, old, advantage, low, high| {
        let ratio = (lp - old).exp();
        (ratio * advantage).min(ratio.clamp(low, high) * advantage)
    })
}

fn reference_cispo(datum: &LearnerDatum, now: &[f64], fixed: &[f64]) -> f64 {
    sum(datum, now, fixed, |lp, fixed, old, advantage, low, high| {
        (fixed - old).exp().clamp(low, high) * lp * advantage
    })
}

fn reference_dro(datum: &LearnerDatum, now: &[f64], fixed: &[f64]) -> f64 {
    sum(datum, now, fixed, |lp, _, old, advantage, _, _| lp * advantage - 0.5 * 0.3 * (lp - old).powi(2))
}

fn reference_gspo(datum: &LearnerDatum, now: &[f64], fixed: &[f64]) -> f64 {
    let kept: Vec<usize> =
        (0..now.len()).filter(|cell| input(datum, "sequence_ratio_mask", *cell, 1.0) > 0.0).collect();
    let change = |cell: &usize| fixed[*cell] - input(datum, "logprobs", *cell, 0.0);
    let mean = kept.iter().map(change).sum::<f64>() / kept.len() as f64;
    sum(datum, now, fixed, |lp, fixed, _, advantage, low, high| {
        let ratio = (mean + lp - fixed).exp();
        (ratio * advantage).min(ratio.clamp(low, high) * advantage)
    })
}

/// A run whose B is not zero any more, and data of one and of two targets per position, with all inputs; the old
/// logprobs are so far from the present ones that ratios lie below, between and above the thresholds.
fn prepared(with_weights: bool) -> (Learner, Vec<LearnerDatum>) {
    let mut learner = learner(RANK as u32, 11);
    train(&mut learner, &datum("A seal sang songs."), 6, 0.05);
    let mut random = SplitMix64::new(4);
    let mut within = |low: f64, high: f64| (low + (high - low) * random.next_f64()) as f32;
    let wide = LearnerDatum {
        tokens: b"A seal sat".map(i32::from).to_vec(),
        targets: b"  sseeaall  ssaatt..".map(i64::from).to_vec(),
        width: 2,
        ..LearnerDatum::default()
    };
    let data = [datum("A seal sang songs."), wide, datum("A sea")].map(|mut datum| {
        let old: Vec<f32> =
            learner.logprobs(&datum).unwrap().iter().map(|lp| lp + within(-0.6, 0.6)).collect();
        let count = old.len();
        datum = datum
            .with("logprobs", old)
            .with("advantages", (0..count).map(|_| within(-1.0, 1.0)).collect())
            .with("sequence_ratio_mask", (0..count).map(|index| f32::from(index % 3 != 0)).collect());
        if with_weights {
            datum = datum.with("weights", (0..count).map(|_| within(-0.5, 2.0)).collect());
        }
        datum
    });
    (learner, data.into())
}

/// Compares loss and gradient with the reference; differences of 1e-4 and rounding leave about 1e-7, single
/// precision leaves about 1e-6 of the largest share: the tolerance is 2e-5, of one or of the value.
fn check(
    loss: &LearnerLoss,
    reference: Loss,
    with_weights: bool,
    adjust: impl Fn(LearnerDatum) -> LearnerDatum,
) {
    let (mut learner, data) = prepared(with_weights);
    let data: Vec<LearnerDatum> = data.into_iter().map(adjust).collect();
    let output = learner.forward_backward(&data, loss).unwrap();
    let mut model = Reference::of(&learner);
    let fixed: Vec<Vec<f64>> = data.iter().map(|datum| model.logprobs(datum)).collect();
    let total = |model: &Reference| -> f64 {
        data.iter().zip(&fixed).map(|(datum, fixed)| reference(datum, &model.logprobs(datum), fixed)).sum()
    };
    let close = |found: f64, expected: f64| (found - expected).abs() <= 2e-5 * expected.abs().max(1.0);
    let expected = total(&model);
    let found = output.metrics["loss:sum"];
    assert!(close(found, expected), "{}: {found} instead of {expected}", loss.name);

    let gradient = learner.gradient().unwrap().clone();
    let mut largest = [0.0_f64; 2];
    let step = 1e-4;
    for k in 0..RANK {
        for byte in b" aelsgon.txq".map(usize::from) {
            let at = model.b[k][byte];
            let mut shifted = |by: f64| {
                model.b[k][byte] = at + by;
                total(&model)
            };
            let expected = (shifted(step) - shifted(-step)) / (2.0 * step);
            model.b[k][byte] = at;
            let found = f64::from(gradient.b()[k][byte]);
            assert!(close(found, expected), "{}: B[{byte}, {k}]: {found} for {expected}", loss.name);
            largest[0] = largest[0].max(expected.abs());
        }
        let contexts = [&data[0].tokens[..1], &data[0].tokens[..12], &data[1].tokens[..9]];
        for feature in contexts.map(|context| model.adapted.adapter().unwrap().features(context)).concat() {
            let at = model.a[feature * RANK + k];
            let mut shifted = |by: f64| {
                model.a[feature * RANK + k] = at + by;
                total(&model)
            };
            let expected = (shifted(step) - shifted(-step)) / (2.0 * step);
            model.a[feature * RANK + k] = at;
            let found = f64::from(gradient.a()[feature * RANK + k]);
            assert!(close(found, expected), "{}: A[{k}, {feature}]: {found} for {expected}", loss.name);
            largest[1] = largest[1].max(expected.abs());
        }
    }
    assert!(largest.iter().all(|value| *value > 0.02), "{}: nothing to compare: {largest:?}", loss.name);
}

/// Each loss of PROTOCOL 12.1, with weights and without.
#[test]
fn every_gradient_is_that_of_finite_differences() {
    let clip =
        |name| LearnerLoss::named(name).with("clip_low_threshold", 0.7).with("clip_high_threshold", 1.1);
    for with_weights in [false, true] {
        let check = |loss, reference| check(&loss, reference, with_weights, |datum| datum);
        check(cross_entropy(), reference_cross_entropy);
        check(LearnerLoss::named("importance_sampling"), reference_importance_sampling);
        check(clip("ppo"), reference_ppo);
        check(clip("cispo"), reference_cispo);
        check(LearnerLoss::named("dro").with("beta", 0.3), reference_dro);
        check(clip("gspo"), reference_gspo);
    }
}

#[test]
fn thresholds_of_the_targets_come_before_those_of_the_loss() {
    let own = |datum: LearnerDatum| {
        let count = datum.targets.len();
        let low = (0..count).map(|index| 0.6 + 0.02 * (index % 7) as f32).collect();
        let high = (0..count).map(|index| 1.02 + 0.05 * (index % 5) as f32).collect();
        datum.with("clip_low_threshold", low).with("clip_high_threshold", high)
    };
    check(&LearnerLoss::named("ppo"), reference_ppo, true, own);
    check(&LearnerLoss::named("cispo"), reference_cispo, true, own);
}

#[test]
fn the_documented_defaults_are_used() {
    let (learner, data) = prepared(true);
    let loss = |loss: LearnerLoss| learner.forward(&data, &loss).unwrap().metrics["loss:sum"];
    for name in ["ppo", "cispo", "gspo"] {
        let default = loss(LearnerLoss::named(name));
        let set = |low, high| {
            loss(LearnerLoss::named(name).with("clip_low_threshold", low).with("clip_high_threshold", high))
        };
        assert_eq!(default, set(0.8, 1.2));
        assert_ne!(default, set(0.99, 1.01), "{name}");
    }
    assert_eq!(loss(LearnerLoss::named("dro")), loss(LearnerLoss::named("dro").with("beta", 0.05)));
    assert_ne!(loss(LearnerLoss::named("dro")), loss(LearnerLoss::named("dro").with("beta", 0.06)));
}

#[test]
fn a_datum_that_is_masked_out_entirely_has_no_share() {
    let (mut learner, data) = prepared(true);
    let masked = data.into_iter().map(|datum| {
        let count = datum.targets.len();
        datum.with("sequence_ratio_mask", vec![0.0; count])
    });
    let masked: Vec<_> = masked.collect();
    let output = learner.forward_backward(&masked, &LearnerLoss::named("gspo")).unwrap();
    assert_eq!(output.metrics["loss:sum"], 0.0);
    assert!(learner.gradient().unwrap().a().iter().all(|value| *value == 0.0));
}

fn close(left: &[f32], right: &[f32], tolerance: f32) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).all(|(l, r)| (l - r).abs() <= tolerance * l.abs().max(1.0))
}

/// Losses are sums, so several calls gather what one call with all data does; single precision leaves 1e-5.
#[test]
fn accumulation_over_calls_equals_one_large_batch() {
    let texts = ["A seal sang songs.", "It sang of the winter.", "A seal sang of herrings."];
    // Long enough to be worked on in several blocks.
    let data: Vec<_> = (0..180).map(|index| datum(texts[index % 3])).collect();
    let mut at_once = learner(8, 2);
    train(&mut at_once, &datum(texts[0]), 3, 0.02);
    let mut bit_by_bit = at_once.clone();
    let total = at_once.forward_backward(&data, &cross_entropy()).unwrap().metrics["loss:sum"];
    let mut sum = 0.0;
    for part in data.chunks(7) {
        sum += bit_by_bit.forward_backward(part, &cross_entropy()).unwrap().metrics["loss:sum"];
    }
    assert!((total - sum).abs() < 1e-6 * total);
    let (left, right) = (at_once.gradient().unwrap(), bit_by_bit.gradient().unwrap());
    assert!(close(left.a(), right.a(), 1e-5));
    assert!(close(left.b().as_flattened(), right.b().as_flattened(), 1e-5));
    assert!(left.b().as_flattened().iter().any(|value| value.abs() > 1.0));
    // The step clears what was gathered.
    at_once.optim_step(&adam(0.01));
    assert!(at_once.gradient().is_none());
}

#[test]
fn forward_changes_nothing() {
    let (mut learner, data) = prepared(true);
    let mut untouched = learner.clone();
    for name in ["cross_entropy", "ppo", "gspo"] {
        let before = learner.checkpoint().to_bytes();
        let forward = learner.forward(&data, &LearnerLoss::named(name)).unwrap();
        assert!(learner.gradient().is_none());
        assert_eq!(learner.checkpoint().to_bytes(), before);
        assert_eq!(forward, untouched.forward_backward(&data, &LearnerLoss::named(name)).unwrap());
        assert_eq!(forward, learner.forward_backward(&data, &LearnerLoss::named(name)).unwrap());
        assert_eq!(learner.gradient(), untouched.gradient());
        learner.optim_step(&adam(0.01));
        untouched.optim_step(&adam(0.01));
    }
}

/// PROTOCOL 13.1: a loss computed elsewhere comes back as weights of cross-entropy, or as slopes.
#[test]
fn slopes_of_a_foreign_loss_give_the_gradient_of_the_equivalent_cross_entropy() {
    let (learner, data) = prepared(true);
    let (mut by_weights, mut by_slopes) = (learner.clone(), learner);
    by_weights.forward_backward(&data, &cross_entropy()).unwrap();
    let slopes = |datum: &LearnerDatum| datum.inputs["weights"].iter().map(|weight| -weight).collect();
    let slopes: Vec<Vec<f32>> = data.iter().map(slopes).collect();
    by_slopes.backward_from(&data, &slopes).unwrap();
    assert_eq!(by_weights.gradient(), by_slopes.gradient());
    assert_eq!(by_slopes.gradient().unwrap().b()[0].len(), VOCABULARY);
}
