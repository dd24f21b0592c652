//! The making of a training client, once its builder is complete: a model is created or restored, waited for, asked
//! about, and put under a client (PROTOCOL 11, 14).

use std::sync::Arc;

use serde::de::DeserializeOwned;
use tinkex_future::{ByteBudget, PollPolicy, PromiseRef};
use tinkex_http::{ApiRequest, BackoffGate, HttpError, RetryPolicy};
use tinkex_observer::ObserverSet;
use tinkex_types::{
    ChunkLimits, ClientKind, CreateModelRequest, CreateModelResult, Promise, QueueStateObserver, RequestType,
};
use tokio::time::Instant;

use super::builder::PATIENCE;
use super::client::{Trainer, TrainingClient};
use super::dispatch::PollPlaces;
use super::fetch::read_json;
use super::sequence::SequenceState;
use super::submission::send;
use super::turns::Turns;
use super::wire_format::WireFormat;
use crate::holder::{Connection, Holder};
use crate::inflight::InflightEntry;
use crate::operation_span::OperationSpan;
use crate::submission_gate::Submitter;
use crate::{Error, endpoints, retrieve};

/// What every training client can be told at its making.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) wire_format: WireFormat,
    pub(super) retry_policy: Option<RetryPolicy>,
    pub(super) poll_policy: Option<PollPolicy>,
    pub(super) observers: Vec<Arc<dyn QueueStateObserver>>,
}

/// A training client in the making.
pub(super) struct Creation<'a> {
    pub(super) holder: Arc<Holder>,
    pub(super) connection: &'a Connection,
    /// The public method (PROTOCOL 5.1).
    pub(super) method: &'static str,
    options: Options,
    /// Those of the client to be; the creation has a logger of its own.
    observers: ObserverSet,
    span: &'a OperationSpan,
}

impl<'a> Creation<'a> {
    pub(super) fn new(
        holder: &Arc<Holder>,
        connection: &'a Connection,
        method: &'static str,
        mut options: Options,
        span: &'a OperationSpan,
    ) -> Self {
        let fresh = holder.settings.observers.for_another_client();
        let observers = std::mem::take(&mut options.observers);
        let observers = observers.into_iter().fold(fresh, ObserverSet::with_observer);
        Self { holder: Arc::clone(holder), connection, method, options, observers, span }
    }

    /// Creates a model and waits for it; gives its id.
    pub(super) async fn create_model(&self, body: &CreateModelRequest) -> Result<String, Error> {
        let step = self.step(RequestType::CreateModel, body.base_model.as_str());
        let request = ApiRequest::post_json("create_model", "/api/v1/create_model", body)?;
        let response = step.send(request).await?;
        match response.json::<Promise>() {
            Ok(accepted) => Ok(step.fetch::<CreateModelResult>(&accepted).await?.model_id),
            // Some servers are done at once.
            Err(error) => match response.json::<CreateModelResult>() {
                Ok(created) => {
                    step.entry.ends("ok");
                    Ok(created.model_id)
                }
                Err(_) => {
                    step.entry.ends("failed");
                    Err(error.into())
                }
            },
        }
    }

    /// One request of the creation. Its pauses are told as those of the creation of `id`.
    pub(super) fn step(&self, kind: RequestType, id: impl Into<Arc<str>>) -> Step<'_> {
        let id = id.into();
        Step {
            creation: self,
            kind,
            entry: self.holder.inflight.enter(kind, Arc::clone(&id)),
            observers: Arc::new(self.observers.for_another_client()),
            id,
            started: Instant::now(),
        }
    }

    /// The client of a model that exists, whose next request has the number `first`. Of the base model the server's word
    /// counts more than that of whoever asked for it, but some servers say nothing.
    pub(super) async fn client(
        self,
        model_id: String,
        first: u64,
        base_model: Option<String>,
    ) -> Result<TrainingClient, Error> {
        let Self { holder, connection, method, options, observers, span } = self;
        span.client_id(&model_id);
        let info = endpoints::get_info(&holder.http, &model_id, method).await?;
        let model_id: Arc<str> = model_id.into();
        let named = info.model_data.model_name.clone().or_else(|| info.model_name.clone());
        let observers = Arc::new(observers);
        let poller = retrieve::poller(
            &holder,
            connection,
            &observers,
            ClientKind::Training,
            &model_id,
            options.poll_policy,
            method,
        );
        let submit_policy = options
            .retry_policy
            .or_else(|| holder.settings.training_policy.clone())
            .unwrap_or_else(|| RetryPolicy::patient(PATIENCE).billing_pause(connection.billing_pause()));
        Ok(TrainingClient::new(Trainer {
            dispatch: Arc::clone(&connection.training),
            model_id,
            base_model: named.or(base_model).unwrap_or_default(),
            info,
            turns: Turns::new(SequenceState::starting_at(first), Arc::clone(&holder.closing)),
            poller,
            poll_places: PollPlaces::new(holder.settings.connection_places.clone()),
            observers,
            window: Arc::new(BackoffGate::labelled("training")),
            bytes: Arc::new(ByteBudget::new(connection.config.fwdbwd_dispatch_bytes_semaphore_size)),
            submit_policy,
            wire_format: options.wire_format,
            chunk_limits: ChunkLimits::from(&connection.config),
            compress: connection.config.proto_compress_fwdbwd,
            holder,
        }))
    }
}

/// One request of a creation, and the promise it gives.
pub(super) struct Step<'a> {
    creation: &'a Creation<'a>,
    kind: RequestType,
    id: Arc<str>,
    entry: InflightEntry,
    observers: Arc<ObserverSet>,
    started: Instant,
}

impl Step<'_> {
    pub(super) async fn send(&self, request: ApiRequest) -> Result<tinkex_http::ApiResponse, HttpError> {
        let Creation { holder, connection, method, options, .. } = self.creation;
        let submitter = Submitter {
            client: ClientKind::ModelCreation,
            client_id: Arc::clone(&self.id),
            kind: self.kind,
            observers: Arc::clone(&self.observers),
            row: Arc::clone(self.entry.row()),
        };
        let policy = options
            .retry_policy
            .clone()
            .or_else(|| holder.settings.training_policy.clone())
            .unwrap_or_else(|| RetryPolicy::default().billing_pause(connection.billing_pause()));
        let window = &connection.training.creation_window;
        let sent = send(holder, window, request, submitter, &policy, method, |_| false).await;
        sent.inspect_err(|_| self.entry.ends("failed"))
    }

    pub(super) async fn fetch<T: DeserializeOwned>(&self, accepted: &Promise) -> Result<T, Error> {
        let result = self.poll(accepted).await;
        self.entry.ends_with(&result);
        result
    }

    async fn poll<T: DeserializeOwned>(&self, accepted: &Promise) -> Result<T, Error> {
        let Creation { holder, connection, method, options, .. } = self.creation;
        let promise = PromiseRef::new(accepted.request_id.as_str(), self.kind)
            .with_create_roundtrip(Instant::now().saturating_duration_since(self.started));
        let row = self.entry.row();
        row.polling(Arc::clone(&promise.request_id));
        let poller = retrieve::poller(
            holder,
            connection,
            &self.observers,
            ClientKind::ModelCreation,
            &self.id,
            options.poll_policy,
            method,
        );
        let polled = poller.progress(Arc::clone(row) as _).poll(promise).await;
        self.creation.span.polled(row);
        let payload = polled?;
        read_json(&payload)
            .map_err(|error| Error::decode(error, &accepted.request_id, row.polls(), row.age()))
    }
}
