//! Settling ids of which nobody knows whether they count at the server, before anything else is sent.
//!
//! A server that executes requests in order would wait for an id that never comes. So a filler is sent under it: a
//! forward pass over one token of weight 0, which changes nothing. If the server has taken the id in before, it says
//! so, and that settles it as well. No gradient is ever applied twice. A server that refuses the filler itself gets
//! another, a forward/backward pass whose gradient is 0; if it refuses that too nothing can be sent under the id, and it
//! is passed over, so that the client does not stand still for good.

use std::sync::LazyLock;

use tinkex_types::{Datum, Loss, LossFn, ModelInput};

use super::call::Call;
use super::pass::Pass;
use super::sequence::{Open, SequenceState};
use super::submission::{Conflict, Failure, Fate, Identity, Outgoing as _, Patience};
use super::wire_format::Fit;
use crate::{Effect, Error};

static DATA: LazyLock<[Datum; 1]> =
    LazyLock::new(|| [Datum::new(ModelInput::from_ints([0])).target_tokens([0]).weights([0.0])]);
static LOSS: LazyLock<Loss> = LazyLock::new(|| LossFn::CrossEntropy.into());

impl Call {
    /// Settles every open id, lowest first, with at most this patience for each. Until that succeeds nothing else is
    /// sent.
    pub(super) async fn settle(&self, state: &mut SequenceState, most: Patience) -> Result<(), Error> {
        while let Some((seq_id, _)) = state.first_open() {
            let patience = most.min(state.patience(self.started));
            let identity = Identity { seq_id, doubted: true, patience };
            for forward_only in [true, false] {
                let Err(failure) = self.fill(identity, forward_only).await else {
                    state.accepted(seq_id);
                    break;
                };
                note(state, seq_id, &failure);
                if !is_open(state, seq_id) {
                    break;
                }
                if !failure.is_about_the_request() {
                    if failure.is_outage {
                        state.give_up();
                    }
                    return Err(unsettled(failure, seq_id));
                }
            }
            if state.first_open() == Some((seq_id, Open::Unknown)) {
                // Nothing tells what became of it: it is drawn again where it is the last.
                state.refused(seq_id);
            }
            if is_open(state, seq_id) {
                tracing::warn!(
                    seq_id,
                    "the server refuses all fillers of a sequence id that counts for nothing; it is passed over"
                );
                state.pass_over(seq_id);
            }
        }
        Ok(())
    }

    /// Settles what can be settled now, at the end of a turn, without keeping the user waiting; the rest is left to the
    /// next.
    pub(super) async fn settle_now(&self, state: &mut SequenceState) {
        if let Err(error) = self.settle(state, Patience::Brief).await {
            tracing::debug!("{error}");
        }
    }

    async fn fill(&self, identity: Identity, forward_only: bool) -> Result<(), Failure> {
        tracing::debug!(seq_id = identity.seq_id, forward_only, "filling a sequence id that is in doubt");
        let filler = Pass { data: &*DATA, loss: &LOSS, forward_only, bytes: 0, fit: Fit::Either };
        // Every conflict tells what became of the id.
        filler.submit(self, identity).await.map(drop)
    }
}

/// What the failure of a filler says of its id.
fn note(state: &mut SequenceState, seq_id: u64, failure: &Failure) {
    match (failure.conflict, failure.fate) {
        (Some(Conflict { expected: Some(expected), .. }), _) if !state.is_plausible(expected) => {}
        (Some(Conflict { expected: Some(expected), .. }), _) if expected > seq_id => state.skip_to(expected),
        (Some(Conflict { expected: Some(expected), .. }), _) => state.adopt(expected),
        (Some(_), _) => state.accepted(seq_id),
        // As much in doubt as before.
        (None, Fate::Unsent) => {}
        // That the filler does not count says nothing of what went out before.
        (None, Fate::Refused) if state.first_open() == Some((seq_id, Open::Unknown)) => {}
        (None, _) => state.failed(seq_id, failure),
    }
}

fn is_open(state: &SequenceState, seq_id: u64) -> bool {
    state.first_open().is_some_and(|(open, _)| open == seq_id)
}

fn unsettled(failure: Failure, seq_id: u64) -> Error {
    let words = format!(
        "nothing was sent, because an earlier operation left sequence id {seq_id} in doubt and that could not be \
         settled"
    );
    let after = "the next operation tries to settle it again";
    failure.error.prefixed(&words).with_effect(Effect::Nothing, after)
}

impl Failure {
    /// Whether the server refuses what is sent, not who sends it or when: it will do so again.
    fn is_about_the_request(&self) -> bool {
        let of_the_request = matches!(self.status(), Some(400 | 413 | 415 | 422 | 501));
        self.fate == Fate::Refused && self.conflict.is_none() && of_the_request
    }
}

impl Fate {
    /// Whether something of it may count at the server.
    pub(super) fn may_count(self) -> bool {
        self == Self::Unknown
    }
}
