//! Random interleavings of training operations, failures and dropped handles, under random faults of the server
//! (F-11, F-12, F-14, TR-3): whatever happens, the server sees sequence ids in order and without gaps, every handle ends,
//! nothing counts twice, and nothing is left behind. A failure prints its plan, and the seed that it was drawn from.

mod ledger;
mod plan;
mod play;
mod verdict;

use std::time::Duration;

use tinkex_testkit::service::TrainingOrder;

use plan::Plan;
use play::{End, Outcome, Stage};

/// Interleavings of each of the three orders; a thousand in all.
const EACH: u64 = 334;

/// More than any run may take, in virtual time.
const LIMIT: Duration = Duration::from_secs(3 * 3600);

/// Tells which plan was played, where the test fails.
struct Teller<'a>(&'a Plan);

impl Drop for Teller<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}: {:?}", self.0.seed, self.0);
        }
    }
}

/// What must hold of every run.
fn judge(plan: &Plan, stage: &Stage, outcome: &Outcome) {
    assert_eq!(stage.ledger.complaints(), [""; 0]);
    verdict::ids_are_in_order(plan, outcome);
    verdict::nothing_counts_twice(plan, outcome);
    verdict::ends_are_true(plan, outcome);
}

async fn play_all(order: TrainingOrder, seeds: std::ops::Range<u64>) {
    let tasks = tokio::runtime::Handle::current().metrics();
    for seed in seeds {
        let plan = Plan::drawn(seed, order);
        let _teller = Teller(&plan);
        let before = tasks.num_alive_tasks();
        let stage = Stage::new(&plan, plan.policy()).await;
        stage.make_trouble(&plan, plan.chaos());
        let ends = tokio::time::timeout(LIMIT, stage.play((1..).zip(&plan.calls))).await;
        let ends: Vec<End> = ends.expect("every handle ends").into_iter().map(|(_, end)| end).collect();
        let outcome = tokio::time::timeout(LIMIT, stage.calm(ends)).await.expect("the probe comes through");
        judge(&plan, &stage, &outcome);
        stage.trainer.unload().await.expect("all is calm");

        drop(stage);
        if !plan.has_fates() {
            let calm = Stage::new(&plan, plan.policy()).await;
            if let Some(weights) = calm.replay(&plan, &outcome.entries).await {
                verdict::weights_are_equal(&outcome, &weights);
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(tasks.num_alive_tasks(), before, "no task is left");
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_server_waits_for_missing_ids() {
    play_all(TrainingOrder::Waiting, 0..EACH).await;
}

#[tokio::test(start_paused = true)]
async fn where_the_server_tolerates_missing_ids() {
    play_all(TrainingOrder::Tolerant, 1_000..1_000 + EACH).await;
}

#[tokio::test(start_paused = true)]
async fn where_the_server_expects_the_next_id() {
    play_all(TrainingOrder::Strict, 2_000..2_000 + EACH).await;
}

/// The same on a runtime with threads, in real time, with calls from several threads at once.
#[test]
fn from_many_threads() {
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    for seed in 3_000..3_200 {
        let order =
            [TrainingOrder::Waiting, TrainingOrder::Tolerant, TrainingOrder::Strict][seed as usize % 3];
        let plan = Plan::drawn(seed, order).hurried();
        let _teller = Teller(&plan);
        let stage = threads.block_on(Stage::new(&plan, plan.quick_policy()));
        stage.make_trouble(&plan, plan.quick_chaos());
        let of_caller = |caller| (1..).zip(&plan.calls).filter(move |(n, _)| n % plan.callers == caller);
        let mut ends: Vec<(usize, End)> = std::thread::scope(|scope| {
            let play = |caller| {
                let (threads, stage) = (&threads, &stage);
                scope.spawn(move || threads.block_on(stage.play(of_caller(caller))))
            };
            let callers: Vec<_> = (0..plan.callers).map(play).collect();
            callers.into_iter().flat_map(|caller| caller.join().expect("no call panics")).collect()
        });
        ends.sort_by_key(|(n, _)| *n);
        let ends = ends.into_iter().map(|(_, end)| end).collect();
        let outcome = threads.block_on(stage.calm(ends));
        judge(&plan, &stage, &outcome);
    }
}
