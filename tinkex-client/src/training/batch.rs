//! A batch: the chunks of one call, submitted within one turn (PROTOCOL 12.5, F-11).
//!
//! Where the server takes chunks in any order, all but the first go out at once and the first, the gate chunk, follows
//! when they are accepted: the server holds the others back until it comes. If one of them fails for good, the gate
//! chunk is sent all the same, so that what was taken in is executed, and ids without a chunk are filled within the
//! turn; in an outage with a few attempts only, since the next turn fills them as well. If none was taken in, nothing
//! more is sent: the batch fails as a whole. Elsewhere chunks go one after the other, and after a failure no further one
//! is sent.

use std::ops::Range;

use futures_util::future::join_all;
use tinkex_future::PromiseRef;
use tinkex_metrics::contract;
use tinkex_types::{ChunkLimits, Datum, InvalidInput, Loss, RequestType, chunk_ranges};

use super::call::Call;
use super::client::Trainer;
use super::fetch::list;
use super::pass::Pass;
use super::sequence::SequenceState;
use super::submission::{Failure, Identity, Outgoing as _, Patience};
use super::wire_format::Fit;
use crate::token_count::known_tokens;
use crate::{Effect, Error};

/// Checked data, cut into chunks.
pub(crate) struct Batch {
    data: Vec<Datum>,
    chunks: Vec<Range<usize>>,
    loss: Loss,
    forward_only: bool,
}

impl Batch {
    /// Checks and cuts.
    ///
    /// # Errors
    /// Where there is no data, or any of it is invalid.
    pub(crate) fn new(
        data: Vec<Datum>,
        loss: Loss,
        forward_only: bool,
        limits: &ChunkLimits,
    ) -> Result<Self, InvalidInput> {
        let chunks = chunk_ranges(data.iter().map(Datum::estimated_bytes), limits);
        Self::with_chunks(data, chunks, loss, forward_only)
    }

    /// Data that is already cut: `chunks` are consecutive, not empty, and cover the data.
    ///
    /// # Errors
    /// Where there is no data, or any of it is invalid.
    pub(crate) fn with_chunks(
        data: Vec<Datum>,
        chunks: Vec<Range<usize>>,
        loss: Loss,
        forward_only: bool,
    ) -> Result<Self, InvalidInput> {
        if data.is_empty() {
            return Err(InvalidInput::new("data", "must not be empty"));
        }
        loss.validate()?;
        for (n, datum) in data.iter().enumerate() {
            datum
                .validate()
                .map_err(|e| InvalidInput::new("data", format!("has a problem in datum {n}: {e}")))?;
        }
        Ok(Self { data, chunks, loss, forward_only })
    }

    /// How the data is cut.
    pub(crate) fn chunks(&self) -> &[Range<usize>] {
        &self.chunks
    }

    fn data_of(&self, chunk: usize) -> &[Datum] {
        self.chunks.get(chunk).and_then(|range| self.data.get(range.clone())).unwrap_or_default()
    }

    /// Counts the tokens of a chunk that the server has taken in.
    fn count_tokens(&self, chunk: usize) {
        let kind = if self.forward_only { RequestType::Forward } else { RequestType::ForwardBackward };
        let tokens = self.data_of(chunk).iter().map(|datum| known_tokens(&datum.model_input)).sum();
        contract::TOKENS.add([kind.as_str(), "in"], tokens);
    }

    fn pass(&self, chunk: usize, fit: Fit) -> Pass<'_> {
        let data = self.data_of(chunk);
        let bytes = data.iter().map(Datum::estimated_bytes).fold(0, u64::saturating_add);
        Pass { data, loss: &self.loss, forward_only: self.forward_only, bytes, fit }
    }
}

/// What became of the chunks of a batch.
struct Chunks<'a> {
    batch: &'a Batch,
    /// In which forms the whole of it can be sent.
    fit: Fit,
    promises: Vec<Option<PromiseRef>>,
    /// The first failure, with its chunk.
    failure: Option<(usize, Failure)>,
    /// Chunks that may have been taken in all the same.
    doubtful: Vec<usize>,
    /// How long what is left may take: little, once a chunk has taken all that the policy allows.
    patience: Patience,
}

