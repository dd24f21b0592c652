//! The poller's seams over HTTP: one promise, or the announcements of a sampler (PROTOCOL 16.1, 16.6).

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use tinkex_future::{
    Answer, Ask, ManyAsk, ManyOutcome, Outcome, PollPolicy, Poller, RawResponse, Retrieve, RetrieveMany,
};
use tinkex_http::{
    ApiRequest, ApiResponse, AuthError, CallClass, HttpClient, HttpError, HttpErrorKind, RetryPolicy,
};
use tinkex_observer::ObserverSet;
use tinkex_types::{
    ClientKind, FuturesTarget, InvalidInput, QueueState, RetrieveFutureRequest, RetrieveFuturesRequest,
};

use crate::endpoints::on_behalf_of;
use crate::holder::{Connection, Holder};
use crate::telemetry::Telemetry;

/// The time a long poll may take; servers hold it for about 30 s.
const LONG_POLL: Duration = Duration::from_secs(45);
const REQUEST_TYPE: HeaderName = HeaderName::from_static("x-tinker-request-type");
const ITERATION: HeaderName = HeaderName::from_static("x-tinker-request-iteration");
const ROUNDTRIP_TIME: HeaderName = HeaderName::from_static("x-tinker-create-promise-roundtrip-time");
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Asks `retrieve_future` once.
#[derive(Clone, Debug)]
pub(crate) struct HttpRetrieve {
    http: HttpClient,
    telemetry: Telemetry,
    method: &'static str,
}

impl HttpRetrieve {
    /// `method` is the public method that polls, for the service's statistics.
    pub(crate) fn new(holder: &Holder, method: &'static str) -> Self {
        Self { http: holder.http.clone(), telemetry: holder.telemetry().clone(), method }
    }

    fn request(&self, ask: &Ask<'_>) -> Result<ApiRequest, InvalidInput> {
        let body = RetrieveFutureRequest {
            request_id: ask.request_id,
            allow_metadata_only: ask.allow_metadata_only,
        };
        let request = long_poll("retrieve_future", "/api/v1/retrieve_future", &body, LONG_POLL)?
            .accept(if ask.request_type.prefers_protobuf() { PROTOBUF } else { JSON })
            .header(REQUEST_TYPE, HeaderValue::from_static(ask.request_type.as_str()))
            .header(ITERATION, HeaderValue::from(ask.iteration));
        let request = on_behalf_of(request, self.method);
        // Digits and a dot: the general formatting of floating-point numbers takes ten times as long.
        let roundtrip = ask
            .create_roundtrip
            .map(|took| HeaderValue::try_from(format!("{}.{:06}", took.as_secs(), took.subsec_micros())));
        Ok(match roundtrip {
            Some(Ok(value)) => request.header(ROUNDTRIP_TIME, value),
            _ => request,
        })
    }
}

impl Retrieve for HttpRetrieve {
    async fn retrieve(&self, ask: &Ask<'_>) -> Outcome {
        let request = match self.request(ask) {
            Ok(request) => request,
            Err(error) => return Outcome::Unreachable { timed_out: false, error: Box::new(error) },
        };
        let answer = self.http.send(&request).await;
        self.telemetry.polled(ask, &answer);
        outcome(answer, without_echoes)
    }
}

/// A poller for one client: its observers are told, its policy holds, or the service's, or the server's flags.
pub(crate) fn poller(
    holder: &Holder,
    connection: &Connection,
    observers: &Arc<ObserverSet>,
    client: ClientKind,
    client_id: &Arc<str>,
    policy: Option<PollPolicy>,
    method: &'static str,
) -> Poller<HttpRetrieve> {
    let policy = policy
        .or(holder.settings.poll_policy)
        .unwrap_or_else(|| PollPolicy::default().billing_pause(connection.billing_pause()));
    let poller = Poller::new(HttpRetrieve::new(holder, method))
        .policy(policy)
        .observer(Arc::clone(observers) as _)
        .client(client, Arc::clone(client_id))
        .payload_budget(Arc::clone(&connection.payload_budget));
    match holder.settings.seed {
        Some(seed) => poller.seed(seed),
        None => poller,
    }
}

/// Asks `retrieve_futures` once, for one sampler.
#[derive(Debug)]
pub(crate) struct HttpRetrieveMany {
    http: HttpClient,
    sampling_session_id: Arc<str>,
    cloned_sampler_id: u64,
}

impl HttpRetrieveMany {
    pub(crate) fn new(http: HttpClient, sampling_session_id: Arc<str>, cloned_sampler_id: u64) -> Self {
        Self { http, sampling_session_id, cloned_sampler_id }
    }
}

