//! The driver: asks, waits and reports as [`step`](crate::step()) decides.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tinkex_metrics::contract;
use tinkex_types::{ClientKind, ErrorCategory, QueueStateObserver, RequestType};
use tokio::time::{Instant, sleep, timeout_at};

use crate::answer::Answer;
use crate::policy::WARNING_INTERVAL;
use crate::stay::Stay;
use crate::step::{Next, PollState, nobody, step};
use crate::throttle::Throttle;
use crate::{
    BudgetPermit, ByteBudget, Completion, Payload, PollError, PollErrorKind, PollPolicy, PollProgress,
    Retrieve, RetrieveMany, SessionPoller,
};

/// Unanswered polls are worth a line after this long.
const LONG_SILENCE: Duration = Duration::from_secs(5 * 60);

/// A promise to be polled. Polling one that was polled before, by this process or another, is the same call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromiseRef {
    /// The id the server gave the promise.
    pub request_id: Arc<str>,
    /// What the promise is for.
    pub request_type: RequestType,
    /// How long it took to get the promise, where that is known; told to the server on the first poll.
    pub create_roundtrip: Option<Duration>,
}

impl PromiseRef {
    /// A promise whose creation time is not known.
    pub fn new(request_id: impl Into<Arc<str>>, request_type: RequestType) -> Self {
        Self { request_id: request_id.into(), request_type, create_roundtrip: None }
    }

    /// Sets how long it took to get the promise.
    #[must_use]
    pub fn with_create_roundtrip(mut self, roundtrip: Duration) -> Self {
        self.create_roundtrip = Some(roundtrip);
        self
    }
}

/// Polls promises over a [`Retrieve`] seam.
///
/// Clones share the random numbers and the once-a-minute limits of the log, and can be given their own observer,
/// client and progress. Polls are independent of each other: any number may run at once.
pub struct Poller<R> {
    retrieve: R,
    policy: PollPolicy,
    observer: Option<Arc<dyn QueueStateObserver>>,
    client: ClientKind,
    client_id: Arc<str>,
    budget: Option<Arc<ByteBudget>>,
    progress: Option<Arc<dyn PollProgress>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    random: Mutex<fastrand::Rng>,
    billing_line: Throttle,
    failure_line: Throttle,
    silence_line: Throttle,
    panic_told: AtomicBool,
}

