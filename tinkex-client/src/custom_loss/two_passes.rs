//! A training step with a loss that is computed here: a forward pass, the loss, and a backward pass, all in one turn
//! (PROTOCOL 13.1, F-12).
//!
//! The turn is held from the forward to the backward submission, so nothing that was called later can come in between,
//! an optimizer step least of all. Sequence ids are drawn as each pass is sent, so a loss that fails leaves none unused.

use std::any::Any;
use std::sync::Arc;

use tinkex_future::PromiseRef;
use tinkex_types::{Datum, ForwardBackwardOutput, InvalidInput, LossFn, LossFnConfig, RequestType};

use super::any::{AnyCustomLoss, ComputedLoss, Form};
use super::handle::EvaluatedHere;
use super::output::CustomLossOutput;
use super::passes;
use crate::training::{Batch, Call, Operation, SequenceState, refuse, start};
use crate::{Effect, Error, TrainingClient, TrainingHandle};

const OPERATION: Operation =
    Operation { method: "TrainingClient.forward_backward_custom", kind: RequestType::ForwardBackward };

impl TrainingClient {
    /// [`forward_backward`](Self::forward_backward) with a loss of one's own: a [`CustomLossFn`](crate::CustomLossFn),
    /// such as a closure or one of [`losses`](crate::losses), or a `&`[`CustomLossHandle`](crate::CustomLossHandle).
    ///
    /// The log-probabilities of the targets are computed by a forward pass, the loss and its gradient here, and the
    /// gradient is handed to the server by a backward pass (PROTOCOL 13.1). Only `target_tokens`, `weights` and
    /// provenance are sent; other loss inputs stay here. The loss runs on a thread where blocking is allowed, and must not
    /// wait for operations of the same client: they come after it. Both passes take the one place that the call has
    /// among the operations of the client, so `optim_step` may be called right away. A loss that the server knows is
    /// computed there in a single pass instead (PROTOCOL 13.3), which gives the same.
    ///
    /// The result is that of the backward pass, and among its metrics are those of the loss, `loss:sum`, which is the
    /// loss, and `surrogate_loss:sum`, what the server made of it. (A loss that the server computes has no surrogate.)
    ///
    /// Dropping the handle detaches the step like any other: both passes are still made.
    ///
    /// # Errors
    /// Through the handle. [`InvalidInput`](crate::ErrorKind::InvalidInput), before anything is sent: for data that
    /// lack `target_tokens` or what the loss needs, and for a handle of another session.
    /// [`CustomLoss`](crate::ErrorKind::CustomLoss) where the loss fails, panics, or returns gradients that are not
    /// finite or do not fit. Otherwise as [`forward_backward`](Self::forward_backward).
    ///
    /// If a step of two passes fails before its backward pass has been accepted, the operations that were called behind
    /// it in the meantime fail as [`Poisoned`](crate::ErrorKind::Poisoned), and nothing is sent for them: an optimizer
    /// step would miss this gradient. Operations that are called later work as usual. (In the reference SDK the client is
    /// of no use from then on, PROTOCOL 13.2.) What is refused at the call poisons nothing, as nothing is behind it yet;
    /// nor does a loss that the server computes, which fails like any other pass.
    pub fn forward_backward_custom(
        &self,
        data: impl Into<Vec<Datum>>,
        loss: impl Into<AnyCustomLoss>,
    ) -> TrainingHandle<ForwardBackwardOutput> {
        let data = data.into();
        let begun = match loss.into().0 {
            Form::Computed(loss) => self.two_passes(data, loss),
            Form::Handle(handle) => {
                let session = self.inner.holder.connected().map(|connection| &**connection.session.id());
                let checked = handle.check_session(session.unwrap_or_default());
                let checked = checked.and_then(|()| handle.loss().check_data(&data));
                checked.and_then(|()| match handle.loss_id() {
                    Some(loss_id) => {
                        let config = LossFnConfig::new().set("loss_id", loss_id);
                        Ok(self.pass(data, LossFn::Custom.with_config(config), OPERATION))
                    }
                    None => self.two_passes(data, Box::new(EvaluatedHere(Arc::clone(handle.loss())))),
                })
            }
        };
        begun.unwrap_or_else(|invalid| refuse(&self.inner, OPERATION.method, invalid))
    }

