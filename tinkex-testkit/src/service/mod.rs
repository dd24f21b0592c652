//! The stateful service: sessions, samplers, training runs, checkpoints, promises, polls, configuration and telemetry,
//! behind the routes of the protocol (PROTOCOL 4, 10–17, 20, 22).
//!
//! A [`Service`] is a [`Behaviour`]: put it behind a fake server and any client of the protocol can talk to it. Its
//! samples come from the [language model](crate::model) of this crate and its training runs are
//! [learners](crate::learner), so logprobs and gradients are computed, losses fall, and runs repeat.
//! How it deviates from the production service is said by a [`Dialect`]; what it does beside behaving well (pauses,
//! limits, failures) is steered by methods such as [`Service::pause`], or over HTTP by
//! [control commands](Service#control-commands).
//!
//! * All waiting is tokio's, so it works in virtual time; nothing is locked while it waits.
//! * A promise is ready [`latency`](ServiceOptions::latency) after its acceptance. A poll of a pending promise is
//!   held until it is ready, until the hold time is over, or until there is news of the queue: a pause the client
//!   was not told of is told at once, one it knows of when the hold time is over.
//! * The operations of a training run are carried out in the order its dialect demands ([`TrainingOrder`]), one after
//!   the other, by the first who needs one: a poll, or an inspection such as [`Service::runs`].
//! * Memory is bounded: retrieved results, lost promises, records and sessions are forgotten, oldest first.
//!
//! ```
//! use serde_json::json;
//! use tinkex_testkit::service::{Dialect, Service};
//! use tinkex_testkit::{Behaviour, Received};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let service = Service::new(Dialect::production());
//! let request = Received::post("create_session", &json!({ "tags": [], "user_metadata": {}, "sdk_version": "0" }))
//!     .with_header("x-api-key", "tml-anything");
//! let reply = service.respond(&request).await;
//! assert_eq!(reply.status, 200);
//! assert_eq!(service.sessions().len(), 1);
//! # }
//! ```

mod asample;
mod configuration;
mod control;
mod dialect;
mod encode;
mod inspection;
mod options;
mod poller;
mod product;
mod promises;
mod prompt;
mod refusal;
mod retrieve;
mod routes;
mod sample_request;
mod samplers;
mod sessions;
mod state;
mod steering;
mod strict;
mod telemetry;
mod tokens;
mod training;
mod work;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_core::future::BoxFuture;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use dialect::{
    ConfigAnswer, Dialect, FailureStyle, KeyRule, ModelFacts, PendingStyle, PromptLogprobShape,
    RequestIdShape, ResultEncoding, SamplerPathShape, SamplingOrder, SuccessCodes, TrainingBody,
    TrainingOrder,
};
pub use inspection::{SamplerInfo, SessionInfo};
pub use options::ServiceOptions;
pub use training::inspection::{CheckpointInfo, RunInfo};

use crate::{Behaviour, Received, Reply};
use state::State;

/// The fake service. Cheap to clone; clones are the same service.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    options: ServiceOptions,
    state: Mutex<State>,
    /// Rung when something other than time changed what polls wait for.
    changed: Notify,
}

impl Service {
    /// A service of this dialect, with default options.
    pub fn new(dialect: Dialect) -> Self {
        Self::with_options(ServiceOptions::of(dialect))
    }

    /// A service with these options.
    pub fn with_options(options: ServiceOptions) -> Self {
        let state = Mutex::new(State::new(&options));
        Self { inner: Arc::new(Inner { options, state, changed: Notify::new() }) }
    }

    /// The options the service was made with.
    pub fn options(&self) -> &ServiceOptions {
        &self.inner.options
    }

    /// The dialect it speaks.
    pub fn dialect(&self) -> &Dialect {
        &self.inner.options.dialect
    }

    /// The state, caught up with the clock. Never held over an `.await`.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.settle(Instant::now());
        state
    }
}

impl Default for Service {
    fn default() -> Self {
        Self::new(Dialect::default())
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

impl Behaviour for Service {
    fn respond<'a>(&'a self, request: &'a Received) -> BoxFuture<'a, Reply> {
        Box::pin(self.answer(request))
    }

    fn control(&self, command: &str, body: &Value) -> Option<Reply> {
        self.carry_out(command, body)
    }
}
