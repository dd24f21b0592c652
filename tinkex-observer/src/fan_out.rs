//! The fan-out: what a client gives its pollers as the one observer.

use std::sync::Arc;
use std::time::Duration;

use tinkex_types::{QueueStateChange, QueueStateObserver};

use crate::delivery::{DEFAULT_QUEUE_CAPACITY, Mailbox};
use crate::{QueueLog, QueueStateLogger, QueueStates, Subscribers, TransitionMetrics};

/// Metrics, the built-in pause logger and any number of user observers behind one observer.
///
/// Per observation the order is: [`TransitionMetrics`], then the [`QueueStateLogger`] (both at once, on the calling
/// thread), then the user observers (S2-16), then the streams that [`queue_states`](Self::queue_states) gave. User observers are added to the logger, never instead of it; only
/// [`QueueLog::Off`] silences it (C-6, S2-19).
///
/// A user observer gets transitions only, in order, through
/// [`on_change`](QueueStateObserver::on_change) on an OS thread of its own that starts with the first transition.
/// What it does there cannot hurt the poll (S2-20):
///
/// * A panic is caught (unless the program aborts on panic). One warning per observer is logged; later transitions
///   are still given to it.
/// * A slow one has a bounded queue ([`DEFAULT_QUEUE_CAPACITY`]). With the queue full, a transition is dropped,
///   counted in [`OBSERVER_DROPPED`](tinkex_metrics::contract::OBSERVER_DROPPED), and one warning per observer is logged.
/// * The thread has no tokio runtime. An observer that wants to spawn tasks brings a runtime handle.
///
/// Dropping the set returns at once. Transitions already queued are still delivered, then the threads end.
///
/// The logger's clock belongs to one client. Where several clients share user observers, derive their sets with
/// [`for_another_client`](Self::for_another_client), so that they share the threads but not the clock.
#[derive(Debug)]
pub struct ObserverSet {
    log: QueueLog,
    logger: Option<QueueStateLogger>,
    users: Vec<Arc<Mailbox>>,
    /// Who reads the transitions of this set.
    subscribers: Subscribers,
    /// Who reads those of every set derived from the same one.
    family: Arc<Subscribers>,
}

impl ObserverSet {
    /// A set without user observers.
    pub fn new(log: impl Into<QueueLog>) -> Self {
        let log = log.into();
        let logger = match &log {
            QueueLog::On(policy) => Some(QueueStateLogger::new(policy.clone())),
            QueueLog::Off => None,
        };
        Self { log, logger, users: Vec::new(), subscribers: Subscribers::default(), family: Arc::default() }
    }

    /// Adds a user observer with room for [`DEFAULT_QUEUE_CAPACITY`] waiting transitions.
    #[must_use]
    pub fn with_observer(self, observer: Arc<dyn QueueStateObserver>) -> Self {
        self.with_bounded_observer(observer, DEFAULT_QUEUE_CAPACITY)
    }

    /// Adds a user observer with room for `capacity` waiting transitions: at least 1, at most 65,536. The room is
    /// reserved when the first transition comes.
    #[must_use]
    pub fn with_bounded_observer(mut self, observer: Arc<dyn QueueStateObserver>, capacity: usize) -> Self {
        self.users.push(Arc::new(Mailbox::new(observer, capacity)));
        self
    }

    /// A set with the same log switch and the same user observers (their queues and threads are shared), and a
    /// logger of its own that has not logged yet (S2-25). Its transitions are also those of
    /// [`queue_states_of_all`](Self::queue_states_of_all).
    #[must_use]
    pub fn for_another_client(&self) -> Self {
        let family = Arc::clone(&self.family);
        Self { users: self.users.clone(), family, ..Self::new(self.log.clone()) }
    }

    /// The transitions that this set is told of from now on, as a stream. It ends when the set is dropped.
    pub fn queue_states(&self) -> QueueStates {
        self.subscribers.subscribe(None)
    }

    /// The transitions that this set and all sets are told of that were derived with
    /// [`for_another_client`](Self::for_another_client), of each other and of this one, whenever they were made. The
    /// stream ends when the last of them is dropped.
    pub fn queue_states_of_all(&self) -> QueueStates {
        self.family.subscribe(None)
    }

    /// The log switch this set was made with.
    pub fn log(&self) -> &QueueLog {
        &self.log
    }

    /// The built-in logger; none where the log is off.
    pub fn logger(&self) -> Option<&QueueStateLogger> {
        self.logger.as_ref()
    }

    /// Waits until every transition queued before this call was delivered to every user observer; true where it was.
    ///
    /// This **blocks the calling thread**, for up to `timeout` (in real time) per user observer. It is meant for
    /// tests and for the end of a program. Called by a user observer, it cannot succeed.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> bool {
        // Not `all`: after one that blocks, the others are still waited for.
        self.users.iter().filter(|user| !user.flush(timeout)).count() == 0
    }

    fn dispatch(&self, seen: &QueueStateChange, transition: bool) {
        if transition {
            TransitionMetrics.on_change(seen);
        }
        if let Some(logger) = &self.logger {
            logger.on_observation(seen);
        }
        if transition {
            self.users.iter().for_each(|user| user.post(seen));
            drop(self.subscribers.publish(seen));
            drop(self.family.publish(seen));
        }
    }
}

impl Default for ObserverSet {
    /// The built-in logger with its default policy, no user observers.
    fn default() -> Self {
        Self::new(QueueLog::default())
    }
}

impl QueueStateObserver for ObserverSet {
    fn on_change(&self, change: &QueueStateChange) {
        self.dispatch(change, true);
    }

    fn on_observation(&self, observation: &QueueStateChange) {
        self.dispatch(observation, observation.is_transition());
    }
}
