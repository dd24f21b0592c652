//! Adam against PyTorch's definition, weight decay, clipping, and the stand-in for Dimuon.

use tinkex_testkit::learner::{AdamStep, DimuonStep, Learner, LearnerLoss};
use tinkex_testkit::model::VOCABULARY;

use super::learner::{adam, cross_entropy, datum, learner, train};

const TEXT: &str = "A seal sang songs of the winter.";

fn weights(learner: &Learner) -> Vec<f64> {
    let model = learner.model();
    let weights = model.adapter().unwrap().weights();
    weights.a().iter().chain(weights.b().as_flattened()).map(|value| f64::from(*value)).collect()
}

fn gradient(learner: &Learner) -> Vec<f64> {
    let gradient = learner.gradient().unwrap();
    gradient.a().iter().chain(gradient.b().as_flattened()).map(|value| f64::from(*value)).collect()
}

fn gather(learner: &mut Learner) {
    learner.forward_backward(&[datum(TEXT)], &cross_entropy()).unwrap();
}

/// torch.optim.AdamW, in double precision, behind torch.nn.utils.clip_grad_norm_.
struct AdamW {
    mean: Vec<f64>,
    square: Vec<f64>,
    steps: i32,
}

impl AdamW {
    fn step(&mut self, adam: &AdamStep, weights: &mut [f64], gradient: &[f64]) {
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        let clip =
            if adam.grad_clip_norm > 0.0 { (adam.grad_clip_norm / (norm + 1e-6)).min(1.0) } else { 1.0 };
        self.steps += 1;
        for (index, w) in weights.iter_mut().enumerate() {
            let g = clip * gradient[index];
            self.mean[index] = adam.beta1 * self.mean[index] + (1.0 - adam.beta1) * g;
            self.square[index] = adam.beta2 * self.square[index] + (1.0 - adam.beta2) * g * g;
            let mean = self.mean[index] / (1.0 - adam.beta1.powi(self.steps));
            let square = self.square[index] / (1.0 - adam.beta2.powi(self.steps));
            *w -= adam.learning_rate * adam.weight_decay * *w;
            *w -= adam.learning_rate * mean / (square.sqrt() + adam.eps);
        }
    }
}

/// PROTOCOL 12.7: the weights follow PyTorch's AdamW over many steps, with decay and clipping; single precision of weights
/// and moments leaves 1e-5.
#[test]
fn adam_follows_the_definition_of_pytorch() {
    let plain = AdamStep { learning_rate: 0.03, ..AdamStep::default() };
    for step in [
        plain.clone(),
        AdamStep { weight_decay: 0.4, ..plain.clone() },
        AdamStep { grad_clip_norm: 0.5, eps: 1e-3, ..plain.clone() },
        AdamStep { beta1: 0.5, beta2: 0.999, weight_decay: 0.1, grad_clip_norm: 1e9, ..plain },
    ] {
        let mut learner = learner(4, 3);
        let mut expected = weights(&learner);
        let zeros = vec![0.0; expected.len()];
        let mut reference = AdamW { mean: zeros.clone(), square: zeros, steps: 0 };
        for number in 0..8 {
            gather(&mut learner);
            reference.step(&step, &mut expected, &gradient(&learner));
            learner.optim_step(&step.clone().into());
            for (index, (found, expected)) in weights(&learner).iter().zip(&expected).enumerate() {
                assert!(
                    (found - expected).abs() < 1e-5,
                    "step {number}, weight {index}: {found}, {expected}"
                );
            }
        }
    }
}

/// By hand: the first step of Adam moves every weight by the learning rate against the sign of its gradient, the
/// second, with the same gradient again, by the same.
#[test]
fn the_first_steps_of_adam_computed_by_hand() {
    let mut learner = learner(4, 3);
    train(&mut learner, &datum(TEXT), 2, 0.05);
    let mut learner = Learner::from_checkpoint(&learner.checkpoint(), false);
    gather(&mut learner);
    let gradient = gradient(&learner);
    let before = weights(&learner);
    learner.optim_step(&adam(0.01));
    let mut moved = [0, 0];
    for ((before, after), g) in before.iter().zip(weights(&learner)).zip(&gradient) {
        let expected = if *g == 0.0 { 0.0 } else { -0.01 * g.signum() };
        // The weights are of single precision and below 1; the smallest gradients are not far above eps.
        if *g == 0.0 || g.abs() > 1e-6 {
            assert!((after - before - expected).abs() < 2e-7, "{g}: {before} to {after}");
        }
        moved[usize::from(*g != 0.0)] += 1;
    }
    assert!(moved.iter().all(|count| *count > 500), "{moved:?}");
}

#[test]
fn a_step_without_gradient_only_decays() {
    let mut learner = learner(4, 3);
    let before = weights(&learner);
    learner.optim_step(&AdamStep { learning_rate: 0.1, weight_decay: 0.5, ..AdamStep::default() }.into());
    for (before, after) in before.iter().zip(weights(&learner)) {
        assert!((after - 0.95 * before).abs() < 1e-7);
    }
}