impl RetrieveMany for HttpRetrieveMany {
    async fn retrieve_many(&self, ask: &ManyAsk) -> ManyOutcome {
        let body = RetrieveFuturesRequest {
            target: FuturesTarget::SamplingSession {
                sampling_session_id: self.sampling_session_id.to_string(),
                cloned_sampler_id: self.cloned_sampler_id,
            },
            prev_cursor: u64::try_from(ask.prev_cursor).unwrap_or_default(),
            timeout: ask.ack_only.then_some(0.0),
            retrieved_request_ids: ask.retrieved_request_ids.iter().map(ToString::to_string).collect(),
        };
        match long_poll("retrieve_futures", "/api/v1/retrieve_futures", &body, ask.client_timeout()) {
            // Of announcements nothing is shown.
            Ok(request) => outcome(self.http.send(&request).await, raw),
            Err(error) => Outcome::Unreachable { timed_out: false, error: Box::new(error) },
        }
    }
}

/// A long poll is one attempt: repeating it is the poller's business.
fn long_poll(
    operation: &'static str,
    path: &'static str,
    body: &impl serde::Serialize,
    timeout: Duration,
) -> Result<ApiRequest, InvalidInput> {
    let request = ApiRequest::post_json(operation, path, body)?;
    Ok(request.class(CallClass::LongPoll).timeout(timeout).policy(RetryPolicy::none()).any_status())
}

/// Whether the service does not take the credential, which ends a poll as a 401 to the poll itself does.
pub(crate) fn is_refused(error: &HttpError) -> bool {
    let auth = error.source().and_then(|cause| cause.downcast_ref::<AuthError>());
    error.kind() == HttpErrorKind::Auth && auth.is_some_and(|auth| auth.status() == Some(401))
}

/// The answer of a poll as it came, but for the words in it that people read: the message of a failure and the reason of a
/// pause may echo what was sent. A result stays as the server sent it. Error bodies are scrubbed already.
fn without_echoes(response: ApiResponse) -> RawResponse {
    let is_protobuf = response.media_type().is_some_and(|kind| kind.contains("protobuf"));
    if !response.status.is_success() || is_protobuf {
        return raw(response);
    }
    // What is no object is no result: errors quote its beginning, and nothing else is done with it.
    if !response.body.trim_ascii_start().starts_with(b"{") {
        return raw(response.scrubbed());
    }
    // Results of training are long: a search in text is fast, and what is no text is looked at closely.
    let says_nothing =
        |text: &str| !["error", "failed", "queue_state"].iter().any(|word| text.contains(word));
    if std::str::from_utf8(&response.body).is_ok_and(says_nothing) {
        return raw(response);
    }
    match Answer::of(Outcome::Response(raw(response.clone()))) {
        Answer::Failed { category, .. } => {
            // Before the message is made, which cuts long texts: the half of a credential cannot be found.
            let mut said: Map<String, Value> = serde_json::from_slice(&response.body).unwrap_or_default();
            said.retain(|name, _| matches!(name.as_str(), "error" | "message" | "detail"));
            said.values_mut().for_each(|words| show(&response, words));
            said.insert("status".to_owned(), "failed".into());
            said.insert("category".to_owned(), category.as_str().into());
            RawResponse { body: Value::from(said).to_string().into(), ..raw(response) }
        }
        Answer::Pending { queue: Some(queue), hint, .. } => {
            let reason = queue.reason.map(|reason| response.shown(reason));
            let state = match queue.state {
                QueueState::Unknown(text) => response.shown(text.as_ref().to_owned()),
                known => known.as_str().to_owned(),
            };
            let said = json!({ "type": "try_again", "queue_state": state, "queue_state_reason": reason });
            RawResponse { body: said.to_string().into(), retry_after: hint, ..raw(response) }
        }
        _ => raw(response),
    }
}

/// Makes texts such that they may be shown.
fn show(response: &ApiResponse, words: &mut Value) {
    match words {
        Value::String(text) => *text = response.shown(std::mem::take(text)),
        Value::Array(list) => list.iter_mut().for_each(|words| show(response, words)),
        Value::Object(members) => members.values_mut().for_each(|words| show(response, words)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn raw(response: ApiResponse) -> RawResponse {
    RawResponse {
        status: response.status.as_u16(),
        content_type: response.media_type(),
        retry_after: response.retry_after,
        body: response.body,
    }
}

fn outcome(result: Result<ApiResponse, HttpError>, read: fn(ApiResponse) -> RawResponse) -> Outcome {
    match result {
        Ok(response) => Outcome::Response(read(response)),
        Err(error) if is_refused(&error) => {
            let detail = json!({ "detail": error.message() });
            Outcome::Response(RawResponse::json(401, detail.to_string()))
        }
        Err(error) => {
            Outcome::Unreachable { timed_out: error.kind() == HttpErrorKind::Timeout, error: Box::new(error) }
        }
    }
}
