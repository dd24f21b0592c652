//! Prints how long 1,000 training steps of 32 sequences of 64 tokens take: of a short text that comes again and
//! again, and of random bytes, where no context does.

#![allow(clippy::print_stdout)]

use tinkex_testkit::learner::{AdamStep, Learner, LearnerDatum, LearnerLoss, LearnerSpec, LossError};
use tinkex_testkit::model::SplitMix64;
use tokio::time::Instant;

const STEPS: usize = 1_000;

fn batch(text: &[u8], random: &mut SplitMix64) -> Vec<LearnerDatum> {
    let sequence = |_| {
        let start = random.next_u64() as usize % (text.len() - 64);
        let bytes = &text[start..start + 65];
        let tokens = bytes[..64].iter().map(|byte| i32::from(*byte)).collect();
        LearnerDatum::new(tokens, bytes[1..].iter().map(|byte| i64::from(*byte)).collect())
    };
    (0..32).map(sequence).collect()
}

fn main() -> Result<(), LossError> {
    let mut random = SplitMix64::new(1);
    let noise: Vec<u8> = (0..1 << 20).map(|_| random.next_u64() as u8).collect();
    let prose = include_bytes!("../src/model/corpus.txt").as_slice();
    for (name, text) in [("short text", &prose[..160]), ("prose", prose), ("random bytes", &noise)] {
        let spec = LearnerSpec { base_model: "base".into(), rank: 32, seed: 1 };
        let (mut learner, loss) = (Learner::new(&spec), LearnerLoss::named("cross_entropy"));
        let step = AdamStep { learning_rate: 0.01, ..AdamStep::default() }.into();
        let started = Instant::now();
        let mut per_token = 0.0;
        for _ in 0..STEPS {
            let output = learner.forward_backward(&batch(text, &mut random), &loss)?;
            per_token = output.metrics["loss:sum"] / output.metrics["tokens:sum"];
            learner.optim_step(&step);
        }
        let seconds = started.elapsed().as_secs_f64();
        println!("{name:>12}: {seconds:6.2} s for {STEPS} steps of 32 × 64 tokens, last loss {per_token:.4}");
    }
    Ok(())
}