#[test]
fn clipping_limits_the_global_norm_and_reports_it() {
    let norm = |learner: &Learner| gradient(learner).iter().map(|g| g * g).sum::<f64>().sqrt();
    let mut learner = learner(4, 3);
    gather(&mut learner);
    let expected = norm(&learner);
    let step = AdamStep { grad_clip_norm: expected / 4.0, ..AdamStep::default() };
    let mut unclipped = learner.clone();
    let metrics = learner.optim_step(&step.clone().into());
    assert!((metrics["grad_norm:mean"] - expected).abs() < 1e-6 * expected);
    assert!((metrics["grad_clip:mean"] - 0.25).abs() < 1e-6);
    for limit in [0.0, -1.0, expected * 2.0] {
        let metrics =
            unclipped.clone().optim_step(&AdamStep { grad_clip_norm: limit, ..step.clone() }.into());
        assert_eq!(metrics["grad_clip:mean"], 1.0);
    }
    let metrics =
        unclipped.optim_step(&DimuonStep { learning_rate: 0.1, beta1: 0.9, grad_clip_norm: 0.1 }.into());
    assert!(metrics["grad_clip:mean"] < 0.1);
}

/// A gradient whose norm overflows would leave no number a number: such a step is left out.
#[test]
fn a_gradient_that_overflows_changes_nothing() {
    let mut learner = learner(4, 3);
    train(&mut learner, &datum(TEXT), 3, 0.02);
    let before = weights(&learner);
    let huge = datum(TEXT).with("weights", vec![9e29; TEXT.len() - 1]);
    for _ in 0..40 {
        let heavy: Vec<_> = (0..300).map(|_| huge.clone()).collect();
        learner.forward_backward(&heavy, &cross_entropy()).unwrap();
        learner.forward_backward(&heavy, &LearnerLoss::named("cross_entropy")).unwrap();
        if learner.gradient().unwrap().a().iter().any(|value| !value.is_finite()) {
            break;
        }
        learner.backward_from(&heavy, &vec![vec![f32::MAX; TEXT.len() - 1]; 300]).unwrap();
    }
    let metrics = learner.optim_step(&adam(0.01));
    assert_eq!(metrics["grad_norm:mean"], f64::MAX);
    assert_eq!(weights(&learner), before);
    gather(&mut learner);
    assert!(learner.optim_step(&adam(0.01))["grad_norm:mean"] < 1e6, "the gradient was cleared");
}

/// The update of Dimuon is (about) orthogonal: the singular values that five Newton-Schulz iterations leave lie
/// within 0.6 and 1.3.
#[test]
fn the_update_of_dimuon_is_orthogonal() {
    let mut learner = learner(2, 3);
    let rate = 0.01;
    let step = DimuonStep { learning_rate: rate, beta1: 0.9, grad_clip_norm: 0.0 };
    train(&mut learner, &datum(TEXT), 3, 0.02);
    gather(&mut learner);
    let before = weights(&learner);
    learner.optim_step(&step.into());
    let change: Vec<f64> =
        weights(&learner).iter().zip(&before).map(|(after, before)| after - before).collect();
    let (a, b) = change.split_at(change.len() - 2 * VOCABULARY);
    let a: Vec<[f64; 2]> = a.chunks(2).map(|row| [row[0], row[1]]).collect();
    let b: Vec<[f64; 2]> = (0..VOCABULARY).map(|byte| [b[byte], b[VOCABULARY + byte]]).collect();
    for rows in [a, b] {
        let size = rate * (rows.len() as f64 / 2.0).sqrt();
        let entry = |i: usize, j: usize| rows.iter().map(|row| row[i] * row[j]).sum::<f64>() / (size * size);
        // The eigenvalues of the 2 × 2 Gram matrix are the squares of the singular values.
        let (mean, product) =
            ((entry(0, 0) + entry(1, 1)) / 2.0, entry(0, 0) * entry(1, 1) - entry(0, 1) * entry(0, 1));
        let spread = (mean * mean - product).max(0.0).sqrt();
        let (low, high) = ((mean - spread).sqrt(), (mean + spread).sqrt());
        assert!(low > 0.6 && high < 1.3, "{low} {high}");
    }
}

#[test]
fn dimuon_learns_and_repeats_itself_from_a_checkpoint() {
    let step = DimuonStep { learning_rate: 0.05, beta1: 0.9, grad_clip_norm: 0.0 };
    let run = |learner: &mut Learner| -> Vec<f64> {
        let mut losses = Vec::new();
        for _ in 0..10 {
            losses.push(
                learner.forward_backward(&[datum(TEXT)], &cross_entropy()).unwrap().metrics["loss:sum"],
            );
            learner.optim_step(&step.clone().into());
        }
        losses
    };
    let mut learner = learner(8, 3);
    let losses = run(&mut learner);
    assert!(losses[9] < 0.5 * losses[0], "{losses:?}");
    let checkpoint = learner.checkpoint();
    let expected = run(&mut learner);
    assert_eq!(run(&mut Learner::from_checkpoint(&checkpoint, true)), expected);
    assert_ne!(run(&mut Learner::from_checkpoint(&checkpoint, false)), expected);
    assert_eq!(checkpoint.size_bytes(), 2 * checkpoint.weights_size_bytes());
}
