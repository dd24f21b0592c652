//! One forward/backward request: a chunk of a batch, in one of two forms (PROTOCOL 12.1, 23).

use std::sync::Arc;

use http::HeaderValue;
use tinkex_future::PromiseRef;
use tinkex_http::ApiRequest;
use tinkex_types::{Datum, ForwardBackwardBody, InvalidInput, Loss};

use super::call::Call;
use super::submission::{Failure, Fate, Identity, Outgoing, Patience, submit_once};
use super::wire_format::{Fit, Form, Trial, may_want_json, refuses_json, wants_no_json};
use crate::{Error, ErrorKind};

/// Estimated bytes up to which a protobuf body is written at once: about a millisecond's work.
const WRITTEN_AT_ONCE: u64 = 1 << 20;

/// How much longer JSON, or compressed protobuf, takes to write than protobuf.
const SLOWER: u64 = 8;

/// A forward or forward/backward pass over some data.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub(super) data: &'a [Datum],
    pub(super) loss: &'a Loss,
    pub(super) forward_only: bool,
    /// The estimated size of the request, in bytes (PROTOCOL 12.5).
    pub(super) bytes: u64,
    /// In which forms the whole batch can be sent, where the server's is not known.
    pub(super) fit: Fit,
}

impl Outgoing for Pass<'_> {
    async fn submit(&self, call: &Call, identity: Identity) -> Result<PromiseRef, Failure> {
        let attempt = Attempt { pass: *self, call, identity };
        let trainer = &call.trainer;
        let form = match trainer.wire_format.fixed() {
            Some(form) => Ok(form),
            // Says nothing of what the server makes of protobuf.
            None if self.fit == Fit::OnlyJson => Ok(Form::Json),
            None => trainer.dispatch.formats.form().await,
        };
        match form {
            Ok(form) => attempt.submit(form, |_| false).await,
            Err(trial) => attempt.find_out(trial).await,
        }
    }
}

/// A pass under a sequence id.
struct Attempt<'a> {
    pass: Pass<'a>,
    call: &'a Call,
    identity: Identity,
}