    fn two_passes(
        &self,
        data: Vec<Datum>,
        loss: Box<dyn ComputedLoss>,
    ) -> Result<TrainingHandle<ForwardBackwardOutput>, InvalidInput> {
        let limits = &self.inner.chunk_limits;
        let forward = Batch::new(passes::forward_data(&data)?, LossFn::CrossEntropy.into(), true, limits)?;
        loss.check(&data)?;
        Ok(start(&self.inner, OPERATION, |mut call, ticket| async move {
            let mut turn = ticket.turn().await?;
            let (promises, custom) = match submit(&mut call, &mut turn, forward, data, loss).await {
                Ok(submitted) => submitted,
                Err(error) => {
                    turn.fail_queued(&error);
                    return Err(error);
                }
            };
            drop(turn);
            let backward = call.fetch_batch(promises).await?;
            passes::result(backward, custom).map_err(|error| {
                Error::from(error).with_effect(Effect::TakenIn, "its gradient counts at the server")
            })
        }))
    }
}

/// Makes the forward pass, computes the loss, and submits the backward pass.
async fn submit(
    call: &mut Call,
    state: &mut SequenceState,
    forward: Batch,
    data: Vec<Datum>,
    loss: Box<dyn ComputedLoss>,
) -> Result<(Vec<PromiseRef>, CustomLossOutput), Error> {
    let without_gradient = |error: Error| error.with_effect(Effect::Nothing, "no gradient was added");
    call.operation.kind = RequestType::Forward;
    let output = async {
        let promises = call.submit_batch(state, &forward).await?;
        // Also where nobody waits for the result of the step: the backward pass depends on it.
        call.while_open(call.poll_batch(promises)).await
    };
    let output =
        output.await.map_err(|error| without_gradient(error.prefixed("forward pass of the custom loss")))?;
    let chunks = forward.chunks().to_vec();
    drop(forward);
    let runtime = &call.trainer.holder.runtime;
    // What the loss traces belongs to the operation.
    let span = tracing::Span::current();
    let computed = runtime.spawn_blocking(move || span.in_scope(|| compute(data, &output, loss))).await;
    let computed = computed.unwrap_or_else(|ended| match ended.try_into_panic() {
        Ok(panic) => Err(Error::custom_loss(format!("the loss panicked: {}", message_of(&*panic)))),
        Err(_) => Err(Error::task_ended()),
    });
    let (data, custom) = computed.map_err(without_gradient)?;
    call.operation.kind = RequestType::ForwardBackward;
    // The boundaries of the forward pass hold, even where the estimates have changed.
    let backward = Batch::with_chunks(data, chunks, LossFn::CrossEntropy.into(), false)?;
    let promises = call.submit_batch(state, &backward).await;
    let promises = promises.map_err(|error| error.prefixed("backward pass of the custom loss"))?;
    Ok((promises, custom))
}

/// The loss, and the data of the backward pass.
fn compute(
    data: Vec<Datum>,
    forward: &ForwardBackwardOutput,
    loss: Box<dyn ComputedLoss>,
) -> Result<(Vec<Datum>, CustomLossOutput), Error> {
    let logprobs = passes::logprobs(forward, &data)?;
    let output = loss.evaluate(&data, &logprobs).map_err(Error::custom_loss)?;
    output.check(&logprobs).map_err(Error::custom_loss)?;
    let backward = passes::backward_data(&data, &logprobs, &output.gradients)?;
    Ok((backward, output))
}

/// What a panic said.
fn message_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it gave no reason")
}
