//! The submission of one request that has its place: under one sequence id, or under another where the server counts
//! differently.
//!
//! | what became of the submission | the id |
//! |---|---|
//! | accepted | used up |
//! | never delivered, or refused for good by a 4xx or 501, and no earlier attempt is in doubt | drawn again |
//! | the answer lost or unreadable, a 5xx or a time-out to the end | unknown: settled before the next operation |
//! | 409, and the server expects another id, plausibly | the count is adopted, and the request sent under it |

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tinkex_future::PromiseRef;
use tinkex_http::{
    ApiRequest, ApiResponse, BackoffGate, CallClass, Delivery, HttpError, Refusal, RetryPolicy,
};
use tinkex_types::{ClientKind, Promise};
use tokio::time::Instant;

use super::call::Call;
use super::client::Trainer;
use super::sequence::SequenceState;
use crate::endpoints::on_behalf_of;
use crate::holder::Holder;
use crate::submission_gate::{SubmissionGate, Submitter, expected_seq_id};
use crate::{Effect, Error};

/// How often a request is sent again because the server counts sequence ids differently.
const ADOPTIONS: u32 = 3;

/// The most retries of a brief submission.
const BRIEF_RETRIES: u32 = 2;

/// The most that a brief submission is repeated for, and that it waits for a billing pause to end.
const BRIEF: Duration = Duration::from_secs(30);

/// A request that carries a sequence id.
pub(super) trait Outgoing: Sync {
    fn submit(
        &self,
        call: &Call,
        identity: Identity,
    ) -> impl Future<Output = Result<PromiseRef, Failure>> + Send;
}

/// Under which sequence id a request goes out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub(super) seq_id: u64,
    /// The id was sent before, so a 409 may mean that it is used up.
    pub(super) doubted: bool,
    pub(super) patience: Patience,
}

/// How long a submission is worth repeating; the least comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Patience {
    /// A few attempts, because the user is waiting to hear of a failure.
    Brief,
    /// As long as the policy says.
    Full,
}

impl Patience {
    fn policy(self, policy: &RetryPolicy) -> RetryPolicy {
        let policy = policy.clone();
        if self == Self::Full {
            return policy;
        }
        let retries = policy.max_retries.map_or(BRIEF_RETRIES, |most| most.min(BRIEF_RETRIES));
        let elapsed = policy.max_elapsed.map_or(BRIEF, |most| most.min(BRIEF));
        let pause = policy.billing_pause.min(BRIEF);
        policy.max_retries(retries).max_elapsed(elapsed).billing_pause(pause)
    }
}

/// A JSON request, made for a sequence id.
pub(super) struct JsonRequest<F>(pub(super) F);

impl<F> Outgoing for JsonRequest<F>
where
    F: Fn(u64) -> Result<ApiRequest, Error> + Sync,
{
    async fn submit(&self, call: &Call, identity: Identity) -> Result<PromiseRef, Failure> {
        let request = (self.0)(identity.seq_id).map_err(Failure::unsent)?;
        submit_once(call, request, identity, |_| false).await
    }
}

/// What is known of the sequence id of a failed submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It never left this process.
    Unsent,
    /// The server refused it.
    Refused,
    /// It may have been taken in.
    Unknown,
}

/// A 409 that is about the sequence id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conflict {
    /// The id the server expects instead, where it says so.
    pub(super) expected: Option<u64>,
    /// Whether the id was sent before.
    pub(super) doubted: bool,
}

/// A submission that failed for good.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) fate: Fate,
    pub(super) conflict: Option<Conflict>,
    /// It was given up only after all that the policy allows, so that others may end the same way. A few attempts that
    /// came to nothing say no such thing of the server.
    pub(super) is_outage: bool,
}

impl Failure {
    /// A request that could not be made.
    pub(super) fn unsent(error: impl Into<Error>) -> Self {
        Self { error: error.into(), fate: Fate::Unsent, conflict: None, is_outage: false }
    }

    fn of(error: HttpError, Identity { seq_id, doubted, patience }: Identity) -> Self {
        let fate = match error.delivery() {
            Delivery::NeverSent => Fate::Unsent,
            Delivery::Rejected => Fate::Refused,
            Delivery::Uncertain => Fate::Unknown,
        };
        let expected = expected_seq_id(error.body());
        let conflict = match (error.status(), expected) {
            (Some(409), expected) if expected != Some(seq_id) => Some(Conflict { expected, doubted }),
            _ => None,
        };
        let error = match conflict {
            Some(Conflict { expected: Some(expected), .. }) => {
                Error::sequence_conflict(error, seq_id, expected)
            }
            _ => error.into(),
        };
        let is_outage = patience == Patience::Full && error.is_retryable();
        Self { error, fate, conflict, is_outage }
    }

    /// Whether the submission failed only because its id is used up, and by another request than this one.
    pub(super) fn is_used_up(&self, seq_id: u64) -> bool {
        self.fate == Fate::Refused
            && self.conflict.is_some_and(|conflict| match conflict.expected {
                Some(expected) => expected > seq_id,
                None => conflict.doubted,
            })
    }

    pub(super) fn status(&self) -> Option<u16> {
        self.error.status()
    }

    /// The error, with what the failure has left at the server.
    pub(super) fn into_error(self) -> Error {
        match self.fate {
            Fate::Unsent => self.error.with_effect(Effect::Nothing, "nothing of it has reached the server"),
            Fate::Refused => self.error.with_effect(Effect::Nothing, "nothing of it counts at the server"),
            Fate::Unknown => {
                self.error.with_effect(Effect::Unknown, "it may have been taken in all the same")
            }
        }
    }
}