impl Attempt<'_> {
    /// Submits in one form. The request is written when the budget lets it in, so that the memory of waiting ones is
    /// not taken, and once for all attempts.
    async fn submit(&self, form: Form, is_final: fn(u16) -> bool) -> Result<PromiseRef, Failure> {
        let _room = self.call.trainer.bytes.acquire(self.pass.bytes).await;
        let request = self.request(form).await?;
        submit_once(self.call, request, self.identity, is_final).await
    }

    /// Writes the request. All chunks of a batch are polled by one task, so what takes a while is done elsewhere.
    async fn request(&self, form: Form) -> Result<ApiRequest, Failure> {
        let Pass { data, loss, forward_only, bytes, .. } = self.pass;
        let trainer = &self.call.trainer;
        let seq_id = self.identity.seq_id;
        let compress = trainer.compress && form == Form::Protobuf;
        let slow = compress || form == Form::Json;
        if bytes.saturating_mul(if slow { SLOWER } else { 1 }) <= WRITTEN_AT_ONCE {
            let model_id = &*trainer.model_id;
            let body = ForwardBackwardBody { model_id, seq_id, data, loss, forward_only };
            return write(form, &body, compress).map_err(Failure::unsent);
        }
        // The clones share the buffers.
        let (model_id, data, loss) = (Arc::clone(&trainer.model_id), data.to_vec(), loss.clone());
        let written = trainer.holder.runtime.spawn_blocking(move || {
            let body =
                ForwardBackwardBody { model_id: &model_id, seq_id, data: &data, loss: &loss, forward_only };
            write(form, &body, compress)
        });
        written.await.map_err(|_| Failure::unsent(Error::task_ended()))?.map_err(Failure::unsent)
    }

    /// Submits to a server of which nothing is known: as protobuf, and where that may not have been understood as JSON.
    /// A server that answers both with a 500 is in trouble, and may be one that always answers protobuf so: JSON goes on,
    /// since one that takes no JSON will say so, and the next pass finds out again.
    ///
    /// Both go out under one sequence id, and any of them may count: every failure tells of the worst.
    async fn find_out(mut self, trial: Trial<'_>) -> Result<PromiseRef, Failure> {
        let first = match self.submit(Form::Protobuf, may_want_json).await {
            Ok(promise) => {
                trial.proven(Form::Protobuf);
                return Ok(promise);
            }
            Err(failure) => failure,
        };
        if first.conflict.is_some() {
            // Whoever knows the id has read the body.
            trial.proven(Form::Protobuf);
            return Err(first);
        }
        let Some(status) = first.status().filter(|status| may_want_json(*status)) else { return Err(first) };
        let in_trouble = status == 500;
        self.identity.doubted = true;
        if !self.pass.fit.allows_json_after(status) {
            const WHY: &str = "it was not sent as JSON instead, which cannot say all of the data";
            return if in_trouble { self.go_on(trial, first).await } else { Err(first.noted(WHY)) };
        }
        let second = match self.submit(Form::Json, |status| status == 500).await {
            Ok(promise) => {
                trial.json_instead(status);
                return Ok(promise);
            }
            Err(failure) if failure.status() == Some(500) => match self.submit(Form::Json, |_| false).await {
                Ok(promise) => return Ok(promise),
                Err(again) => again.after(&failure),
            },
            Err(failure) => failure,
        };
        if let Some(conflict) = second.conflict {
            if conflict.expected.is_some_and(|expected| expected < self.identity.seq_id) {
                // Whoever knows the id has read the body, and has taken in nothing under this id yet.
                trial.proven(Form::Json);
                return Err(second);
            }
            // The conflict may be about the protobuf body, so it says nothing of JSON.
            if first.fate.may_count() {
                // The id may be used up by the protobuf body: then the server gives its promise again.
                match self.submit(Form::Protobuf, may_want_json).await {
                    Ok(promise) => {
                        trial.proven(Form::Protobuf);
                        return Ok(promise);
                    }
                    Err(again) if again.conflict.is_some() => trial.proven(Form::Protobuf),
                    Err(_) => {}
                }
            }
            return Err(second.after(&first));
        }
        let unwritten = second.error.kind() == ErrorKind::InvalidInput;
        if in_trouble && (unwritten || second.status().is_some_and(refuses_json)) {
            if !unwritten && !second.status().is_some_and(wants_no_json) {
                // JSON was read and its content refused, which protobuf is not likely to change.
                self.identity.patience = Patience::Brief;
            }
            return self.go_on(trial, second.after(&first)).await;
        }
        if !in_trouble && second.status().is_some_and(wants_no_json) {
            if second.status() == Some(415) {
                trial.proven(Form::Protobuf);
            }
            return Err(first);
        }
        let words = format!("sent as JSON instead: {}", second.error);
        // Only JSON was repeated for as long as the policy allows.
        Err(Failure { is_outage: second.is_outage, ..first.after(&second) }.noted(&words))
    }

    /// Repeats a protobuf body that met a 500, since JSON is out of the question: as usual, now that this is known.
    async fn go_on(self, trial: Trial<'_>, earlier: Failure) -> Result<PromiseRef, Failure> {
        match self.submit(Form::Protobuf, |_| false).await {
            Ok(promise) => {
                trial.proven(Form::Protobuf);
                Ok(promise)
            }
            Err(again) => Err(again.after(&earlier).noted(&format!("before that: {}", earlier.error))),
        }
    }
}

fn write(form: Form, body: &ForwardBackwardBody<'_>, compress: bool) -> Result<ApiRequest, InvalidInput> {
    const FORWARD_BACKWARD: &str = "/api/v1/forward_backward";
    const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    let operation = if body.forward_only { "forward" } else { "forward_backward" };
    Ok(match form {
        Form::Protobuf => {
            let request = ApiRequest::post_bytes(operation, FORWARD_BACKWARD, body.to_protobuf()?, PROTOBUF);
            if compress { request.compressed() } else { request }
        }
        Form::Json => {
            let path = if body.forward_only { "/api/v1/forward" } else { FORWARD_BACKWARD };
            ApiRequest::post_bytes(operation, path, body.to_json()?, JSON)
        }
    })
}

impl Failure {
    /// This failure, of a request that had failed before under the same id.
    fn after(self, earlier: &Self) -> Self {
        Self { fate: worse(earlier.fate, self.fate), ..self }
    }

    fn noted(self, words: &str) -> Self {
        Self { error: self.error.noted(words), ..self }
    }
}

/// What is known of an id that went out twice.
fn worse(first: Fate, second: Fate) -> Fate {
    match (first, second) {
        (Fate::Unknown, _) | (_, Fate::Unknown) => Fate::Unknown,
        (Fate::Refused, _) | (_, Fate::Refused) => Fate::Refused,
        _ => Fate::Unsent,
    }
}
