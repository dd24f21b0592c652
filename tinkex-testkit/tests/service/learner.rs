//! The learner as a whole: it learns, it repeats itself to the last bit, and what it hands out stays what it is.

use proptest::prelude::*;
use tinkex_testkit::learner::{
    AdamStep, Learner, LearnerDatum, LearnerLoss, LearnerSpec, LossError, OptimizerStep,
};
use tinkex_testkit::model::{GenerationPlan, LanguageModel, PromptQuestions, SplitMix64, Stop, byte_of};

const TEXT: &str = "In the harbour of Kiel a grey seal waited every morning for Mrs. Jansen, who brought it \
                    three herrings, two stories and one very old song about the winter.";

pub(crate) fn tokens(text: &str) -> Vec<i32> {
    text.bytes().map(i32::from).collect()
}

/// A datum whose targets are the text's next bytes.
pub(crate) fn datum(text: &str) -> LearnerDatum {
    let tokens = tokens(text);
    let targets = tokens[1..].iter().map(|token| i64::from(*token)).collect();
    LearnerDatum::new(tokens[..tokens.len() - 1].to_vec(), targets)
}

pub(crate) fn learner(rank: u32, seed: u64) -> Learner {
    Learner::new(&LearnerSpec { base_model: "Qwen/Qwen3-8B".into(), rank, seed })
}

pub(crate) fn cross_entropy() -> LearnerLoss {
    LearnerLoss::named("cross_entropy")
}

pub(crate) fn adam(learning_rate: f64) -> OptimizerStep {
    AdamStep { learning_rate, ..AdamStep::default() }.into()
}

/// Trains on one datum and returns the loss before each step.
pub(crate) fn train(learner: &mut Learner, datum: &LearnerDatum, steps: usize, rate: f64) -> Vec<f64> {
    let data = std::slice::from_ref(datum);
    let mut losses = Vec::new();
    for _ in 0..steps {
        losses.push(learner.forward_backward(data, &cross_entropy()).unwrap().metrics["loss:sum"]);
        learner.optim_step(&adam(rate));
    }
    losses
}

fn greedy(model: &LanguageModel, prompt: &str, count: usize) -> String {
    let plan = GenerationPlan {
        temperature: 0.0,
        max_tokens: count,
        stop: Stop::Never,
        ..GenerationPlan::default()
    };
    model.generate(&tokens(prompt), &plan, 0).text()
}

fn loss(learner: &Learner, datum: &LearnerDatum) -> f64 {
    learner.forward(std::slice::from_ref(datum), &cross_entropy()).unwrap().metrics["loss:sum"]
}

/// Real learning: a text of some 150 characters is known by heart after 100 steps, at rates a factor of five
/// apart, and a greedy sample says it.
#[test]
fn a_short_text_is_learned_by_heart_and_then_sampled() {
    assert!((145..160).contains(&TEXT.len()), "{}", TEXT.len());
    for rate in [0.01, 0.05] {
        let mut learner = learner(32, 1);
        let losses = train(&mut learner, &datum(TEXT), 100, rate);
        assert!(losses[0] > 300.0, "the base does not know the text: {}", losses[0]);
        let last = loss(&learner, &datum(TEXT));
        assert!(last < 1.0, "rate {rate}: loss {last} of {}", losses[0]);
        assert_eq!(greedy(&learner.model(), &TEXT[..3], TEXT.len() - 3), TEXT[3..]);
        assert!(!greedy(&LanguageModel::named("Qwen/Qwen3-8B"), &TEXT[..3], 40).contains("harbour"));
    }
}

#[test]
fn a_higher_rank_learns_faster() {
    let after = |rank| {
        let mut learner = learner(rank, 1);
        train(&mut learner, &datum(TEXT), 20, 0.01);
        loss(&learner, &datum(TEXT))
    };
    let (one, eight, thirty_two) = (after(1), after(8), after(32));
    assert!(thirty_two < 0.7 * eight && eight < 0.9 * one, "{thirty_two}, {eight}, {one}");
}

#[test]
fn a_fresh_run_is_its_base_to_the_last_bit() {
    let (fresh, base) = (learner(32, 3).model(), LanguageModel::named("Qwen/Qwen3-8B"));
    for context in ["", "T", "The model ", "\u{7}zq", TEXT] {
        assert_eq!(fresh.probabilities(&tokens(context)), base.probabilities(&tokens(context)));
    }
}

