//! A hand-made client: one service, one session, one sampler, and the requests of the protocol.

use serde_json::{Value, json};
use tinkex_testkit::service::{Dialect, Service, ServiceOptions};
use tinkex_testkit::{Behaviour, Received, Reply};

pub(crate) const BASE: &str = "Qwen/Qwen3-8B";

pub(crate) struct Caller {
    pub(crate) service: Service,
    pub(crate) session: String,
    pub(crate) sampler: String,
}

impl Caller {
    /// A service of a dialect, with a session and a sampler of the base model.
    pub(crate) async fn new(dialect: Dialect) -> Self {
        Self::with_options(ServiceOptions::of(dialect)).await
    }

    pub(crate) async fn production() -> Self {
        Self::new(Dialect::production()).await
    }

    pub(crate) async fn with_options(options: ServiceOptions) -> Self {
        let mut caller =
            Self { service: Service::with_options(options), session: String::new(), sampler: String::new() };
        caller.session = text(&caller.create_session().await, "session_id");
        caller.sampler =
            text(&caller.create_sampler(0, json!({ "base_model": BASE })).await, "sampling_session_id");
        caller
    }

    pub(crate) async fn send(&self, request: Received) -> Reply {
        self.service.respond(&request.with_header("x-api-key", "tml-test")).await
    }

    pub(crate) async fn post(&self, route: &str, body: Value) -> Reply {
        self.send(Received::post(route, &body)).await
    }

    pub(crate) async fn get(&self, route: &str) -> Reply {
        self.send(Received::get(route)).await
    }

    pub(crate) async fn create_session(&self) -> Reply {
        let body =
            json!({ "tags": [], "user_metadata": {}, "sdk_version": "0.38.0", "type": "create_session" });
        self.post("create_session", body).await
    }

    pub(crate) async fn create_sampler(&self, seq_id: u64, model: Value) -> Reply {
        let body = json!({ "session_id": self.session, "sampling_session_seq_id": seq_id });
        self.post("create_sampling_session", merged(body, model)).await
    }

    /// The body of a small sample with changes.
    pub(crate) fn sample_body(&self, seq_id: u64, changes: Value) -> Value {
        let body = json!({
            "num_samples": 1,
            "prompt": { "chunks": [{ "tokens": tokens("The model "), "type": "encoded_text" }] },
            "sampling_params": { "max_tokens": 4, "temperature": 1.0, "top_k": -1, "top_p": 1.0 },
            "sampling_session_id": self.sampler,
            "seq_id": seq_id,
            "prompt_logprobs": false,
            "topk_prompt_logprobs": 0,
            "type": "sample",
        });
        merged(body, changes)
    }

    pub(crate) async fn asample(&self, seq_id: u64, changes: Value) -> Reply {
        self.post("asample", self.sample_body(seq_id, changes)).await
    }

    /// Submits a sample that must be accepted; its request id.
    pub(crate) async fn submit(&self, seq_id: u64, changes: Value) -> String {
        let reply = self.asample(seq_id, changes).await;
        assert!(reply.status.is_success(), "{} {:?}", reply.status, reply.to_json());
        text(&reply, "request_id")
    }

    pub(crate) async fn retrieve(&self, request_id: &str) -> Reply {
        self.retrieve_with(request_id, json!({}), "application/json").await
    }

    pub(crate) async fn retrieve_with(&self, request_id: &str, changes: Value, accept: &str) -> Reply {
        let body = merged(json!({ "request_id": request_id, "allow_metadata_only": true }), changes);
        self.send(Received::post("retrieve_future", &body).with_header("accept", accept)).await
    }

    /// Submits a sample and fetches its JSON result.
    pub(crate) async fn sample(&self, seq_id: u64, changes: Value) -> Value {
        let reply = self.retrieve(&self.submit(seq_id, changes).await).await;
        assert_eq!(reply.status, 200, "{:?}", reply.to_json());
        reply.to_json().unwrap()
    }

    /// One `retrieve_futures` poll of the creator of the sampling session.
    pub(crate) async fn poll(&self, prev_cursor: u64, changes: Value) -> Reply {
        let body = json!({
            "target": { "type": "sampling_session", "sampling_session_id": self.sampler, "cloned_sampler_id": 0 },
            "prev_cursor": prev_cursor,
            "retrieved_request_ids": [],
        });
        self.post("retrieve_futures", merged(body, changes)).await
    }
}

pub(crate) fn tokens(text: &str) -> Vec<i32> {
    text.bytes().map(i32::from).collect()
}

/// A prompt of text.
pub(crate) fn prompt(text: &str) -> Value {
    json!({ "chunks": [{ "tokens": tokens(text) }] })
}

/// Members of `changes` replace those of `body`; null removes; objects are merged.
pub(crate) fn merged(mut body: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().cloned().unwrap_or_default() {
        match value {
            Value::Null => {
                body.as_object_mut().unwrap().remove(&name);
            }
            Value::Object(_) if body[&name].is_object() && name != "prompt" => {
                body[&name] = merged(body[&name].take(), value)
            }
            value => body[&name] = value,
        }
    }
    body
}

/// A text member of a JSON reply.
pub(crate) fn text(reply: &Reply, name: &str) -> String {
    let body = reply.to_json().unwrap_or_default();
    body[name].as_str().unwrap_or_else(|| panic!("no {name} in {} {body}", reply.status)).to_owned()
}

/// The status and the detail of a refusal.
pub(crate) fn refusal(reply: &Reply) -> (u16, String) {
    (reply.status.as_u16(), text(reply, "detail"))
}
