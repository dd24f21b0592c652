//! The observer seam: what pollers tell, and who listens (PROTOCOL 17.2).

use std::fmt;
use std::sync::Arc;

use crate::{QueueState, RequestType};

/// Which kind of client an observation belongs to; it decides the wording of log lines (PROTOCOL 17.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientKind {
    /// A sampling client; its id is a sampling session id.
    Sampling,
    /// A training client; its id is a model id.
    Training,
    /// The creation of a model; its id is a base model or a model id.
    ModelCreation,
}

impl ClientKind {
    /// A label from a closed set, for metrics and log fields.
    pub fn label(self) -> &'static str {
        match self {
            Self::Sampling => "sampling",
            Self::Training => "training",
            Self::ModelCreation => "model_creation",
        }
    }
}

/// One observation of a queue state, made by one poll (PROTOCOL 17.2).
///
/// A poller reports every observation; [`QueueStateChange::is_transition`] tells those that changed the state or
/// the reason, per promise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStateChange {
    /// The state now. Where the promise has just completed this is [`QueueState::Active`].
    pub state: QueueState,
    /// The state observed before on the same promise; none on the first observation.
    pub previous: Option<QueueState>,
    /// The server's own words, where it gave any.
    pub reason: Option<Arc<str>>,
    /// The kind of client that polls.
    pub client: ClientKind,
    /// The sampling session id or model id; `unknown` where there is none.
    pub client_id: Arc<str>,
    /// The promise that was polled.
    pub request_id: Arc<str>,
    /// What the promise is for.
    pub request_type: RequestType,
    transition: bool,
}

impl QueueStateChange {
    /// An observation that counts as a transition.
    pub fn new(state: QueueState, client: ClientKind, client_id: impl Into<Arc<str>>) -> Self {
        Self {
            state,
            previous: None,
            reason: None,
            client,
            client_id: client_id.into(),
            request_id: Arc::default(),
            request_type: RequestType::Sample,
            transition: true,
        }
    }

    /// Sets the server's reason. Blank text counts as none.
    #[must_use]
    pub fn with_reason(mut self, reason: Option<&str>) -> Self {
        self.reason = reason.filter(|r| !r.trim().is_empty()).map(Arc::from);
        self
    }

    /// Sets the promise the observation was made on.
    #[must_use]
    pub fn with_request(mut self, request_id: impl Into<Arc<str>>, request_type: RequestType) -> Self {
        self.request_id = request_id.into();
        self.request_type = request_type;
        self
    }

    /// Sets the state before, and whether this observation is a transition.
    #[must_use]
    pub fn with_previous(mut self, previous: Option<QueueState>, transition: bool) -> Self {
        self.previous = previous;
        self.transition = transition;
        self
    }

    /// True where the state or the reason differs from the observation before on the same promise. The first
    /// state a server reports counts; the end of a promise that was never paused does not.
    pub fn is_transition(&self) -> bool {
        self.transition
    }
}

/// Listens to the queue states that polls observe (S2-03, PROTOCOL 17.2).
///
/// Implement one method. [`on_queue_state_change`](Self::on_queue_state_change) gets the state alone,
/// [`on_change`](Self::on_change) everything known about the transition. Both are called on transitions only.
/// [`on_observation`](Self::on_observation) is called on every poll answer that carries a state and decides what
/// reaches the other two; the built-in pause logger overrides it.
///
/// A closure `Fn(QueueState)` is an observer too. The clients run user observers apart from the poll, behind a
/// bounded queue, so a slow or panicking one cannot hurt it; called directly by a bare poller, be quick.
pub trait QueueStateObserver: Send + Sync {
    /// The state changed.
    fn on_queue_state_change(&self, state: QueueState) {
        let _ = state;
    }

    /// The state changed, with its context.
    fn on_change(&self, change: &QueueStateChange) {
        self.on_queue_state_change(change.state.clone());
    }

    /// A poll observed a state, changed or not.
    fn on_observation(&self, observation: &QueueStateChange) {
        if observation.is_transition() {
            self.on_change(observation);
        }
    }
}

impl<F: Fn(QueueState) + Send + Sync> QueueStateObserver for F {
    fn on_queue_state_change(&self, state: QueueState) {
        self(state);
    }
}

impl fmt::Debug for dyn QueueStateObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueueStateObserver")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// S2-03: a one-argument callback is an observer, and only transitions reach it.
    #[test]
    fn a_closure_sees_transitions_only() {
        let seen = Mutex::new(Vec::new());
        let observer = |state: QueueState| seen.lock().unwrap().push(state);
        let change = QueueStateChange::new(QueueState::PausedCapacity, ClientKind::Sampling, "s");
        observer.on_observation(&change);
        observer.on_observation(&change.clone().with_previous(Some(QueueState::PausedCapacity), false));
        assert_eq!(*seen.lock().unwrap(), [QueueState::PausedCapacity]);
    }

    /// A blank reason is no reason (QS-7).
    #[test]
    fn a_blank_reason_is_none() {
        let change = QueueStateChange::new(QueueState::Active, ClientKind::Sampling, "s");
        assert_eq!(change.clone().with_reason(Some("  ")).reason, None);
        assert_eq!(change.with_reason(Some("busy")).reason.as_deref(), Some("busy"));
    }
}
