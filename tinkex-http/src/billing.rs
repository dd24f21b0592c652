//! Billing pauses: a 402 is waited out, with one log line a minute (PROTOCOL 7.4).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The pause between attempts while billing is paused.
const WAIT: Duration = Duration::from_secs(5);
/// At most one log line in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// A 402 this long after the last log line begins a new incident.
const NEW_INCIDENT: Duration = Duration::from_secs(300);

/// The incident that a client's calls share.
#[derive(Debug, Default)]
pub(crate) struct BillingPause(Mutex<Incident>);

#[derive(Debug, Default)]
struct Incident {
    first_seen: Option<Instant>,
    last_logged: Option<Instant>,
}

impl BillingPause {
    /// How long to wait before the next attempt; none where the incident is older than `longest`.
    pub(crate) fn pause(&self, longest: Duration, error: impl FnOnce() -> String) -> Option<Duration> {
        let now = Instant::now();
        let mut incident = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since_log = incident.last_logged.map(|at| now.saturating_duration_since(at));
        if since_log.is_some_and(|since| since > NEW_INCIDENT) {
            *incident = Incident::default();
        }
        let first = *incident.first_seen.get_or_insert(now);
        if now.saturating_duration_since(first) > longest {
            tracing::error!(
                "the billing pause has lasted longer than {} s. Error: {}",
                longest.as_secs_f64(),
                error()
            );
            return None;
        }
        if incident.last_logged.is_none() || since_log.is_some_and(|since| since > LOG_INTERVAL) {
            tracing::warn!("The job is paused due to billing status. Error: {}", error());
            incident.last_logged = Some(now);
        }
        Some(WAIT)
    }
}
