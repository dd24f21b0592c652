//! From a request to the handler of its route, and what all routes have in common: keys, strictness, bodies.

use http::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::refusal::Refusal;
use super::{KeyRule, Service, strict};
use crate::model::stable_hash;
use crate::{Received, Reply};

impl Service {
    pub(crate) async fn answer(&self, request: &Received) -> Reply {
        let reply = match self.dispatch(request).await {
            Ok(reply) => reply,
            Err(refusal) => refusal.into(),
        };
        self.compressed(reply)
    }

    async fn dispatch(&self, request: &Received) -> Result<Reply, Refusal> {
        let segments: Vec<String> = request.segments().map(percent_decoded).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        if segments == ["healthz"] {
            return only(Method::GET, request).map(|()| Reply::json(200, &json!({ "status": "ok" })));
        }
        self.check_key(request)?;
        let method = match segments.as_slice() {
            ["get_server_capabilities"] | ["samplers", _] => Method::GET,
            _ => Method::POST,
        };
        let checked = || {
            only(method, request)?;
            self.check_fields(request)
        };
        let newer = || {
            if self.dialect().newer_routes { Ok(()) } else { Err(not_found()) }
        };
        match segments.as_slice() {
            ["client", "config"] => checked().and_then(|()| self.client_config()),
            ["auth", "token"] => newer().and_then(|()| checked()).and_then(|()| self.auth_token()),
            ["client", "dynamic_config"] => checked().and_then(|()| self.dynamic_config()),
            ["get_server_capabilities"] => checked().map(|()| self.capabilities()),
            ["create_session"] => checked().and_then(|()| self.create_session(request)),
            ["session_heartbeat"] => checked().and_then(|()| self.heartbeat(request)),
            ["sessions", id, "finish"] => checked().and_then(|()| self.finish_session(id, request)),
            ["create_sampling_session"] => checked().and_then(|()| self.create_sampling_session(request)),
            ["samplers", id] => checked().and_then(|()| self.get_sampler(id)),
            ["asample"] => checked().and_then(|()| self.asample(request)),
            ["create_model"] => checked().and_then(|()| self.create_model(request)),
            ["get_info"] => checked().and_then(|()| self.get_info(request)),
            ["unload_model"] => checked().and_then(|()| self.unload_model(request)),
            ["forward_backward"] => checked().and_then(|()| self.forward_backward(request)),
            ["forward"] => checked().and_then(|()| self.forward(request)),
            ["optim_step"] => checked().and_then(|()| self.optim_step(request)),
            ["save_weights"] => checked().and_then(|()| self.save_weights(request)),
            ["save_weights_for_sampler"] => checked().and_then(|()| self.save_weights_for_sampler(request)),
            ["save_weights_external"] => {
                newer().and_then(|()| checked()).and_then(|()| self.save_weights_external(request))
            }
            ["create_custom_loss"] => {
                newer().and_then(|()| checked()).and_then(|()| self.create_custom_loss(request))
            }
            ["load_weights"] => checked().and_then(|()| self.load_weights(request)),
            ["weights_info"] => checked().and_then(|()| self.weights_info(request)),
            ["copy_weights"] => newer().and_then(|()| checked()).and_then(|()| self.copy_weights(request)),
            ["telemetry"] => checked().and_then(|()| self.telemetry(request)),
            ["retrieve_future"] => {
                checked()?;
                self.retrieve_future(request).await
            }
            ["join_sampling_session"] => {
                newer().and_then(|()| checked()).and_then(|()| self.join_sampling_session(request))
            }
            ["cancel_future"] => newer().and_then(|()| checked()).and_then(|()| self.cancel_future(request)),
            ["retrieve_futures"] => {
                newer()?;
                checked()?;
                self.retrieve_futures(request).await
            }
            _ => Err(not_found()),
        }
    }

    fn check_key(&self, request: &Received) -> Result<(), Refusal> {
        let rule = self.dialect().keys;
        if rule == KeyRule::Ignored {
            return Ok(());
        }
        let bearer = || request.header("authorization")?.strip_prefix("Bearer ");
        let key = match request.header("x-api-key") {
            None if rule == KeyRule::ApiKeyOrBearer => bearer(),
            key => key,
        };
        match key {
            None | Some("") => Err(Refusal::new(401, "the X-API-Key header is missing")),
            Some(key) if self.check_token(request, key)? => Ok(()),
            Some(key) => match &self.state().keys {
                Some(accepted) if !accepted.iter().any(|right| right == key) => {
                    Err(Refusal::new(403, "the API key is not valid"))
                }
                _ => Ok(()),
            },
        }
    }

