//! What must hold of every run, whatever happened to it.

use std::collections::BTreeSet;

use tinkex_client::{Effect, ErrorKind};
use tinkex_testkit::service::TrainingOrder;

use super::ledger::{self, Entry, Mark};
use super::plan::{Action, Call, PROBE, Plan};
use super::play::{End, Outcome};

/// F-11: the server sees each id from 1 to the highest, once, and has carried out whatever it took in; what a caller
/// called first has the lower ids, came first and was carried out first. (The chunks of one call come in any order.)
pub(super) fn ids_are_in_order(plan: &Plan, outcome: &Outcome) {
    let Outcome { entries, run, .. } = outcome;
    let mut ids: Vec<u64> = entries.iter().map(|(id, _)| *id).collect();
    let mut executed = run.executed.clone();
    assert!(run.waiting.is_empty() && run.gaps().is_empty(), "something waits for ever: {run:?}");
    assert_eq!(run.seq_ids, ids, "the ledger and the run agree");
    let of_id = |id: &u64| entries.iter().find(|(taken, _)| taken == id);
    let by_execution: Vec<_> = run.executed.iter().filter_map(of_id).cloned().collect();
    let mut by_id = entries.clone();
    by_id.sort_by_key(|(id, _)| *id);
    for entries in [entries, &by_id, &by_execution] {
        let calls: Vec<_> = entries.iter().filter_map(|(_, entry)| ledger::call_of(entry)).collect();
        for caller in 0..plan.callers {
            let own: Vec<_> = calls.iter().filter(|n| **n == PROBE || **n % plan.callers == caller).collect();
            assert!(own.is_sorted(), "what was called first comes first: {entries:?}");
        }
    }
    ids.sort_unstable();
    executed.sort_unstable();
    assert_eq!(executed, ids, "everything that was taken in was carried out once");
    let skips_ids =
        plan.dialect.training_order == TrainingOrder::Strict && plan.dialect.rejected_requests_use_ids;
    if !skips_ids {
        assert!(ids.iter().copied().eq(1..=ids.len() as u64), "{ids:?}");
    }
}

/// No gradient is applied twice, nor anything else; numbers of sampling sessions are unique.
pub(super) fn nothing_counts_twice(plan: &Plan, outcome: &Outcome) {
    let Outcome { entries, run, .. } = outcome;
    assert!(ledger::all_different(ledger::gradients(entries)), "{entries:?}");
    assert!(ledger::all_different(ledger::looks(entries)), "{entries:?}");
    let of = |pick: fn(&Entry) -> Option<String>| -> Vec<String> {
        entries.iter().filter_map(|(_, entry)| pick(entry)).collect()
    };
    let steps = of(|entry| match entry {
        Entry::Step(rate) => Some(rate.to_string()),
        _ => None,
    });
    let taken = steps.len() as u64;
    assert!(run.steps == taken || plan.has_fates() && run.steps < taken, "{} of {taken} steps", run.steps);
    let saved = of(|entry| match entry {
        Entry::Saved(name) => Some(name.clone()),
        _ => None,
    });
    let published = of(|entry| match entry {
        Entry::Published(number) => Some(number.to_string()),
        _ => None,
    });
    assert!([steps, saved, published].into_iter().all(ledger::all_different), "{entries:?}");
}

