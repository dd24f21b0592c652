//! Playing a plan: the calls are made, handles awaited or dropped, and the run is looked at when all is calm again.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tinkex_client::{
    AdamParams, CustomLossOutput, Datum, Error, ErrorCategory, InvalidInput, Logprobs, LossFn, RetryPolicy,
    ServiceClient, TrainingClient, TrainingHandle,
};
use tinkex_testkit::service::{RunInfo, Service};
use tinkex_testkit::{Chaos, FakeServer};

use super::ledger::{Entry, Ledger};
use super::plan::{self, Action, Call, Fate, Plan};
use crate::harness::{self, MODEL};

/// A server and a training client of it.
pub(super) struct Stage {
    pub(super) service: Service,
    pub(super) ledger: Arc<Ledger>,
    pub(super) server: FakeServer,
    pub(super) client: ServiceClient,
    pub(super) trainer: TrainingClient,
    /// The checkpoint of the beginning.
    start: String,
}

/// How a call ended.
#[derive(Debug)]
pub(super) enum End {
    Done,
    Failed(Error),
    Dropped,
}

/// What is left of a run when all is calm again.
pub(super) struct Outcome {
    pub(super) ends: Vec<End>,
    pub(super) entries: Vec<(u64, Entry)>,
    /// The calls a request of which was answered with a conflict.
    pub(super) disputed: BTreeSet<usize>,
    pub(super) run: RunInfo,
    /// The log-probabilities of the probe.
    pub(super) weights: Vec<Vec<f32>>,
}

type Ending = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

impl Stage {
    /// Everything in place, and all calm.
    pub(super) async fn new(plan: &Plan, policy: RetryPolicy) -> Self {
        let service = Service::with_options(plan.options());
        service.set_client_config(&plan.flags());
        let ledger = Arc::new(Ledger::new(service.clone(), plan.seed));
        let server = FakeServer::with(Arc::clone(&ledger));
        let client = harness::service(&server).await;
        let builder = client.lora_training_client(MODEL).rank(2).seed(plan.seed).retry_policy(policy);
        let trainer = builder.create().await.expect("all is calm yet");
        let start = trainer.save_state("start").await.expect("all is calm yet").path;
        Self { service, ledger, server, client, trainer, start }
    }

    pub(super) fn make_trouble(&self, plan: &Plan, chaos: Chaos) {
        self.server.chaos(chaos);
        self.ledger.refuse(plan.refusals);
    }

