//! The task that sends the events of one session, batch after batch (PROTOCOL 20).

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tinkex_http::{AuthProvider, HttpClient};
use tinkex_metrics::contract;
use tinkex_types::{PROTOCOL_SDK_VERSION, TelemetryBatch, TelemetryEvent};
use tokio::runtime::Handle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::debounce::Debounce;
use super::queue::EventQueue;
use super::redaction::Secrets;
use super::report::Report;
use super::{Telemetry, TelemetrySettings, process};
use crate::owned_task::OwnedTask;
use crate::{Error, endpoints};

/// The pause between two flushes.
const FLUSH_INTERVAL: Duration = Duration::from_secs(10);
/// Events in a batch.
const BATCH: usize = 100;
/// How long one batch is tried, over all its attempts, so that it does not keep later ones for ever.
const BATCH_LIMIT: Duration = Duration::from_secs(60);
/// How long `close` waits until everything is sent.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Whose session it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportedSession {
    /// This holder's: its beginning and its end are reported.
    Own,
    /// Another process created it and reports those.
    Joined,
}

/// The telemetry of one session. Dropping it ends the task at once; what was not sent is lost.
#[derive(Debug)]
pub(crate) struct Reporter {
    telemetry: Telemetry,
    session: ReportedSession,
    began: Instant,
    task: Option<OwnedTask>,
}

impl Reporter {
    /// Begins to report, where `settings` say that anything is to be reported.
    pub(crate) fn start(
        settings: Option<&TelemetrySettings>,
        session: ReportedSession,
        session_id: &str,
        http: &HttpClient,
        credentials: &Arc<impl AuthProvider + 'static>,
        runtime: &Handle,
    ) -> Self {
        let began = Instant::now();
        let Some(settings) = settings else {
            return Self { telemetry: Telemetry::OFF, session, began, task: None };
        };
        let secrets = Secrets::default();
        for secret in &settings.secrets {
            secrets.learn_for_good(secret.expose_secret());
        }
        secrets.learn_for_good(credentials.identity().expose_secret());
        let queue = Arc::new(EventQueue::new(settings.clock.clone(), secrets));
        if session == ReportedSession::Own {
            queue.add(Report::SessionStart);
        }
        let courier = Courier {
            queue: Arc::clone(&queue),
            // Its retries must not use up what those of samples need.
            http: http.apart(),
            credentials: Arc::clone(credentials) as _,
            session_id: session_id.to_owned(),
            lost: Debounce::default(),
        };
        let task = OwnedTask::spawn(runtime, courier.run());
        Self { telemetry: Telemetry(Some(queue)), session, began, task: Some(task) }
    }

    /// Where failures are told.
    pub(crate) fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Of the session of another process: sends what is left, as [`close`](Self::close) does. The end of a session of one's
    /// own comes later.
    pub(crate) async fn close_if_joined(&self) {
        if self.session == ReportedSession::Joined {
            self.close().await;
        }
    }

    /// Reports the end of the session and waits until everything is sent, 5 s at most. Nothing is reported after that.
    pub(crate) async fn close(&self) {
        let (Some(queue), Some(task)) = (&self.telemetry.0, &self.task) else { return };
        let after = Instant::now().saturating_duration_since(self.began);
        queue.drain((self.session == ReportedSession::Own).then_some(Report::SessionEnd { after }));
        if timeout(DRAIN_LIMIT, queue.ended()).await.is_err() {
            tracing::debug!("not all telemetry could be sent within {} s", DRAIN_LIMIT.as_secs());
            task.abort();
            queue.end();
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if let Some(queue) = &self.telemetry.0 {
            queue.end();
        }
    }
}

/// Takes events from the queue to the server.
struct Courier {
    queue: Arc<EventQueue>,
    http: HttpClient,
    credentials: Arc<dyn AuthProvider>,
    session_id: String,
    lost: Debounce,
}

/// The server has no endpoint for telemetry.
struct NotWanted;

impl Courier {
    async fn run(mut self) {
        let mut ticks = interval_at(Instant::now() + FLUSH_INTERVAL, FLUSH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.queue.is_drained() {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.queue.urgent() => {}
            }
            if let Err(NotWanted) = self.flush().await {
                break;
            }
        }
        self.queue.end();
    }

    /// Sends everything that is queued.
    async fn flush(&mut self) -> Result<(), NotWanted> {
        loop {
            let events = self.queue.take(BATCH);
            if events.is_empty() {
                return Ok(());
            }
            self.send(events).await?;
        }
    }

    /// Sends a batch. One that is not accepted is lost.
    async fn send(&mut self, events: Vec<TelemetryEvent>) -> Result<(), NotWanted> {
        let batch = Underway(events.len() as u64);
        let mut error = match timeout(BATCH_LIMIT, self.post(events)).await {
            Ok(Ok(())) => {
                batch.arrived();
                return Ok(());
            }
            Ok(Err(Refusal::Call(error))) if matches!(error.status(), Some(404 | 405 | 501)) => {
                let status = error.status().unwrap_or_default();
                tracing::debug!("the server takes no telemetry (HTTP {status}); none is sent any more");
                return Err(NotWanted);
            }
            Ok(Err(Refusal::Call(error))) => error.to_string(),
            Ok(Err(Refusal::Answer)) => "the server did not say that it accepted them".to_owned(),
            Err(_) => format!("not accepted within {} s", BATCH_LIMIT.as_secs()),
        };
        if let Some(lost) = self.lost.note(batch.0) {
            // The server may have echoed more than the credential of the call.
            self.queue.secrets().redact_text(&mut error);
            tracing::warn!("dropped {lost} telemetry events: {error}");
        }
        Ok(())
    }

    async fn post(&self, mut events: Vec<TelemetryEvent>) -> Result<(), Refusal> {
        // The credential that the server may have echoed; where there is none, the call itself says so.
        if let Ok(Some(credential)) = self.credentials.credential().await
            && let Ok(text) = credential.to_str()
        {
            self.queue.secrets().learn(text);
        }
        for event in &mut events {
            self.queue.secrets().redact(event);
            // Long texts take long to search, and nobody's sample is to wait for that.
            tokio::task::yield_now().await;
        }
        let batch = TelemetryBatch {
            events,
            platform: process::platform().to_owned(),
            sdk_version: PROTOCOL_SDK_VERSION.to_owned(),
            session_id: self.session_id.clone(),
            process_uuid: process::process_uuid().to_owned(),
        };
        let answer = endpoints::telemetry(&self.http, &batch).await.map_err(Refusal::Call)?;
        if answer.status == "accepted" { Ok(()) } else { Err(Refusal::Answer) }
    }
}

/// Why a batch did not arrive.
enum Refusal {
    Call(Error),
    Answer,
}

/// The events of a batch, until it is known whether they arrived. Dropping it counts them as lost.
struct Underway(u64);

impl Underway {
    fn arrived(mut self) {
        contract::TELEMETRY_EVENTS.add(["sent"], self.0);
        self.0 = 0;
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        if self.0 > 0 {
            contract::TELEMETRY_EVENTS.add(["failed"], self.0);
        }
    }
}