/// The ratio of an on-policy update is exactly one: sampler, scorer and trainer compute the same bits.
#[test]
fn sampling_scoring_and_training_agree_on_every_logprob_to_the_last_bit() {
    let mut learner = learner(8, 1);
    train(&mut learner, &datum(TEXT), 15, 0.02);
    let model = learner.model();
    let prompt = tokens("In the ");
    let plan = GenerationPlan { max_tokens: 50, stop: Stop::Never, ..GenerationPlan::default() };
    let sample = model.generate(&prompt, &plan, 7);
    let all = [prompt.clone(), sample.tokens].concat();
    let targets = all[1..].iter().map(|token| i64::from(*token)).collect();
    let datum = LearnerDatum::new(all[..all.len() - 1].to_vec(), targets);
    let trained = learner.logprobs(&datum).unwrap();
    assert_eq!(trained[prompt.len() - 1..], sample.logprobs);
    let questions = PromptQuestions { logprobs: true, ..PromptQuestions::default() };
    let scored = model.score_prompt(&all, &questions).logprobs;
    assert_eq!(scored[1..], trained.iter().copied().map(Some).collect::<Vec<_>>());

    let advantages: Vec<f32> = (0..trained.len()).map(|index| index as f32 - 20.0).collect();
    let total: f64 = advantages.iter().map(|value| f64::from(*value)).sum();
    let on_policy = datum.with("logprobs", trained).with("advantages", advantages);
    let output = learner.forward(&[on_policy], &LearnerLoss::named("importance_sampling")).unwrap();
    assert_eq!(output.metrics["loss:sum"], -total);
}

#[test]
fn metrics_are_those_of_the_logprobs() {
    let learner = learner(4, 1);
    let weights = |text: &str| (1..text.len()).map(|index| (index % 3) as f32).collect::<Vec<_>>();
    let texts = ["A text.", "Another, longer text."];
    let data = texts.map(|text| datum(text).with("weights", weights(text)));
    let output = learner.forward(&data, &cross_entropy()).unwrap();
    let (mut loss, mut means, mut least) = (0.0, 0.0, 0.0_f32);
    for (datum, logprobs) in data.iter().zip(&output.logprobs) {
        assert_eq!(logprobs, &learner.logprobs(datum).unwrap());
        let base = LanguageModel::named("Qwen/Qwen3-8B");
        for (position, value) in logprobs.iter().enumerate() {
            let logits = base.logits(&datum.tokens[..=position]);
            assert_eq!(*value, logits[datum.targets[position] as usize]);
            loss -= f64::from(*value) * f64::from(datum.inputs["weights"][position]);
            least = least.min(*value);
        }
        means += logprobs.iter().map(|value| f64::from(*value)).sum::<f64>() / logprobs.len() as f64;
    }
    assert!((output.metrics["loss:sum"] - loss).abs() < 1e-9);
    assert!((output.metrics["logprob:mean"] - means / 2.0).abs() < 1e-9);
    assert_eq!(output.metrics["logprob:min"], f64::from(least));
    assert_eq!(output.metrics["tokens:sum"], 26.0);
    assert!(output.metrics.keys().all(|name| name.matches(':').count() == 1));
}

#[test]
fn equal_runs_are_equal_to_the_last_bit_and_other_seeds_are_not() {
    let run = |seed| {
        let mut learner = learner(32, seed);
        let losses = train(&mut learner, &datum(TEXT), 10, 0.02);
        (losses, learner.checkpoint().to_bytes())
    };
    let first = run(5);
    assert_eq!(first, run(5));
    let other = run(6);
    assert_eq!(first.0[0], other.0[0], "before the first step both are the base");
    assert_ne!(first.0[1..], other.0[1..]);
    assert_ne!(first.1, other.1);
}

#[test]
fn a_snapshot_keeps_its_weights_while_training_goes_on() {
    let mut learner = learner(8, 1);
    train(&mut learner, &datum(TEXT), 5, 0.02);
    let snapshot = learner.model();
    let then = snapshot.logits(&tokens("In the harb"));
    assert_eq!(then, learner.model().logits(&tokens("In the harb")));
    train(&mut learner, &datum(TEXT), 5, 0.02);
    assert_eq!(then, snapshot.logits(&tokens("In the harb")));
    assert_ne!(then, learner.model().logits(&tokens("In the harb")));
}

