//! Sampling from the weights as they are now, without a name for them (PROTOCOL 14).

use std::sync::Arc;
use std::time::Duration;

use tinkex_future::PollPolicy;
use tinkex_http::RetryPolicy;
use tinkex_types::{
    QueueStateObserver, RequestType, SamplerWeightsKind, SaveWeightsForSamplerRequest,
    SaveWeightsForSamplerResult,
};

use super::call::{self, Operation};
use super::client::TrainingClient;
use super::fetch::read_json;
use super::handle::TrainingHandle;
use super::save::save_for_sampler;
use super::submission::JsonRequest;
use crate::sampling::{SamplerOptions, StuckDetection};
use crate::{Error, SamplingClient, SamplingClientBuilder};

/// How the current weights are published, and what the sampling client of them is like.
#[derive(Debug, Default)]
#[must_use = "it is made by TrainingClient::sampling_snapshot"]
pub struct SamplingSnapshot {
    kind: SamplerWeightsKind,
    options: SamplerOptions,
}

impl SamplingSnapshot {
    /// Weights that stay as they are, and a sampling client with defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how the weights are published. Default [`Snapshot`](SamplerWeightsKind::Snapshot); with
    /// [`Inflight`](SamplerWeightsKind::Inflight) later publishes of the model reach the sampling client too.
    pub fn kind(mut self, kind: SamplerWeightsKind) -> Self {
        self.kind = kind;
        self
    }

    /// As [`SamplingClientBuilder::max_in_flight`].
    pub fn max_in_flight(mut self, samples: usize) -> Self {
        self.options.max_in_flight = Some(samples);
        self
    }

    /// As [`SamplingClientBuilder::retry_policy`].
    pub fn retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.options.retry_policy = Some(policy);
        self
    }

    /// As [`SamplingClientBuilder::poll_policy`].
    pub fn poll_policy(mut self, policy: PollPolicy) -> Self {
        self.options.poll_policy = Some(policy);
        self
    }

    /// As [`SamplingClientBuilder::progress_timeout`].
    pub fn progress_timeout(mut self, timeout: Duration) -> Self {
        self.options.stuck_detection = StuckDetection::After(timeout);
        self
    }

    /// As [`SamplingClientBuilder::without_stuck_detection`].
    pub fn without_stuck_detection(mut self) -> Self {
        self.options.stuck_detection = StuckDetection::Off;
        self
    }

    /// As [`SamplingClientBuilder::record_stability_info`].
    pub fn record_stability_info(mut self, record: bool) -> Self {
        self.options.record_stability_info = record;
        self
    }

    /// As [`SamplingClientBuilder::queue_state_observer`].
    pub fn queue_state_observer(mut self, observer: impl QueueStateObserver + 'static) -> Self {
        self.options.observers.push(Arc::new(observer));
        self
    }
}

impl TrainingClient {
    /// Publishes the weights as they are at this place among the operations, and gives a sampling client of them
    /// (PROTOCOL 14). The snapshot has no name and cannot be found again; see
    /// [`save_weights_for_sampler`](Self::save_weights_for_sampler) for one that can.
    ///
    /// # Errors
    /// Through the handle, as [`optim_step`](Self::optim_step).
    pub fn save_weights_and_get_sampling_client(&self) -> TrainingHandle<SamplingClient> {
        self.sampling_snapshot(SamplingSnapshot::new())
    }

    /// [`save_weights_and_get_sampling_client`](Self::save_weights_and_get_sampling_client), with options.
    ///
    /// # Errors
    /// Through the handle, as [`optim_step`](Self::optim_step); also
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a limit or a time-out of 0.
    pub fn sampling_snapshot(&self, snapshot: SamplingSnapshot) -> TrainingHandle<SamplingClient> {
        let SamplingSnapshot { kind, options } = snapshot;
        let method = "TrainingClient.save_weights_and_get_sampling_client";
        if let Err(problem) = options.check() {
            return call::refuse(&self.inner, method, problem);
        }
        let operation = Operation { method, kind: RequestType::SaveWeightsForSampler };
        call::start(&self.inner, operation, |call, ticket| async move {
            let trainer = Arc::clone(&call.trainer);
            // There has been a connection since before the client was made.
            let connection = trainer.holder.connected().ok_or_else(Error::task_ended)?;
            let promise = {
                let mut turn = ticket.turn().await?;
                // Drawn from the session's counter, once for all attempts and in turn (F-11).
                let session_seq_id = connection.session.draw_sampling_session_seq_id();
                let request = JsonRequest(|seq_id| {
                    let mut body =
                        SaveWeightsForSamplerRequest::unnamed(&*trainer.model_id, seq_id, session_seq_id);
                    body.weights_kind = kind;
                    save_for_sampler(&body)
                });
                call.submit(&mut turn, &request).await?
            };
            let saved: SaveWeightsForSamplerResult = call.fetch(promise, read_json).await?;
            let sampling_session_id = saved.sampling_session_id.ok_or_else(|| {
                Error::incomplete("the server saved the weights without a sampling session")
            })?;
            let builder = SamplingClientBuilder::with_options(Arc::clone(&trainer.holder), options);
            Ok(builder.assemble(connection, sampling_session_id.into(), trainer.base_model.clone(), 0))
        })
    }
}