impl<R: Clone> Clone for Poller<R> {
    fn clone(&self) -> Self {
        Self {
            retrieve: self.retrieve.clone(),
            policy: self.policy,
            observer: self.observer.clone(),
            client: self.client,
            client_id: Arc::clone(&self.client_id),
            budget: self.budget.clone(),
            progress: self.progress.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<R> fmt::Debug for Poller<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller")
            .field("policy", &self.policy)
            .field("client", &self.client)
            .field("client_id", &self.client_id)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

impl<R> Poller<R> {
    /// A poller with the default policy and nobody listening.
    pub fn new(retrieve: R) -> Self {
        Self {
            retrieve,
            policy: PollPolicy::default(),
            observer: None,
            client: ClientKind::Sampling,
            client_id: nobody(),
            budget: None,
            progress: None,
            shared: Arc::default(),
        }
    }

    /// The same poller over another seam, such as one that says on whose behalf it asks. It shares what clones share.
    #[must_use]
    pub fn over<S>(self, retrieve: S) -> Poller<S> {
        Poller {
            retrieve,
            policy: self.policy,
            observer: self.observer,
            client: self.client,
            client_id: self.client_id,
            budget: self.budget,
            progress: self.progress,
            shared: self.shared,
        }
    }

    /// Sets the limits.
    #[must_use]
    pub fn policy(mut self, policy: PollPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets who is told about queue states. Every observation goes to
    /// [`QueueStateObserver::on_observation`], on the poll's own task; a panic inside is caught.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn QueueStateObserver>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Sets whose observations these are: a sampling session id for sampling, a model id for training.
    #[must_use]
    pub fn client(mut self, client: ClientKind, id: impl Into<Arc<str>>) -> Self {
        self.client = client;
        self.client_id = id.into();
        self
    }

    /// Sets the budget that large results are reserved from. Without one they come in unbounded.
    #[must_use]
    pub fn payload_budget(mut self, budget: Arc<ByteBudget>) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Sets who follows the polls one by one.
    #[must_use]
    pub fn progress(mut self, progress: Arc<dyn PollProgress>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Seeds the random numbers of the jitter, for repeatable runs. This poller stops sharing with its clones.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        let random = Mutex::new(fastrand::Rng::with_seed(seed));
        self.shared = Arc::new(Shared { random, ..Shared::default() });
        self
    }
}

impl<R: Retrieve> Poller<R> {
    /// Polls a promise until it is done, or the policy gives up.
    ///
    /// Dropping the future stops the poll and gives its share of the payload budget back; the promise itself lives
    /// on at the server and can be polled again by its id.
    ///
    /// # Errors
    ///
    /// A [`PollError`]; [`PollErrorKind`] lists the reasons.
    pub async fn poll(&self, promise: PromiseRef) -> Result<Payload, PollError> {
        let state = self.state(&promise, Instant::now());
        self.run(state, promise.create_roundtrip, None).await
    }

    /// Polls a promise whose end a [`SessionPoller`] announces (PROTOCOL 16.6): waits for the announcement, reserves
    /// the announced size, fetches the result and marks it retrieved. The deadline covers all of it.
    ///
    /// # Errors
    ///
    /// As [`Poller::poll`], and [`PollErrorKind::SessionPoll`] where the session poller has given up.
    pub async fn poll_announced<M>(
        &self,
        promise: PromiseRef,
        session: &SessionPoller<M>,
    ) -> Result<Payload, PollError>
    where
        M: RetrieveMany + 'static,
    {
        let started = Instant::now();
        let mut state = self.state(&promise, started);
        let deadline = self.deadline(started);
        if deadline.is_some_and(|at| at <= started) {
            return Err(state.timed_out(&self.policy, started));
        }
        let announced = match within(deadline, Box::pin(session.wait(&promise.request_id))).await {
            Some(Ok(completion)) => completion,
            Some(Err(error)) => {
                let status = error.status();
                let category = status.map_or(ErrorCategory::Unknown, ErrorCategory::of_status);
                let message = "the session poller does not run any more".to_owned();
                let now = Instant::now();
                return Err(state.error(
                    now,
                    PollErrorKind::SessionPoll,
                    status,
                    category,
                    message,
                    Some(error.into()),
                ));
            }
            None => return Err(state.timed_out(&self.policy, Instant::now())),
        };
        let mut reservation = None;
        if let Completion::Finished { size: Some(bytes) } = announced
            && bytes > 0
        {
            state = state.with_size_known();
            match self.reserve(deadline, bytes).await {
                Some(permit) => reservation = permit,
                None => return Err(state.timed_out(&self.policy, Instant::now())),
            }
        }
        let result = self.run(state, promise.create_roundtrip, reservation).await;
        if result.as_ref().map_or_else(|error| error.kind() == PollErrorKind::Failed, |_| true) {
            session.mark_retrieved(&promise.request_id);
        }
        result
    }

    async fn run(
        &self,
        mut state: PollState,
        create_roundtrip: Option<Duration>,
        mut reservation: Option<BudgetPermit>,
    ) -> Result<Payload, PollError> {
        let deadline = self.deadline(state.started());
        let mut stay = None;
        loop {
            let asked = Instant::now();
            if deadline.is_some_and(|at| at <= asked) {
                return Err(state.timed_out(&self.policy, asked));
            }
            if let Some(progress) = &self.progress {
                self.guarded(|| progress.polled(state.polls()));
            }
            // Boxed: the poll's own size then does not depend on the transport, and thousands of polls are alive.
            let answered = {
                let ask = state.ask(create_roundtrip);
                within(deadline, Box::pin(self.retrieve.retrieve(&ask))).await
            };
            let now = Instant::now();
            let Some(outcome) = answered else {
                state.cut_short();
                return Err(state.timed_out(&self.policy, now));
            };
            let took = now.saturating_duration_since(asked);
            match self.take_in(&mut state, Answer::of(outcome), now, took, &mut stay) {
                Next::PollAfter(Duration::ZERO) => {}
                Next::PollAfter(wait) => sleep(wait).await,
                Next::Reserve { bytes } => match self.reserve(deadline, bytes).await {
                    Some(permit) => reservation = permit,
                    None => return Err(state.timed_out(&self.policy, Instant::now())),
                },
                Next::Finish(Ok(payload)) => return Ok(Payload { reservation, ..payload }),
                Next::Finish(Err(error)) => return Err(error),
            }
        }
    }

    /// One step, with everything it shows to the outside: metrics, log, observer and progress.
    fn take_in(
        &self,
        state: &mut PollState,
        answer: Answer,
        now: Instant,
        took: Duration,
        stay: &mut Option<Stay>,
    ) -> Next {
        let request_type = state.request_type();
        contract::POLLS.increment([request_type.as_str(), answer.label()]);
        let trouble = Trouble::of(&answer);
        let was_failing = state.is_failing();
        let step = step(state, &self.policy, answer, now, took, self.random());
        let silent = state.silent_for(now);
        if silent >= LONG_SILENCE && self.shared.silence_line.due(now, WARNING_INTERVAL) {
            // Pending for a server that holds polls longer than the client; but it may also be gone.
            let (request_id, polls) = (state.ask(None).request_id, state.polls());
            tracing::warn!(
                request_id,
                polls,
                "the server has not answered a poll for {} s; polling goes on",
                silent.as_secs()
            );
        }
        if let (Some(trouble), Next::PollAfter(wait)) = (trouble, &step.next) {
            self.tell(state, &trouble, was_failing, *wait, now);
        }
        if let Some(observation) = &step.observation {
            // The last observation says that the poll is over, not that the request is active.
            if !matches!(step.next, Next::Finish(_)) {
                Stay::observe(stay, self.client, &observation.state, now);
            }
            if let Some(observer) = &self.observer {
                self.guarded(|| observer.on_observation(observation));
            }
            if let Some(progress) = &self.progress {
                self.guarded(|| progress.observed(observation));
            }
        }
        step.next
    }

    fn tell(&self, state: &PollState, trouble: &Trouble, was_failing: bool, wait: Duration, now: Instant) {
        let ask = state.ask(None);
        let (request_id, request_type, polls) = (ask.request_id, ask.request_type.as_str(), state.polls());
        match trouble {
            Trouble::Billing(message) => {
                if self.shared.billing_line.due(now, WARNING_INTERVAL) {
                    tracing::warn!(
                        request_id,
                        request_type,
                        "The job is paused due to billing status. Error: {message}"
                    );
                }
            }
            Trouble::Failure(message) if was_failing => {
                if self.shared.failure_line.due(now, WARNING_INTERVAL) {
                    tracing::warn!(
                        request_id,
                        request_type,
                        polls,
                        ?wait,
                        "polling keeps failing: {message}"
                    );
                }
            }
            Trouble::Failure(message) => {
                tracing::debug!(request_id, request_type, polls, ?wait, "a poll failed: {message}");
            }
        }
    }

    /// Runs foreign code. A panic in it is told once and then swallowed: it must not end the poll (S2-20).
    fn guarded(&self, call: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(call)).is_err()
            && !self.shared.panic_told.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("a queue-state observer panicked; polling goes on without telling it this change");
        }
    }

    /// Reserves bytes of the payload budget. The outer none says that the deadline passed, the inner that there is
    /// no budget to reserve from.
    async fn reserve(&self, deadline: Option<Instant>, bytes: u64) -> Option<Option<BudgetPermit>> {
        let Some(budget) = &self.budget else { return Some(None) };
        if let Some(permit) = budget.try_acquire(bytes) {
            return Some(Some(permit));
        }
        let begun = Instant::now();
        let _waiting =
            contract::PAYLOAD_WAIT.timer([], move || Instant::now().saturating_duration_since(begun));
        within(deadline, Box::pin(budget.acquire(bytes))).await.map(Some)
    }

    fn state(&self, promise: &PromiseRef, now: Instant) -> PollState {
        PollState::new(Arc::clone(&promise.request_id), promise.request_type, now)
            .with_client(self.client, Arc::clone(&self.client_id))
    }

    fn deadline(&self, started: Instant) -> Option<Instant> {
        // A deadline beyond the end of the clock is none.
        started.checked_add(self.policy.deadline?)
    }

    fn random(&self) -> f64 {
        self.shared.random.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }
}

/// What goes wrong without ending the poll, for the log.
enum Trouble {
    Billing(String),
    Failure(String),
}

impl Trouble {
    fn of(answer: &Answer) -> Option<Self> {
        match answer {
            Answer::BillingPause { message } => Some(Self::Billing(message.clone())),
            Answer::Throttled { message, .. } | Answer::ServerError { message, .. } => {
                Some(Self::Failure(message.clone()))
            }
            Answer::Unreachable { error } => Some(Self::Failure(error.to_string())),
            _ => None,
        }
    }
}

/// Runs a future up to the deadline; none where that came first.
async fn within<T>(
    deadline: Option<Instant>,
    work: Pin<Box<dyn Future<Output = T> + Send + '_>>,
) -> Option<T> {
    match deadline {
        Some(at) => timeout_at(at, work).await.ok(),
        None => Some(work.await),
    }
}
