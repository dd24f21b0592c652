//! Listens to the queue states that polls observe: tells the operator about pauses, counts transitions, and passes
//! transitions on to user observers, and to whoever reads them as a stream, without letting those hurt a poll.
//!
//! A client holds one [`ObserverSet`]. The poller hands it every observation; the set records metrics first, then
//! runs the built-in [`QueueStateLogger`], then queues the transition for each user observer. The logger writes at
//! most one line per client and minute through [`tracing`] (level WARN, target `tinkex_observer`):
//!
//! ```text
//! Sampling is paused for <id>. Reason: concurrent LoRA rate limit hit
//! ```
//!
//! A pause on its way through a set:
//!
//! ```
//! use std::sync::{Arc, mpsc};
//! use std::time::Duration;
//! use tinkex_observer::{ClientKind, ObserverSet, QueueState, QueueStateChange, QueueStateObserver};
//!
//! let (seen, states) = mpsc::channel();
//! let set = ObserverSet::default()
//!     .with_observer(Arc::new(move |state: QueueState| { let _ = seen.send(state); }));
//!
//! let pause = QueueStateChange::new(QueueState::PausedCapacity, ClientKind::Sampling, "session-1");
//! set.on_observation(&pause); // logs "Sampling is paused for session-1. Reason: out of capacity"
//!
//! assert!(set.flush(Duration::from_secs(5)));
//! assert_eq!(states.try_recv(), Ok(QueueState::PausedCapacity));
//! ```
//!
//! The same as a stream, for those who would rather read than be called:
//!
//! ```
//! # use tinkex_observer::{ClientKind, ObserverSet, QueueState, QueueStateChange, QueueStateObserver};
//! # async fn example(set: ObserverSet) {
//! let mut states = set.queue_states();
//! while let Some(change) = states.next().await {
//!     println!("{} is now {}", change.client_id, change.state);
//! }
//! # }
//! ```
//!
//! The crate knows nothing about HTTP or about clients. Its only clock is tokio's, so its timing can be tested in
//! virtual time. It implements PROTOCOL 17.

mod debounce;
mod delivery;
mod fan_out;
mod grace;
mod logger;
mod policy;
#[cfg(feature = "prometheus")]
pub mod prometheus;
mod queue_states;
mod subscribers;
mod transitions;
mod wording;

pub use delivery::DEFAULT_QUEUE_CAPACITY;
pub use fan_out::ObserverSet;
pub use logger::{QueueStateLogger, log_state_change, should_log};
pub use policy::{DEFAULT_LOG_INTERVAL, LogPolicy, QueueLog};
pub use queue_states::{QUEUE_STATES_CAPACITY, QueueStates};
pub use subscribers::{Subscribers, Wakeups};
pub use tinkex_types::{ClientKind, QueueState, QueueStateChange, QueueStateObserver};
pub use transitions::TransitionMetrics;
pub use wording::{LogWording, reason_for_state};
