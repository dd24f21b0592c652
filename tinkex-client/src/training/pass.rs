//! One forward/backward request: a chunk of a batch, in one of two forms (PROTOCOL 12.1, 23).

use http::HeaderValue;
use tinkex_future::PromiseRef;
use tinkex_http::ApiRequest;
use tinkex_types::{Datum, ForwardBackwardBody, InvalidInput, Loss};

use super::call::Call;
use super::submission::{Failure, Fate, Identity, Outgoing, submit_once};
use super::wire_format::{Form, Trial, may_want_json, wants_no_json};

/// A forward or forward/backward pass over some data.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub(super) data: &'a [Datum],
    pub(super) loss: &'a Loss,
    pub(super) forward_only: bool,
    /// The estimated size of the request, in bytes (PROTOCOL 12.5).
    pub(super) bytes: u64,
}

impl Outgoing for Pass<'_> {
    async fn submit(&self, call: &Call, identity: Identity) -> Result<PromiseRef, Failure> {
        let attempt = Attempt { pass: *self, call, identity };
        let trainer = &call.trainer;
        let form = match trainer.wire_format.fixed() {
            Some(form) => Ok(form),
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
    /// not taken, and once for all attempts. Writing runs at about a gigabyte a second, a few milliseconds for a chunk of
    /// the usual limit, and so stays on this task.
    async fn submit(&self, form: Form, is_final: fn(u16) -> bool) -> Result<PromiseRef, Failure> {
        let _room = self.call.trainer.dispatch.bytes.acquire(self.pass.bytes).await;
        let request = self.request(form).map_err(Failure::unsent)?;
        submit_once(self.call, request, self.identity, is_final).await
    }

    fn request(&self, form: Form) -> Result<ApiRequest, InvalidInput> {
        const FORWARD_BACKWARD: &str = "/api/v1/forward_backward";
        const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        let Pass { data, loss, forward_only, .. } = self.pass;
        let trainer = &self.call.trainer;
        let model_id = &trainer.model_id;
        let body = ForwardBackwardBody { model_id, seq_id: self.identity.seq_id, data, loss, forward_only };
        let operation = if forward_only { "forward" } else { "forward_backward" };
        Ok(match form {
            Form::Protobuf => {
                let request =
                    ApiRequest::post_bytes(operation, FORWARD_BACKWARD, body.to_protobuf()?, PROTOBUF);
                if trainer.compress { request.compressed() } else { request }
            }
            Form::Json => {
                let path = if forward_only { "/api/v1/forward" } else { FORWARD_BACKWARD };
                ApiRequest::post_bytes(operation, path, body.to_json()?, JSON)
            }
        })
    }

    /// Submits to a server of which nothing is known: as protobuf, and where that may not have been understood as JSON.
    /// A server that answers both with a 500 is in trouble, and may be one that always answers protobuf so: JSON goes on,
    /// since one that takes no JSON will say so, and the next pass finds out again.
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
        if !first.status().is_some_and(may_want_json) {
            return Err(first);
        }
        self.identity.doubted = true;
        let second = match self.submit(Form::Json, |status| status == 500).await {
            Ok(promise) => {
                trial.proven(Form::Json);
                return Ok(promise);
            }
            Err(failure) if failure.status() == Some(500) => match self.submit(Form::Json, |_| false).await {
                Ok(promise) => return Ok(promise),
                Err(again) => again.after(&failure),
            },
            Err(failure) => failure,
        };
        if second.conflict.is_some() {
            // Whoever knows the id has read the body. But the id may be used up by the protobuf body: then the server
            // gives its promise again.
            if first.fate.may_count() && second.is_used_up(self.identity.seq_id) {
                match self.submit(Form::Protobuf, may_want_json).await {
                    Ok(promise) => {
                        trial.proven(Form::Protobuf);
                        return Ok(promise);
                    }
                    Err(again) if again.conflict.is_some() => trial.proven(Form::Protobuf),
                    Err(_) => trial.proven(Form::Json),
                }
                return Err(second.after(&first));
            }
            trial.proven(Form::Json);
            return Err(second);
        }
        if second.status().is_some_and(wants_no_json) {
            if first.status() != Some(500) {
                if second.status() == Some(415) {
                    trial.proven(Form::Protobuf);
                }
                return Err(first);
            }
            return match self.submit(Form::Protobuf, |_| false).await {
                Ok(promise) => {
                    trial.proven(Form::Protobuf);
                    Ok(promise)
                }
                Err(again) => Err(again.after(&first)),
            };
        }
        Err(Failure {
            fate: worse(first.fate, second.fate),
            error: first.error.noted(&format!("sent as JSON instead: {}", second.error)),
            conflict: None,
        })
    }
}

impl Failure {
    /// This failure, of a request that had failed before under the same id.
    fn after(self, earlier: &Self) -> Self {
        Self { fate: worse(earlier.fate, self.fate), ..self }
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