/// Whether a refusal is about the sequence id and final for it.
fn ends_by_conflict(refusal: &Refusal<'_>, Identity { seq_id, doubted, .. }: Identity) -> bool {
    refusal.status == 409
        && match expected_seq_id(refusal.body) {
            Some(expected) => expected != seq_id,
            None => doubted,
        }
}

/// Sends a request on behalf of `method` until it is accepted or the policy gives up. Pauses that refusals tell of
/// reach the submitter's observers; a 429 closes `window`. No attempt is begun once the service is closed and the time
/// for what was called before is over.
pub(super) async fn send(
    holder: &Holder,
    window: &Arc<BackoffGate>,
    request: ApiRequest,
    submitter: Submitter,
    policy: &RetryPolicy,
    method: &'static str,
    is_final: impl Fn(&Refusal<'_>) -> bool + Send + Sync + 'static,
) -> Result<ApiResponse, HttpError> {
    submitter.row.submitting();
    let gate = Arc::new(SubmissionGate::new(Arc::clone(window), submitter, is_final));
    let request = request.class(CallClass::Upload).policy(policy.clone()).gate(Arc::clone(&gate) as _);
    let over = pin!(holder.closing.over());
    let response = holder.http.send_until(&on_behalf_of(request, method), over).await?;
    gate.accepted();
    Ok(response)
}

/// Submits a request of a call under the sequence id it carries. `is_final` adds to the statuses that end it.
pub(super) async fn submit_once(
    call: &Call,
    request: ApiRequest,
    identity: Identity,
    is_final: fn(u16) -> bool,
) -> Result<PromiseRef, Failure> {
    let is_final =
        move |refusal: &Refusal<'_>| ends_by_conflict(refusal, identity) || is_final(refusal.status);
    let response = call
        .send_until(request, identity.patience, is_final)
        .await
        .map_err(|error| Failure::of(error, identity))?;
    // Whatever answers 2xx without a promise need not be the server.
    let unreadable = |error: HttpError| Failure { fate: Fate::Unknown, ..Failure::unsent(error) };
    let accepted: Promise = response.json().map_err(unreadable)?;
    Ok(call.promise(&accepted))
}

impl Call {
    fn submitter(&self) -> Submitter {
        Submitter {
            client: ClientKind::Training,
            client_id: Arc::clone(&self.trainer.model_id),
            kind: self.operation.kind,
            observers: Arc::clone(&self.trainer.observers),
            row: Arc::clone(&self.row),
        }
    }

    /// Sends a request of this call that has no sequence id.
    pub(super) async fn send(&self, request: ApiRequest) -> Result<ApiResponse, HttpError> {
        self.send_until(request, Patience::Full, |_| false).await
    }

    async fn send_until(
        &self,
        request: ApiRequest,
        patience: Patience,
        is_final: impl Fn(&Refusal<'_>) -> bool + Send + Sync + 'static,
    ) -> Result<ApiResponse, HttpError> {
        let Trainer { holder, window, submit_policy, .. } = &*self.trainer;
        let policy = patience.policy(submit_policy);
        let request = if patience == Patience::Brief { request.deadline(BRIEF) } else { request };
        send(holder, window, request, self.submitter(), &policy, self.operation.method, is_final).await
    }

    pub(super) fn promise(&self, accepted: &Promise) -> PromiseRef {
        PromiseRef::new(accepted.request_id.as_str(), self.operation.kind)
            .with_create_roundtrip(Instant::now().saturating_duration_since(self.started))
    }

    /// Submits a request in its turn, under the next sequence id, once earlier ones are settled.
    pub(super) async fn submit(
        &self,
        state: &mut SequenceState,
        outgoing: &impl Outgoing,
    ) -> Result<PromiseRef, Error> {
        self.settle(state, Patience::Full).await?;
        let promise = self.submit_next(state, outgoing, Patience::Full).await.map_err(Failure::into_error)?;
        if state.first_open().is_some() {
            // An id was given up on the word of a server that did not say which one it expects.
            self.settle_now(state).await;
        }
        Ok(promise)
    }

    /// Submits a request under the next sequence id. Where the server counts differently its count is adopted, unless
    /// the request itself may have been counted. It is repeated with at most this patience.
    pub(super) async fn submit_next(
        &self,
        state: &mut SequenceState,
        outgoing: &impl Outgoing,
        most: Patience,
    ) -> Result<PromiseRef, Failure> {
        let mut given_up = Vec::new();
        let mut adoptions = 0;
        loop {
            let seq_id = state.draw(1).start;
            let doubted = state.is_drawn_again(seq_id);
            let patience = most.min(state.patience(self.started));
            let failure = match outgoing.submit(self, Identity { seq_id, doubted, patience }).await {
                Ok(promise) => {
                    state.accepted(seq_id);
                    return Ok(promise);
                }
                Err(failure) => failure,
            };
            let counted = match failure.conflict {
                Some(Conflict { expected: Some(expected), .. }) if state.is_plausible(expected) => {
                    state.adopt(expected);
                    failure.fate == Fate::Unknown && expected > seq_id
                }
                // Used up, it seems. Should it not be, it is settled like any other unknown id.
                Some(Conflict { expected: None, doubted: true }) => {
                    state.unknown(seq_id);
                    given_up.push(seq_id);
                    failure.fate == Fate::Unknown
                }
                conflict => {
                    state.failed(seq_id, &failure);
                    if conflict.is_some() {
                        // A new id meets a conflict too, so it is about something else: the others are as good as before.
                        given_up.iter().rev().for_each(|id| state.refused(*id));
                    }
                    return Err(failure);
                }
            };
            adoptions += 1;
            if counted || adoptions > ADOPTIONS {
                return Err(failure);
            }
            tracing::debug!(seq_id, "the server counts sequence ids differently: {}", failure.error);
        }
    }
}