/// What a handle said of its operation is what the server knows of it.
pub(super) fn ends_are_true(plan: &Plan, outcome: &Outcome) {
    let gradients: BTreeSet<Mark> = ledger::gradients(&outcome.entries).into_iter().collect();
    let looks: BTreeSet<Mark> = ledger::looks(&outcome.entries).into_iter().collect();
    for ((n, call), end) in (1..).zip(&plan.calls).zip(&outcome.ends) {
        let of = |marks: &BTreeSet<Mark>| marks.iter().filter(|(call, _)| *call == n).count();
        let named = outcome.entries.iter().any(|(_, entry)| ledger::call_of(entry) == Some(n));
        // How much of the operation was taken in, and how much there is.
        let (taken, whole) = match call.action {
            Action::Backward(count) | Action::Custom { data: count, .. } => (of(&gradients), count),
            Action::Nonsense => (of(&gradients), 2),
            Action::Forward(count) => (of(&looks), count),
            Action::Step | Action::Save | Action::SamplerWeights => (usize::from(named), 1),
            Action::Snapshot | Action::Restore => continue,
        };
        let label =
            format!("call {n}, {:?}, {end:?}, of which {taken} of {whole} were taken in", call.action);
        let meant = matches!(call.action, Action::Nonsense | Action::Custom { fails: true, .. });
        // Where an answer is lost while the form of passes is being found out, the other form meets a conflict with what
        // was taken in, and that may stay in doubt. Then the chunks behind it are not sent.
        let in_doubt = plan.faults > 0.0 && taken > 0 && outcome.disputed.contains(&n);
        let must_succeed = plan.is_forgiving() && !meant && !may_be_poisoned(plan, n);
        match end {
            End::Done => assert_eq!(taken, whole, "{label}"),
            End::Dropped if must_succeed && !in_doubt => {
                assert_eq!(taken, whole, "detached operations reach the server: {label}");
            }
            End::Dropped => {}
            End::Failed(error) => match error.effect() {
                Some(Effect::Nothing) => assert_eq!(taken, 0, "{label}"),
                // All chunks have promises, and some of them failed.
                Some(Effect::Partial) if error.request_id().is_some() => assert_eq!(taken, whole, "{label}"),
                Some(Effect::Partial) => assert!(0 < taken && taken < whole, "{label}"),
                Some(Effect::TakenIn) => assert_eq!(taken, whole, "{label}"),
                Some(Effect::Unknown) => {}
                None => assert_eq!(error.kind(), ErrorKind::RequestFailed, "{label}"),
                _ => panic!("{label}"),
            },
        }
        assert!(taken == 0 || !is_poisoned(plan, n), "it would build on a gradient that is missing: {label}");
        if let End::Failed(error) = end {
            let in_doubt = in_doubt && (error.status(), error.effect()) == (Some(409), Some(Effect::Unknown));
            assert!(!must_succeed || in_doubt, "no reason to fail: {label}");
            assert_ne!(error.kind(), ErrorKind::TaskEnded, "{label}");
            assert!(error.kind() != ErrorKind::Poisoned || may_be_poisoned(plan, n), "{label}");
        } else if meant {
            assert!(matches!(end, End::Dropped), "it must fail: {label}");
        }
    }
}

/// The weights are those of a run to which nothing happened but what counts.
pub(super) fn weights_are_equal(outcome: &Outcome, calm: &[Vec<f32>]) {
    if outcome.run.is_ordered() {
        assert_eq!(outcome.weights, calm, "as if nothing had happened");
    }
    // Gradients that were added in another order differ in their last digits.
    for (ours, calm) in outcome.weights.iter().flatten().zip(calm.iter().flatten()) {
        assert!((ours - calm).abs() < 1e-4, "{:?} is not {calm:?}", outcome.weights);
    }
}

/// F-12: whether call `n` was made in one breath with a custom loss before it that fails.
fn is_poisoned(plan: &Plan, n: usize) -> bool {
    let fails = |call: &&Call| matches!(call.action, Action::Custom { fails: true, .. });
    let in_one_breath = (1..n).rev().take_while(|before| plan.calls[*before].pause.is_zero());
    plan.callers == 1
        && in_one_breath.filter_map(|before| plan.calls.get(before - 1)).any(|call| fails(&call))
}

/// Whether a custom loss before call `n` may have failed.
fn may_be_poisoned(plan: &Plan, n: usize) -> bool {
    let before = if plan.callers == 1 { &plan.calls[..n - 1] } else { &plan.calls };
    before.iter().any(|call| match call.action {
        Action::Custom { fails, .. } => fails || !plan.is_forgiving(),
        _ => false,
    })
}