/// With its optimizer state a run goes on as if it had never stopped; without, it does not.
#[test]
fn a_checkpoint_with_optimizer_state_continues_to_the_last_bit_and_without_it_differs() {
    let mut uninterrupted = learner(8, 1);
    train(&mut uninterrupted, &datum(TEXT), 10, 0.02);
    let checkpoint = uninterrupted.checkpoint();
    let expected = train(&mut uninterrupted, &datum(TEXT), 10, 0.02);

    let mut continued = Learner::from_checkpoint(&checkpoint, true);
    assert_eq!(train(&mut continued, &datum(TEXT), 10, 0.02), expected);
    let mut other = learner(8, 99);
    train(&mut other, &datum("Something else."), 3, 0.02);
    other.forward_backward(&[datum("A gradient that is dropped.")], &cross_entropy()).unwrap();
    other.restore(&checkpoint, true).unwrap();
    assert_eq!(train(&mut other, &datum(TEXT), 10, 0.02), expected);

    for mut without in [Learner::from_checkpoint(&checkpoint, false), {
        other.restore(&checkpoint, false).unwrap();
        other
    }] {
        let losses = train(&mut without, &datum(TEXT), 10, 0.02);
        assert_eq!(losses[0], expected[0], "the weights are the same");
        assert_ne!(losses[1..], expected[1..]);
    }
}

#[test]
fn a_checkpoint_of_another_rank_or_base_is_refused_and_changes_nothing() {
    let mut run = learner(8, 1);
    train(&mut run, &datum(TEXT), 2, 0.02);
    let before = run.checkpoint().to_bytes();
    let error = run.restore(&learner(4, 1).checkpoint(), true).unwrap_err().to_string();
    assert!(error.contains("rank 4") && error.contains("rank 8"), "{error}");
    let stranger = Learner::new(&LearnerSpec { base_model: "other".into(), rank: 8, seed: 1 });
    assert!(run.restore(&stranger.checkpoint(), true).is_err());
    assert_eq!(run.checkpoint().to_bytes(), before);
}

/// The exported file is what readers of the safetensors format expect.
#[test]
fn weights_are_exported_as_safetensors() {
    let mut learner = learner(3, 1);
    train(&mut learner, &datum(TEXT), 2, 0.02);
    let checkpoint = learner.checkpoint();
    let bytes = checkpoint.to_bytes();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert_eq!(length % 8, 0);
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    assert_eq!(header["__metadata__"]["base_model"], "Qwen/Qwen3-8B");
    let data = &bytes[8 + length..];
    assert_eq!(data.len() as u64, checkpoint.weights_size_bytes());
    assert_eq!(3 * checkpoint.weights_size_bytes(), checkpoint.size_bytes(), "weights and two moments");
    let model = learner.model();
    let weights = model.adapter().unwrap().weights();
    for (name, columns) in [("lora_A.weight", 4096), ("lora_B.weight", 3)] {
        let tensor = &header[name];
        let rows = tensor["shape"][0].as_u64().unwrap() as usize;
        assert_eq!((&tensor["dtype"], tensor["shape"][1].as_u64()), (&"F32".into(), Some(columns)));
        let start = tensor["data_offsets"][0].as_u64().unwrap() as usize;
        let end = tensor["data_offsets"][1].as_u64().unwrap() as usize;
        let values: Vec<f32> =
            data[start..end].chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        assert_eq!(values.len(), rows * columns as usize);
        let (row, column) = (2, 1);
        let expected = if columns == 3 { weights.b()[column][row] } else { weights.a()[column * 3 + row] };
        assert_eq!(values[row * columns as usize + column], expected);
    }
}

fn refusal(result: Result<impl std::fmt::Debug, LossError>) -> String {
    result.unwrap_err().to_string()
}