    fn check_fields(&self, request: &Received) -> Result<(), Refusal> {
        if !self.dialect().refuse_unknown_fields {
            return Ok(());
        }
        match request.json().and_then(|body| strict::unknown_field(request.route(), body)) {
            None => Ok(()),
            Some(field) => {
                self.note_rejected(request);
                Err(Refusal::new(422, format!("{field}: extra inputs are not permitted")))
            }
        }
    }

    /// Carries out a request for an operation of a training run. A refusal is noted, so that nothing waits for its
    /// sequence id.
    pub(crate) fn ordered(
        &self,
        request: &Received,
        handler: impl FnOnce(&Received) -> Result<Reply, Refusal>,
    ) -> Result<Reply, Refusal> {
        handler(request).inspect_err(|_| self.note_rejected(request))
    }

    /// What a refused request does to its sequence id. Where the dialect says so, a sample that could not be decoded
    /// uses it up; in training, see [`TrainingOrder`](super::TrainingOrder).
    pub(crate) fn note_rejected(&self, request: &Received) {
        let Some(seq_id) = request.seq_id() else { return };
        if request.route() != "asample" {
            if let Some(model_id) = model_id(request) {
                self.state().refuse_seq_id(Instant::now(), &model_id, seq_id);
            }
            return;
        }
        if !self.dialect().rejected_requests_use_ids {
            return;
        }
        let mut state = self.state();
        if let Some(id) = request.text("sampling_session_id")
            && state.samplers.get(id).is_some_and(|sampler| !sampler.used.contains_key(&seq_id))
        {
            state.note_seq_id(id, seq_id, None);
        }
    }

    fn compressed(&self, reply: Reply) -> Reply {
        let Some(least) = self.dialect().zstd_from_bytes else { return reply };
        let is_json = reply.headers.get("content-type").is_some_and(|v| v.as_bytes().ends_with(b"json"));
        if !is_json || reply.body.len() < least {
            return reply;
        }
        match zstd::encode_all(reply.body.as_ref(), 0) {
            Ok(body) => Reply { body: body.into(), ..reply }.header("content-encoding", "zstd"),
            Err(_) => reply,
        }
    }

    /// The answer of a route whose success has no content to speak of.
    pub(crate) fn done(&self) -> Reply {
        match self.dialect().success.done {
            204 => Reply::empty(204),
            status => Reply::json(status, &json!({})),
        }
    }
}

/// The JSON body of a request.
pub(crate) fn body<T: DeserializeOwned>(request: &Received) -> Result<T, Refusal> {
    let bytes = request.decoded_body().map_err(|error| Refusal::new(400, error))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::new(422, format!("the body cannot be read: {error}")))
}

/// A hash of a JSON body that does not depend on the order of its members; `varying` ones are left out.
pub(crate) fn json_hash(request: &Received, varying: &[&str]) -> u64 {
    let mut body = request.json().cloned().unwrap_or_default();
    if let Some(members) = body.as_object_mut() {
        members.retain(|name, _| !varying.contains(&name.as_str()));
    }
    stable_hash(body.to_string().as_bytes())
}

/// The model an operation is for, in either encoding.
fn model_id(request: &Received) -> Option<String> {
    if !request.is_protobuf() {
        return request.text("model_id").map(str::to_owned);
    }
    let message: ModelIdOnly = prost::Message::decode(request.decoded_body().ok()?).ok()?;
    Some(message.model_id)
}

/// The first field of a `ForwardBackwardRequest`; the others are skipped.
#[derive(Clone, PartialEq, prost::Message)]
struct ModelIdOnly {
    #[prost(string, tag = "1")]
    model_id: String,
}

/// The JSON object a request brings.
pub(crate) fn object(request: &Received) -> Result<Value, Refusal> {
    body::<Value>(request).and_then(|value| {
        if value.is_object() { Ok(value) } else { Err(Refusal::new(422, "the body is no object")) }
    })
}

fn only(method: Method, request: &Received) -> Result<(), Refusal> {
    if request.method == method { Ok(()) } else { Err(Refusal::new(405, "Method Not Allowed")) }
}

fn not_found() -> Refusal {
    Refusal::new(404, "Not Found")
}

/// One path segment with its `%xx` undone; ids hold colons, which some clients escape.
fn percent_decoded(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match hex {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
