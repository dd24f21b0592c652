//! The training loops of the examples, over the in-memory server in virtual time: what they claim to learn is learned.

#[path = "../../examples/dpo/training.rs"]
mod dpo;
#[path = "../../examples/resume/training.rs"]
mod resume;
#[path = "../../examples/rl/training.rs"]
mod rl;
#[path = "../../examples/sft/training.rs"]
mod sft;

use tinkex_client::{ByteTokenizer, FinishReason, ServiceClient, Tokenizer as _, TrainingClient};
use tinkex_testkit::FakeServer;

use crate::harness::{self, MODEL};

async fn trainer(server: &FakeServer, rank: u32) -> (ServiceClient, TrainingClient) {
    let service = harness::service(server).await;
    let trainer = service.lora_training_client(MODEL).rank(rank).seed(1).create().await.unwrap();
    (service, trainer)
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

/// Forty steps bring the loss near zero, and greedy sampling then gives the text, which it did not before; a sampler
/// that was made before training keeps its weights. Each step is sent while the one before it is being worked on.
#[tokio::test(start_paused = true)]
async fn sft_learns_its_text_by_heart() {
    let server = FakeServer::new();
    let (_service, trainer) = trainer(&server, sft::RANK).await;
    let before = trainer.save_weights_and_get_sampling_client().await.unwrap();
    let untrained = sft::recite(&before, &ByteTokenizer).await.unwrap();
    assert_ne!(untrained, sft::TEXT);

    let example = sft::example(&ByteTokenizer).unwrap();
    let mut heard = Vec::new();
    let losses =
        sft::train(&trainer, &example, sft::learning_rate(true), |loss| heard.push(loss)).await.unwrap();
    assert_eq!((losses.len(), &heard), (sft::STEPS, &losses));
    assert!((2.5..4.0).contains(&losses[0]), "before training, a character costs {} nats", losses[0]);
    assert!((0.0..0.01).contains(&losses[39]), "after training, a character costs {} nats", losses[39]);
    assert_eq!((server.count("forward_backward"), server.count("optim_step")), (40, 40));
    assert_eq!(server.max_in_flight("retrieve_future"), 4, "two operations in each of two steps");

    let after = trainer.save_weights_and_get_sampling_client().await.unwrap();
    assert_eq!(sft::recite(&after, &ByteTokenizer).await.unwrap(), sft::TEXT);
    assert_eq!(sft::recite(&before, &ByteTokenizer).await.unwrap(), untrained);
    server.verify().unwrap();
}

/// The mean reward rises from what the untrained model gets by chance to nearly twice that.
#[tokio::test(start_paused = true)]
async fn rl_raises_its_reward() {
    let server = FakeServer::new();
    let (_service, trainer) = trainer(&server, rl::RANK).await;
    let mut heard = Vec::new();
    let rate = rl::learning_rate(true);
    let rewards = rl::train(&trainer, &ByteTokenizer, rate, |reward| heard.push(reward)).await.unwrap();
    assert_eq!((rewards.len(), &heard), (rl::STEPS, &rewards));
    let (first, last) = (mean(&rewards[..4]), mean(&rewards[20..]));
    assert!((0.25..0.35).contains(&first), "the mean reward of the untrained model is {first}");
    assert!((0.55..=1.0).contains(&last), "the mean reward after training is {last}");
}

/// The reward is what it is said to be, and an empty answer has none.
#[test]
fn the_reward_is_the_share_of_vowels() {
    for (answer, share) in [("", 0.0), ("tsk", 0.0), ("Aeon", 0.75), ("a b ", 0.25), ("ooo", 1.0)] {
        assert!((rl::reward(answer) - share).abs() < 1e-12, "{answer:?}");
    }
}

/// TR-2, in passing: all preferences are followed in the end, none before the first step, with a margin that grows with every
/// step; every preferred answer is more likely than before, every other one less.
#[tokio::test(start_paused = true)]
async fn dpo_follows_every_preference() {
    let server = FakeServer::new();
    let (_service, trainer) = trainer(&server, dpo::RANK).await;
    let data = dpo::data(&ByteTokenizer).unwrap();
    assert_eq!(data.len(), 2 * dpo::PAIRS.len());
    for (pair, [question, preferred, rejected]) in data.chunks(2).zip(dpo::PAIRS) {
        for (datum, answer) in pair.iter().zip([preferred, rejected]) {
            // The last character is a target only.
            let read = ByteTokenizer.decode(&datum.model_input.tokens().collect::<Vec<_>>()).unwrap();
            assert_eq!(read, format!("{question}{}", &answer[..answer.len() - 1]));
        }
    }
    let before = dpo::score(&trainer, data.clone()).await.unwrap();
    let mut heard = 0;
    let steps = dpo::train(&trainer, data.clone(), dpo::learning_rate(true), |_| heard += 1).await.unwrap();
    assert_eq!((steps.len(), heard), (dpo::STEPS, dpo::STEPS));
    let after = dpo::score(&trainer, data).await.unwrap();

    let [first, last] = [0, 29].map(|step| steps[step].accuracy);
    assert!(first == 0.0 && last == 1.0, "accuracy from {first} to {last}");
    assert!(steps[0].margin.abs() < 1e-6, "an untrained model is its own reference: {}", steps[0].margin);
    assert!((3.0..10.0).contains(&steps[29].margin), "the margin after training is {}", steps[29].margin);
    assert!(steps.windows(2).all(|pair| pair[1].margin > pair[0].margin));
    for (before, after) in before.chunks(2).zip(after.chunks(2)) {
        assert!(after[0] > before[0] && after[1] < before[1], "from {before:?} to {after:?}");
    }
}

/// A run that goes on from a checkpoint, in another session, has the losses of the run that was never stopped.
/// Without the optimizer's state it has not, so the comparison can tell.
#[tokio::test(start_paused = true)]
async fn a_resumed_run_equals_one_without_a_stop() {
    let server = FakeServer::new();
    let recipe = resume::Recipe::new(MODEL, resume::learning_rate(true), &ByteTokenizer).unwrap();
    let service = harness::service(&server).await;
    let uninterrupted = recipe.start(&service).await.unwrap();
    let whole = recipe.train(&uninterrupted, 0..resume::STEPS, |_| {}).await.unwrap();
    let (mut resumed, path) = resume::until_stop(&service, &recipe, |_| {}).await.unwrap();
    service.close(FinishReason::Success).await.unwrap();
    assert_eq!((whole.len(), resumed.len()), (resume::STEPS, resume::STOP));
    assert!(
        whole[resume::STEPS - 1] < 0.5 * whole[0],
        "it learns, so equal losses mean something: {whole:?}"
    );

    let service = harness::service(&server).await;
    resumed.extend(resume::from_stop(&service, &recipe, &path, |_| {}).await.unwrap());
    let difference = whole.iter().zip(&resumed).map(|(a, b)| (a - b).abs()).collect::<Vec<_>>();
    assert_eq!(difference.len(), resume::STEPS);
    assert!(difference.iter().all(|difference| *difference <= 1e-6), "{difference:?}");

    let fresh = resume::from_stop_without_optimizer(&service, &recipe, &path, |_| {}).await.unwrap();
    assert!((fresh[0] - whole[resume::STOP]).abs() <= 1e-6, "the weights are the same");
    assert!(
        fresh.iter().zip(&whole[resume::STOP..]).any(|(a, b)| (a - b).abs() > 1e-3),
        "a new optimizer makes other steps: {fresh:?}"
    );
}