/// What is wrong with a request is said, with the datum and the input, and nothing of the request counts.
#[test]
fn bad_data_is_refused_by_name_and_adds_nothing() {
    let good = || datum("abc").with("advantages", vec![1.0; 2]).with("logprobs", vec![-1.0; 2]);
    let mut learner = learner(2, 1);
    learner.forward_backward(&[good()], &cross_entropy()).unwrap();
    let gathered = learner.gradient().cloned();
    let mut refused = |loss: LearnerLoss, bad: LearnerDatum, words: &[&str]| {
        let message = refusal(learner.forward_backward(&[good(), bad], &loss));
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        assert_eq!(learner.gradient().cloned(), gathered);
    };
    let named = LearnerLoss::named;
    refused(cross_entropy(), LearnerDatum::default(), &["datum 1", "no tokens"]);
    refused(cross_entropy(), LearnerDatum::new(vec![1, 2], vec![3]), &["datum 1", "target_tokens", "1", "2"]);
    refused(cross_entropy(), LearnerDatum { width: 2, ..good() }, &["datum 1", "target_tokens"]);
    refused(cross_entropy(), good().with("weights", vec![1.0]), &["datum 1", "weights", "1", "2"]);
    refused(cross_entropy(), good().with("weights", vec![1.0, f32::NAN]), &["datum 1", "weights", "NaN"]);
    refused(named("ppo"), datum("abc"), &["datum 1", "ppo", "advantages"]);
    refused(named("dro"), datum("abc").with("advantages", vec![1.0; 2]), &["datum 1", "dro", "logprobs"]);
    refused(named("cispo"), good().with("clip_low_threshold", vec![]), &["datum 1", "clip_low_threshold"]);
    refused(named("gspo"), good().with("sequence_ratio_mask", vec![f32::INFINITY; 2]), &["mask", "inf"]);
    refused(named("importance_sampling"), good().with("logprobs", vec![-1.0, -500.0]), &["datum 1", "large"]);
    refused(named("ppo").with("clip_low_threshold", f64::NAN), good(), &["clip_low_threshold", "NaN"]);
    refused(named("stable_reinforce"), good(), &["stable_reinforce", "not supported"]);
    refused(named("cross_entrophy"), good(), &["unknown", "cross_entrophy"]);
    assert!(refusal(learner.forward(&[], &cross_entropy())).contains("no data"));
    assert!(refusal(learner.backward_from(&[good()], &[])).contains("0 gradients for 1"));
    assert!(refusal(learner.backward_from(&[good()], &[vec![1.0]])).contains("datum 0"));
    assert!(refusal(learner.backward_from(&[good()], &[vec![1.0, f32::NAN]])).contains("NaN"));
    assert_eq!(learner.gradient().cloned(), gathered);
}

/// Whatever learning rates do to the weights, every logprob stays a finite number.
#[test]
fn logprobs_are_finite_after_senseless_steps() {
    let mut learner = learner(32, 1);
    for (rate, eps, beta2, weight_decay) in [
        (1e30, 1e-12, 0.95, 0.0),
        (1e300, 0.0, 1.0, 1e300),
        (1.0, -1.0, 2.0, -1e30),
        (1e-3, 1e-12, 0.95, 0.0),
    ] {
        learner.forward_backward(&[datum(TEXT)], &cross_entropy()).unwrap();
        let step = AdamStep { learning_rate: rate, eps, beta2, weight_decay, ..AdamStep::default() };
        learner.optim_step(&step.into());
        let output = learner.forward(&[datum(TEXT)], &cross_entropy()).unwrap();
        assert!(output.logprobs[0].iter().all(|value| value.is_finite() && *value <= 0.0), "rate {rate}");
        assert!(output.metrics.values().all(|value| value.is_finite()));
        assert!(learner.model().logits(&tokens("In ")).iter().all(|value| value.is_finite()));
    }
}

proptest! {
    /// Any tokens and targets have finite logprobs, equal to the model's, and weights weigh them.
    #[test]
    fn any_datum_can_be_learned_from(
        cells in proptest::collection::vec((any::<i32>(), any::<i64>(), -10.0_f32..10.0), 1..40),
        seed: u64,
    ) {
        let datum = LearnerDatum::new(
            cells.iter().map(|cell| cell.0).collect(),
            cells.iter().map(|cell| cell.1).collect(),
        )
        .with("weights", cells.iter().map(|cell| cell.2).collect());
        let mut learner = learner(3, SplitMix64::new(seed).next_u64());
        for _ in 0..3 {
            let output = learner.forward_backward(std::slice::from_ref(&datum), &cross_entropy()).unwrap();
            let mut expected = 0.0;
            for (position, (_, target, weight)) in cells.iter().enumerate() {
                let logits = learner.model().logits(&datum.tokens[..=position]);
                let value = output.logprobs[0][position];
                prop_assert_eq!(value, logits[usize::from(byte_of((target % 256) as i32))]);
                expected -= f64::from(value) * f64::from(*weight);
            }
            prop_assert!((output.metrics["loss:sum"] - expected).abs() < 1e-6);
            learner.optim_step(&adam(0.05));
        }
    }
}
