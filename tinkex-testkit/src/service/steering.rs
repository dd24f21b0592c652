//! What a test or a demonstration makes the service do beside behaving well: pauses, limits, failures, flags.

use std::time::Duration;

use serde_json::{Map, Value};
use tinkex_types::{ErrorCategory, QueueState};
use tokio::time::Instant;

use super::Service;
use super::promises::{Fate, Outcome, Queue};
use super::state::{Limit, State};
use super::training::checkpoints::Checkpoint;

impl Service {
    /// Pauses the queue for a length of time, or until [`Service::resume`]. Samples and training operations in
    /// progress and those accepted meanwhile are not worked on; their clients are told the state and the reason. A new pause replaces one that
    /// is on.
    pub fn pause(&self, state: QueueState, reason: Option<&str>, length: Option<Duration>) {
        let queue = Queue { state, reason: reason.map(str::to_owned) };
        self.state().pause(Instant::now(), queue, length);
        self.inner.changed.notify_waiters();
    }

    /// Ends a pause now. Work goes on with the work they had left.
    pub fn resume(&self) {
        self.state().release(Instant::now());
        self.inner.changed.notify_waiters();
    }

    /// Pauses the next promise alone, from its acceptance on, be it of a sample or of a training operation; later
    /// operations of the same run wait for it. Several calls concern several promises, in order of their acceptance;
    /// so do [`Service::fail_next`] and [`Service::expire_next`].
    pub fn pause_next(&self, state: QueueState, reason: Option<&str>, length: Duration) {
        let queue = Queue { state, reason: reason.map(str::to_owned) };
        self.state().fates.push_back(Fate::Paused(queue, length));
    }

    /// Lets the next promise be accepted and then fail. A training operation that fails so is not carried out.
    pub fn fail_next(&self, category: ErrorCategory, message: &str) {
        self.state().fates.push_back(Fate::Ends(Outcome::Failure(category, message.to_owned())));
    }

    /// Lets the next promise be accepted and then get lost: polls of it answer 410 once it would be ready. A training
    /// operation that is lost is not carried out.
    pub fn expire_next(&self) {
        self.state().fates.push_back(Fate::Ends(Outcome::Lost));
    }

    /// Answers 429 with `retry-after-ms` to new samples while this many are in progress. Training is not limited.
    pub fn limit_inflight(&self, samples: usize, retry_after: Duration) {
        self.state().limit = Some(Limit { samples, retry_after });
    }

    /// Takes [`Service::limit_inflight`] back.
    pub fn lift_limit(&self) {
        self.state().limit = None;
    }

    /// How long samples and training operations accepted from now on take.
    pub fn set_latency(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// How long polls that arrive from now on are held.
    pub fn set_hold(&self, hold: Duration) {
        self.state().hold = hold;
    }

    /// Results of more bytes than this are announced before they are sent, where the dialect does so.
    pub fn set_metadata_threshold(&self, bytes: usize) {
        self.state().metadata_threshold = bytes;
    }

    /// The keys that are right from now on; none for any.
    pub fn set_accepted_keys(&self, keys: Option<Vec<String>>) {
        self.state().keys = keys;
    }

    /// Replaces the flags of `client/config` (PROTOCOL 4.1). What is no object stands for no flags.
    pub fn set_client_config(&self, flags: &Value) {
        self.state().client_config = flags_of(flags);
    }

    /// Replaces the flags of `client/dynamic_config` (PROTOCOL 4.2). What is no object stands for no flags.
    pub fn set_dynamic_config(&self, flags: &Value) {
        self.state().dynamic_config = flags_of(flags);
    }

    /// What `load_weights` and `copy_weights` need as their access token from now on; none for nothing.
    pub fn set_weights_access_token(&self, token: Option<String>) {
        self.state().weights_access_token = token;
    }

    /// Registers a checkpoint, so that samplers and training runs can be made from its path. Its samplers have a
    /// model of their own, named by the path; its training runs start untrained.
    pub fn register_checkpoint(&self, path: &str, base_model: &str) {
        self.state().checkpoints.insert(path, Checkpoint::registered(base_model));
    }

    /// Forgets everything and starts again with the options the service was made with. Polls that are held end
    /// with 404.
    pub fn reset(&self) {
        *self.state() = State::new(self.options());
        self.inner.changed.notify_waiters();
    }
}

fn flags_of(flags: &Value) -> Map<String, Value> {
    flags.as_object().cloned().unwrap_or_default()
}
