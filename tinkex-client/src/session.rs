//! A session on the server, kept alive by one heartbeat task of its own (PROTOCOL 10).
//!
//! Each session has its own task, so one that hangs cannot delay another (F-17). The task holds no client; it ends
//! when the session is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tinkex_http::HttpClient;
use tinkex_metrics::contract;
use tinkex_types::CreateSessionResponse;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::endpoints;
use crate::owned_task::OwnedTask;

/// The pause between two heartbeats.
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);
/// Without a successful heartbeat for longer than this, every failing one is a warning.
pub(crate) const HEARTBEAT_WARNING: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(crate) struct Session {
    id: Arc<str>,
    /// Numbers the sampling sessions of this session, from 0 (PROTOCOL 10.4).
    next_sampling_session: AtomicU64,
    /// Numbers the models of this session, from 0 (PROTOCOL 10.4).
    next_model: AtomicU64,
    heartbeat: OwnedTask,
}

impl Session {
    /// Takes charge of a session and begins its heartbeat.
    pub(crate) fn keep_alive(id: Arc<str>, http: HttpClient, runtime: &Handle) -> Self {
        let heartbeat = OwnedTask::spawn(runtime, beat(Arc::clone(&id), http));
        Self { id, next_sampling_session: AtomicU64::new(0), next_model: AtomicU64::new(0), heartbeat }
    }

    pub(crate) fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Ends the heartbeat.
    pub(crate) fn end(&self) {
        self.heartbeat.abort();
    }

    /// The number of the next sampling session.
    pub(crate) fn draw_sampling_session_seq_id(&self) -> u64 {
        self.next_sampling_session.fetch_add(1, Ordering::Relaxed)
    }

    /// The number of the next model.
    pub(crate) fn draw_model_seq_id(&self) -> u64 {
        self.next_model.fetch_add(1, Ordering::Relaxed)
    }
}

/// Passes on what the service wants the user to know.
pub(crate) fn announce(response: &CreateSessionResponse) {
    let said = |message: &Option<String>| message.clone().filter(|text| !text.is_empty());
    if let Some(message) = said(&response.info_message) {
        tracing::info!(session_id = response.session_id, "{message}");
    }
    if let Some(message) = said(&response.warning_message) {
        tracing::warn!(session_id = response.session_id, "{message}");
    }
    if let Some(message) = said(&response.error_message) {
        tracing::error!(session_id = response.session_id, "{message}");
    }
}

async fn beat(session_id: Arc<str>, http: HttpClient) {
    let mut last_success = Instant::now();
    let mut due = last_success + HEARTBEAT_INTERVAL;
    loop {
        tokio::time::sleep(HEARTBEAT_INTERVAL).await;
        let begun = Instant::now();
        contract::HEARTBEAT_LATENESS.record([], begun.saturating_duration_since(due));
        due = begun + HEARTBEAT_INTERVAL;
        match endpoints::heartbeat(&http, &session_id).await {
            Ok(()) => {
                contract::HEARTBEATS.increment(["ok"]);
                last_success = Instant::now();
            }
            Err(error) if error.status() == Some(410) => {
                contract::HEARTBEATS.increment(["gone"]);
                tracing::info!(%session_id, "the session is over; its heartbeat ends");
                return;
            }
            Err(error) => {
                contract::HEARTBEATS.increment(["failed"]);
                let silent = Instant::now().saturating_duration_since(last_success);
                if silent > HEARTBEAT_WARNING {
                    tracing::warn!(
                        %session_id,
                        "no successful heartbeat for {} s; the server may end the session: {error}",
                        silent.as_secs()
                    );
                } else {
                    tracing::debug!(%session_id, "a heartbeat failed: {error}");
                }
            }
        }
    }
}