impl<'a> Chunks<'a> {
    fn of(batch: &'a Batch, fit: Fit) -> Self {
        let promises = batch.chunks.iter().map(|_| None).collect();
        Self { batch, fit, promises, failure: None, doubtful: Vec::new(), patience: Patience::Full }
    }

    fn note(&mut self, chunk: usize, outcome: Result<PromiseRef, Failure>) {
        match outcome {
            Ok(promise) => {
                self.batch.count_tokens(chunk);
                if let Some(place) = self.promises.get_mut(chunk) {
                    *place = Some(promise);
                }
            }
            Err(failure) => {
                if failure.fate.may_count() {
                    self.doubtful.push(chunk);
                }
                if failure.is_outage {
                    self.patience = Patience::Brief;
                }
                self.failure.get_or_insert((chunk, failure));
            }
        }
    }

    /// Whether anything has reached the server that waits for the gate chunk.
    fn any_taken_in(&self) -> bool {
        !self.doubtful.is_empty() || self.promises.iter().any(Option::is_some)
    }

    /// The promises of all chunks, or what is to be said where one is missing.
    fn finish(self) -> Result<Vec<PromiseRef>, Error> {
        let Some((chunk, failure)) = self.failure else {
            return Ok(self.promises.into_iter().flatten().collect());
        };
        let count = self.promises.len();
        if count == 1 {
            return Err(failure.into_error());
        }
        let taken_in: Vec<_> =
            self.promises.iter().zip(1..).filter_map(|(promise, n)| promise.as_ref().map(|_| n)).collect();
        let (taken, taken_in) = (taken_in.len(), list(&taken_in));
        let mut words = match (taken, self.batch.forward_only) {
            (0, _) => "no chunk is known to have been taken in".to_owned(),
            (_, false) => {
                format!("{taken} of {count} chunks were taken in and their gradients count: {taken_in}")
            }
            (_, true) => format!("{taken} of {count} chunks were taken in: {taken_in}"),
        };
        if !self.doubtful.is_empty() {
            let doubtful: Vec<_> = self.doubtful.iter().map(|chunk| chunk + 1).collect();
            words.push_str(&format!("; it is not known whether these were: {}", list(&doubtful)));
        }
        let effect = match (taken, self.doubtful.is_empty()) {
            (0, true) => Effect::Nothing,
            (_, true) => Effect::Partial,
            (_, false) => Effect::Unknown,
        };
        Err(failure.error.prefixed(&format!("chunk {} of {count}", chunk + 1)).with_effect(effect, &words))
    }
}

impl Call {
    /// Submits all chunks of a batch within the turn.
    ///
    /// # Errors
    /// Where no form, or not the one in use, can say all of the data: nothing was sent. Where a chunk failed for good; the
    /// error says which chunks count at the server. Nothing is left that the server would wait for.
    pub(crate) async fn submit_batch(
        &self,
        state: &mut SequenceState,
        batch: &Batch,
    ) -> Result<Vec<PromiseRef>, Error> {
        self.settle(state, Patience::Full).await?;
        let fit = self.fit(batch).map_err(|invalid| Failure::unsent(invalid).into_error())?;
        let mut chunks = Chunks::of(batch, fit);
        let any_order = batch.chunks.len() > 1 && self.trainer.dispatch.takes_any_order();
        if !any_order || self.submit_in_any_order(state, &mut chunks).await.is_err() {
            chunks = Chunks::of(batch, fit);
            self.submit_in_order(state, &mut chunks).await;
        }
        chunks.finish()
    }

    /// Checks all of the data before any of it goes out.
    fn fit(&self, batch: &Batch) -> Result<Fit, InvalidInput> {
        let Trainer { wire_format, dispatch, .. } = &*self.trainer;
        match wire_format.fixed().or_else(|| dispatch.formats.proven()) {
            Some(form) => form.check(&batch.data).map(|()| Fit::Either),
            None => Fit::of(&batch.data),
        }
    }

