//! Settling ids of which nobody knows whether they count at the server, before anything else is sent.
//!
//! A server that executes requests in order would wait for an id that never comes. So a filler is sent under it: a
//! forward pass over one token of weight 0, which changes nothing. If the server has taken the id in before, it says
//! so, and that settles it as well. No gradient is ever applied twice.

use std::sync::LazyLock;

use tinkex_types::{Datum, Loss, LossFn, ModelInput};

use super::call::Call;
use super::pass::Pass;
use super::sequence::SequenceState;
use super::submission::{Conflict, Failure, Fate, Identity, Outgoing as _};
use crate::{Effect, Error};

static DATA: LazyLock<[Datum; 1]> =
    LazyLock::new(|| [Datum::new(ModelInput::from_ints([0])).target_tokens([0]).weights([0.0])]);
static LOSS: LazyLock<Loss> = LazyLock::new(|| LossFn::CrossEntropy.into());

impl Call {
    /// Settles every open id, lowest first. Until that succeeds nothing else is sent.
    pub(super) async fn settle(&self, state: &mut SequenceState) -> Result<(), Error> {
        while let Some((seq_id, _)) = state.first_open() {
            let Err(failure) = self.fill(seq_id).await else {
                state.accepted(seq_id);
                continue;
            };
            match (failure.conflict, failure.fate) {
                (Some(Conflict { expected: Some(expected), .. }), _) if expected > seq_id => {
                    state.skip_to(expected);
                }
                (Some(Conflict { expected: Some(expected), .. }), _) => state.adopt(expected),
                (Some(_), _) => state.accepted(seq_id),
                // As much in doubt as before.
                (None, Fate::Unsent) => {}
                (None, fate) => state.failed(seq_id, fate),
            }
            if state.first_open().is_some_and(|(open, _)| open == seq_id) {
                let words = format!(
                    "nothing was sent, because an earlier operation left sequence id {seq_id} in doubt and that could \
                     not be settled"
                );
                let after = "the next operation tries to settle it again";
                return Err(failure.error.prefixed(&words).with_effect(Effect::Nothing, after));
            }
        }
        Ok(())
    }

    /// Settles what can be settled now, at the end of a turn; the rest is left to the next.
    pub(super) async fn settle_now(&self, state: &mut SequenceState) {
        if let Err(error) = self.settle(state).await {
            tracing::debug!("{error}");
        }
    }

    async fn fill(&self, seq_id: u64) -> Result<(), Failure> {
        tracing::debug!(seq_id, "filling a sequence id that is in doubt");
        let filler = Pass { data: &*DATA, loss: &LOSS, forward_only: true, bytes: 0 };
        // Every conflict tells what became of the id.
        filler.submit(self, Identity { seq_id, doubted: true }).await.map(drop)
    }
}

impl Fate {
    /// Whether something of it may count at the server.
    pub(super) fn may_count(self) -> bool {
        self == Self::Unknown
    }
}