    /// Makes call `n`. The handle is in the future that is returned.
    fn begin(&self, n: usize, action: Action) -> Ending {
        fn ending<T: Send + 'static>(handle: TrainingHandle<T>) -> Ending {
            Box::pin(async move { handle.await.map(drop) })
        }
        let trainer = &self.trainer;
        let named = || format!("call-{n}");
        match action {
            Action::Backward(count) => {
                ending(trainer.forward_backward(plan::data(n, count), LossFn::CrossEntropy))
            }
            Action::Nonsense => {
                ending(trainer.forward_backward(plan::data(n, 2), LossFn::Other("nonsense".to_owned())))
            }
            Action::Forward(count) => ending(trainer.forward(plan::data(n, count), LossFn::CrossEntropy)),
            Action::Custom { data, fails } => {
                ending(trainer.forward_backward_custom(plan::data(n, data), loss(fails)))
            }
            Action::Step => ending(trainer.optim_step(AdamParams::new(plan::RATE * n as f64))),
            Action::Save => ending(trainer.save_state(named())),
            Action::SamplerWeights => ending(trainer.save_weights_for_sampler(named())),
            Action::Snapshot => ending(trainer.save_weights_and_get_sampling_client()),
            Action::Restore => ending(trainer.load_state(self.start.as_str())),
        }
    }

    /// Makes the calls, each in its time, and waits for what is to be waited for. `number` gives each call its number.
    pub(super) async fn play(&self, calls: impl IntoIterator<Item = (usize, &Call)>) -> Vec<(usize, End)> {
        let mut ends = Vec::new();
        for (n, call) in calls {
            if !call.pause.is_zero() {
                tokio::time::sleep(call.pause).await;
            }
            match call.fate {
                None => {}
                Some(Fate::Fails) => self.service.fail_next(ErrorCategory::Server, "by fate"),
                Some(Fate::IsForgotten) => self.service.expire_next(),
            }
            let ending = self.begin(n, call.action);
            ends.push((n, tokio::spawn(wait(ending, call.dropped_after))));
        }
        let mut known = Vec::new();
        for (n, end) in ends {
            known.push((n, end.await.expect("waiting does not panic")));
        }
        known
    }

    /// Ends the trouble, and looks at the run when nothing is left in flight.
    pub(super) async fn calm(&self, ends: Vec<End>) -> Outcome {
        self.server.end_chaos();
        self.ledger.refuse(0.0);
        // Those whose handles were dropped go on. Nothing that is called now is to fail for one of them.
        while !self.client.inflight().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Whatever fate is left falls on these.
        let mut n = 0;
        while self.trainer.save_state(format!("calm-{n}")).await.is_err() {
            n += 1;
            assert!(n < 20, "all is calm again");
        }
        let weights = self.weights().await;
        let run = self.service.run(self.trainer.model_id()).expect("the run is there");
        Outcome { ends, entries: self.ledger.entries(), disputed: self.ledger.disputed(), run, weights }
    }

    async fn weights(&self) -> Vec<Vec<f32>> {
        let probe = self.trainer.forward(plan::probe(), LossFn::CrossEntropy).await;
        let probe = probe.expect("all is calm again");
        probe.loss_fn_outputs.iter().map(|output| output.logprobs().expect("logprobs").to_vec()).collect()
    }

    /// Does again, one after the other, what the entries say was done; the weights that come of it. None where a call
    /// was taken in by half.
    pub(super) async fn replay(&self, plan: &Plan, entries: &[(u64, Entry)]) -> Option<Vec<Vec<f32>>> {
        let mut before = None;
        for (_, entry) in entries {
            match entry {
                Entry::Backward(marks) => {
                    let (n, _) = *marks.first()?;
                    if before.replace(n) == Some(n) {
                        continue;
                    }
                    let action = plan.calls.get(n - 1)?.action;
                    let count = match action {
                        Action::Backward(count) | Action::Custom { data: count, .. } => count,
                        _ => continue,
                    };
                    let taken = entries.iter().map(|(_, entry)| match entry {
                        Entry::Backward(marks) if marks[0].0 == n => marks.len(),
                        _ => 0,
                    });
                    if taken.sum::<usize>() != count {
                        return None;
                    }
                    self.begin(n, action).await.expect("all is calm");
                }
                Entry::Step(rate) => {
                    self.trainer.optim_step(AdamParams::new(*rate)).await.expect("all is calm");
                }
                Entry::Restored => self.trainer.load_state(self.start.as_str()).await.expect("all is calm"),
                Entry::Filler | Entry::Forward(_) | Entry::Saved(_) | Entry::Published(_) => {}
            }
        }
        Some(self.weights().await)
    }
}

async fn wait(ending: Ending, dropped_after: Option<Duration>) -> End {
    let end = match dropped_after {
        None => Some(ending.await),
        Some(Duration::ZERO) => None,
        Some(limit) => tokio::time::timeout(limit, ending).await.ok(),
    };
    match end {
        None => End::Dropped,
        Some(Ok(())) => End::Done,
        Some(Err(error)) => End::Failed(error),
    }
}

/// A loss that draws each log-probability towards -1, or fails.
fn loss(
    fails: bool,
) -> impl FnOnce(&[Datum], &[Logprobs<'_>]) -> Result<CustomLossOutput, InvalidInput> + Send + 'static {
    move |_, logprobs| {
        if fails {
            return Err(InvalidInput::new("loss", "is not to be had"));
        }
        let loss: f32 = logprobs.iter().flat_map(|l| l.iter()).map(|l| (l + 1.0).powi(2)).sum();
        let gradients = logprobs.iter().map(|l| l.iter().map(|l| 2.0 * (l + 1.0)).collect());
        Ok(CustomLossOutput::new(f64::from(loss), gradients.collect()))
    }
}