    async fn submit_in_order(&self, state: &mut SequenceState, chunks: &mut Chunks<'_>) {
        for chunk in 0..chunks.promises.len() {
            let pass = chunks.batch.pass(chunk, chunks.fit);
            let outcome = self.submit_next(state, &pass, Patience::Full).await;
            let failed = outcome.is_err();
            chunks.note(chunk, outcome);
            if failed {
                return;
            }
        }
        self.settle_now(state).await;
    }

    /// Submits all chunks but the first at once, and the first when they are through.
    async fn submit_in_any_order(
        &self,
        state: &mut SequenceState,
        chunks: &mut Chunks<'_>,
    ) -> Result<(), OutOfOrder> {
        let Chunks { batch, fit, .. } = *chunks;
        let count = batch.chunks.len();
        let ids = state.draw(count as u64);
        let gate_id = ids.start;
        let patience = state.patience(self.started);
        let identity = |seq_id| Identity { seq_id, doubted: state.is_drawn_again(seq_id), patience };
        let (gate, others) = (identity(gate_id), ids.skip(1).map(identity).collect::<Vec<_>>());
        let outcomes =
            join_all(others.iter().zip(1..).map(|(identity, chunk)| async move {
                batch.pass(chunk, fit).submit(self, *identity).await
            }))
            .await;
        if let Some(expected) = in_order_only(&outcomes, gate_id, state) {
            self.trainer.dispatch.insists_on_order();
            state.adopt(expected);
            return Err(OutOfOrder);
        }
        let mut moved = Vec::new();
        for ((outcome, Identity { seq_id, .. }), chunk) in outcomes.into_iter().zip(others).zip(1..) {
            match &outcome {
                Ok(_) => state.accepted(seq_id),
                Err(failure) if is_used_up(failure, seq_id, state) => {
                    state.unknown(seq_id);
                    moved.push(chunk);
                    continue;
                }
                Err(failure) => state.failed(seq_id, failure),
            }
            chunks.note(chunk, outcome);
        }
        // Ids that an earlier batch was refused, and that the server has counted all the same.
        for chunk in moved {
            let outcome = self.submit_next(state, &batch.pass(chunk, fit), chunks.patience).await;
            chunks.note(chunk, outcome);
        }
        if chunks.failure.is_some() && !chunks.any_taken_in() {
            state.unsent(gate_id);
            return Ok(());
        }
        let gate = Identity { patience: chunks.patience.min(state.patience(self.started)), ..gate };
        let outcome = match batch.pass(0, fit).submit(self, gate).await {
            Err(failure) if is_used_up(&failure, gate_id, state) => {
                state.unknown(gate_id);
                self.submit_next(state, &batch.pass(0, fit), chunks.patience).await
            }
            Err(failure) => {
                state.failed(gate_id, &failure);
                Err(failure)
            }
            Ok(promise) => {
                state.accepted(gate_id);
                Ok(promise)
            }
        };
        chunks.note(0, outcome);
        self.settle_now(state).await;
        Ok(())
    }
}

/// The server takes sequence ids in order only; nothing of the batch was taken in.
struct OutOfOrder;

/// The id a server expects that refused every chunk because the first had not come.
fn in_order_only(
    outcomes: &[Result<PromiseRef, Failure>],
    gate_id: u64,
    state: &SequenceState,
) -> Option<u64> {
    let nothing_counts = |outcome: &Result<PromiseRef, Failure>| {
        outcome.as_ref().is_err_and(|failure| {
            let expected = failure.conflict.and_then(|conflict| conflict.expected);
            !failure.fate.may_count() || expected.is_some_and(|expected| expected <= gate_id)
        })
    };
    let expected = |outcome: &Result<PromiseRef, Failure>| {
        let expected = outcome.as_ref().err()?.conflict?.expected?;
        (expected <= gate_id && state.is_plausible(expected)).then_some(expected)
    };
    outcomes.iter().all(nothing_counts).then(|| outcomes.iter().find_map(expected)).flatten()
}

/// Whether the id of a chunk is used up by something else, on a word of the server that can be believed.
fn is_used_up(failure: &Failure, seq_id: u64, state: &SequenceState) -> bool {
    let expected = failure.conflict.and_then(|conflict| conflict.expected);
    failure.is_used_up(seq_id) && expected.is_none_or(|expected| state.is_plausible(expected))
}
