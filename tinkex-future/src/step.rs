//! One step of a poll as a pure function: state and answer in, next action out.
//!
//! No clock, no random numbers, no I/O: all come in as arguments, so every rule of PROTOCOL 16.3 and REQUIREMENTS 3.2
//! is a table in the tests.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tinkex_types::{ClientKind, ErrorCategory, QueueState, QueueStateChange, RequestType};
use tokio::time::Instant;

use crate::answer::{Answer, QueueReport};
use crate::error::{Inner, PassingFailure};
use crate::policy::{
    BILLING_INCIDENT, BILLING_WAIT, LONGEST_WAIT, REJECTION_RETRIES, after_fast_pending, after_rejection,
    after_server_error, after_setback, honoured, jittered,
};
use crate::{Ask, BoxError, Payload, PollError, PollErrorKind, PollPolicy};

/// What a poll remembers between two asks.
#[derive(Debug)]
pub struct PollState {
    request_id: Arc<str>,
    request_type: RequestType,
    client: ClientKind,
    client_id: Arc<str>,
    started: Instant,
    polls: u32,
    allow_metadata_only: bool,
    fast_pendings: u32,
    server_errors: u32,
    setbacks: u32,
    rejections: u32,
    outage: Option<Outage>,
    billing: Option<Billing>,
    /// Since when every poll has run into the client's own timeout.
    silent_since: Option<Instant>,
    observed: Option<(QueueState, Option<Arc<str>>)>,
    last_failure: Option<BoxError>,
}

/// A run of failures without any other answer between them.
#[derive(Debug)]
struct Outage {
    since: Instant,
    failures: u32,
}

#[derive(Debug)]
struct Billing {
    since: Instant,
    last: Instant,
}

/// What to do after an answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Next {
    /// Ask again after this long; zero for now. At most [`LONGEST_WAIT`].
    PollAfter(Duration),
    /// The result is large: reserve this many bytes, then ask again. [`PollState::ask`] already asks for the result
    /// itself.
    Reserve {
        /// The announced size.
        bytes: u64,
    },
    /// The poll is over.
    Finish(Result<Payload, PollError>),
}

/// The outcome of a step: what to do, and what to report *before* doing it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Step {
    /// What to do.
    pub next: Next,
    /// The queue state the answer showed, where it did.
    pub observation: Option<QueueStateChange>,
}

/// Whose observations they are, where nobody said. One text for all polls.
pub(crate) fn nobody() -> Arc<str> {
    static NOBODY: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("unknown"));
    Arc::clone(&NOBODY)
}

impl PollState {
    /// The state before the first ask. `started` is the origin of the deadline.
    pub fn new(request_id: impl Into<Arc<str>>, request_type: RequestType, started: Instant) -> Self {
        Self {
            request_id: request_id.into(),
            request_type,
            client: ClientKind::Sampling,
            client_id: nobody(),
            started,
            polls: 0,
            allow_metadata_only: true,
            fast_pendings: 0,
            server_errors: 0,
            setbacks: 0,
            rejections: 0,
            outage: None,
            billing: None,
            silent_since: None,
            observed: None,
            last_failure: None,
        }
    }

    /// Sets whose observations these are.
    #[must_use]
    pub fn with_client(mut self, client: ClientKind, client_id: impl Into<Arc<str>>) -> Self {
        self.client = client;
        self.client_id = client_id.into();
        self
    }

    /// Asks for the result itself from the start, for results whose size is already known and reserved.
    #[must_use]
    pub fn with_size_known(mut self) -> Self {
        self.allow_metadata_only = false;
        self
    }

    /// The next question. `create_roundtrip` is used for the first one only.
    pub fn ask(&self, create_roundtrip: Option<Duration>) -> Ask<'_> {
        let mut ask = Ask::new(&self.request_id, self.request_type);
        ask.iteration = self.polls;
        ask.allow_metadata_only = self.allow_metadata_only;
        ask.create_roundtrip = create_roundtrip.filter(|_| self.polls == 0);
        ask.since = Some(self.started);
        ask.rejections = self.rejections;
        ask.setbacks = self.setbacks;
        ask
    }

    /// How often the server was asked so far.
    pub fn polls(&self) -> u32 {
        self.polls
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn request_type(&self) -> RequestType {
        self.request_type
    }

    /// Counts an ask whose answer was not waited for.
    pub(crate) fn cut_short(&mut self) {
        self.polls = self.polls.saturating_add(1);
    }

    /// How long every poll has run into the client's own timeout.
    pub(crate) fn silent_for(&self, now: Instant) -> Duration {
        self.silent_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// True while the last answer was a failure to be got over.
    pub(crate) fn is_failing(&self) -> bool {
        self.server_errors > 0 || self.setbacks > 0
    }

    /// The error of a poll whose deadline has passed. It takes the last failure along as its source.
    pub fn timed_out(&mut self, policy: &PollPolicy, now: Instant) -> PollError {
        let limit = policy.deadline.unwrap_or_default().as_secs_f64();
        let source = self.last_failure.take();
        let message = format!("no result within the deadline of {limit:.1} s");
        self.error(now, PollErrorKind::Timeout, None, ErrorCategory::Unknown, message, source)
    }

    pub(crate) fn error(
        &self,
        now: Instant,
        kind: PollErrorKind,
        status: Option<u16>,
        category: ErrorCategory,
        message: String,
        source: Option<BoxError>,
    ) -> PollError {
        PollError::new(Inner {
            kind,
            request_id: Arc::clone(&self.request_id),
            request_type: self.request_type,
            polls: self.polls,
            elapsed: now.saturating_duration_since(self.started),
            category,
            status,
            message,
            source,
        })
    }

    /// What is left of the deadline; none where there is no deadline.
    fn remaining(&self, policy: &PollPolicy, now: Instant) -> Option<Duration> {
        Some(policy.deadline?.saturating_sub(now.saturating_duration_since(self.started)))
    }

    /// Forgets runs of failures: some other answer came.
    fn recovered(&mut self) {
        self.server_errors = 0;
        self.setbacks = 0;
        self.outage = None;
    }

    fn observe(&mut self, report: QueueReport) -> QueueStateChange {
        let change = self.change(report.state).with_reason(report.reason.as_deref());
        let before = self.observed.replace((change.state.clone(), change.reason.clone()));
        let transition = before.as_ref().is_none_or(|(state, reason)| {
            *state != change.state || reason.as_deref() != change.reason.as_deref()
        });
        change.with_previous(before.map(|(state, _)| state), transition)
    }

    /// The end of a promise ends any pause. It is news only where a pause had been seen.
    fn observe_completion(&mut self) -> QueueStateChange {
        let before = self.observed.replace((QueueState::Active, None)).map(|(state, _)| state);
        let transition = before.as_ref().is_some_and(|state| !state.is_active());
        self.change(QueueState::Active).with_previous(before, transition)
    }

    fn change(&self, state: QueueState) -> QueueStateChange {
        QueueStateChange::new(state, self.client, Arc::clone(&self.client_id))
            .with_request(Arc::clone(&self.request_id), self.request_type)
    }

    /// Notes one more failure of an outage; true where the outage has lasted too long.
    fn outage_is_over_limit(&mut self, policy: &PollPolicy, now: Instant) -> bool {
        let outage = self.outage.get_or_insert(Outage { since: now, failures: 0 });
        outage.failures = outage.failures.saturating_add(1);
        now.saturating_duration_since(outage.since) >= policy.outage_limit
    }

    fn outage_error(&mut self, policy: &PollPolicy, now: Instant, status: Option<u16>) -> PollError {
        let failures = self.outage.as_ref().map_or(0, |outage| outage.failures);
        let since = self.outage.as_ref().map_or(now, |outage| outage.since);
        let lasted = now.saturating_duration_since(since).as_secs_f64();
        let limit = policy.outage_limit.as_secs_f64();
        let message = format!(
            "nothing but failures for {lasted:.1} s ({failures} attempts in a row, limit {limit:.1} s)"
        );
        let category = status.map_or(ErrorCategory::Unknown, ErrorCategory::of_status);
        let source = self.last_failure.take();
        self.error(now, PollErrorKind::Outage, status, category, message, source)
    }

    /// The wait after a "still pending": the server's hint, else nothing if the server held the call, else a little.
    fn pending_wait(
        &mut self,
        policy: &PollPolicy,
        hint: Option<Duration>,
        took: Duration,
        random: f64,
    ) -> Duration {
        if let Some(hint) = hint.filter(|hint| !hint.is_zero()) {
            return hint.min(LONGEST_WAIT);
        }
        if took >= policy.fast_answer {
            self.fast_pendings = 0;
            return Duration::ZERO;
        }
        let wait = jittered(after_fast_pending(self.fast_pendings), random);
        self.fast_pendings = self.fast_pendings.saturating_add(1);
        wait
    }

    /// The wait of a billing pause; none where it has lasted too long.
    fn billing_wait(&mut self, policy: &PollPolicy, now: Instant) -> Option<Duration> {
        let since = match &self.billing {
            Some(billing) if now.saturating_duration_since(billing.last) <= BILLING_INCIDENT => billing.since,
            _ => now,
        };
        self.billing = Some(Billing { since, last: now });
        let left = policy.billing_pause.checked_sub(now.saturating_duration_since(since))?;
        (!left.is_zero()).then(|| left.min(BILLING_WAIT))
    }

    /// The end of a promise that failed on the server.
    fn failed(&self, now: Instant, status: Option<u16>, message: String, category: ErrorCategory) -> Next {
        Next::Finish(Err(self.error(now, PollErrorKind::Failed, status, category, message, None)))
    }

    /// The end on a status that asking again cannot mend.
    fn refused(&self, now: Instant, status: u16, message: String) -> Next {
        let category = ErrorCategory::of_status(status);
        Next::Finish(Err(self.error(
            now,
            PollErrorKind::Status(status),
            Some(status),
            category,
            message,
            None,
        )))
    }
}

/// Takes in one answer and decides what happens next.
///
/// `took` is how long the answer was in coming, `now` when it arrived, `random` a number in `[0, 1)`. Never panics,
/// whatever the numbers, and no wait exceeds [`LONGEST_WAIT`] or the rest of the deadline.
pub fn step(
    state: &mut PollState,
    policy: &PollPolicy,
    answer: Answer,
    now: Instant,
    took: Duration,
    random: f64,
) -> Step {
    state.polls = state.polls.saturating_add(1);
    // Failures count by their runs, so every other answer ends the run. A billing pause leaves the counts alone.
    match &answer {
        Answer::Throttled { .. } => {
            state.server_errors = 0;
            state.outage = None;
        }
        Answer::Unreachable { .. } => state.server_errors = 0,
        Answer::ServerError { .. } => state.setbacks = 0,
        Answer::BillingPause { .. } => state.outage = None,
        _ => state.recovered(),
    }

    state.silent_since = match answer {
        Answer::TimedOut { .. } => state.silent_since.or_else(|| now.checked_sub(took)),
        _ => None,
    };

    let mut observation = None;
    let next = match answer {
        Answer::Payload { encoding, body } => {
            observation = Some(state.observe_completion());
            Next::Finish(Ok(Payload { encoding, body, reservation: None }))
        }
        Answer::Failed { message, category } => {
            observation = Some(state.observe_completion());
            state.failed(now, None, message, category)
        }
        Answer::Pending { queue, hint, forgives_rejections } => {
            if forgives_rejections {
                state.rejections = 0;
            }
            observation = queue.map(|report| state.observe(report));
            Next::PollAfter(state.pending_wait(policy, hint, took, random))
        }
        Answer::TimedOut { error } => {
            // Ordinary for a long poll, so it never hides a real failure as the source of a later timeout error.
            state.last_failure.get_or_insert(error);
            Next::PollAfter(state.pending_wait(policy, None, took, random))
        }
        Answer::Metadata { bytes } if state.allow_metadata_only => {
            state.allow_metadata_only = false;
            Next::Reserve { bytes }
        }
        Answer::Metadata { .. } => {
            let message = "the server announced the result again instead of sending it".to_owned();
            Next::Finish(Err(state.error(
                now,
                PollErrorKind::Decode,
                None,
                ErrorCategory::Server,
                message,
                None,
            )))
        }
        Answer::Rejected { .. } if state.rejections < REJECTION_RETRIES => {
            let wait = after_rejection(state.rejections);
            state.rejections = state.rejections.saturating_add(1);
            Next::PollAfter(wait)
        }
        Answer::Rejected { failure: Some((message, category)), .. } => {
            observation = Some(state.observe_completion());
            state.failed(now, Some(400), message, category)
        }
        Answer::Rejected { failure: None, message } => state.refused(now, 400, message),
        Answer::BillingPause { message } => match state.billing_wait(policy, now) {
            Some(wait) => {
                state.last_failure = Some(PassingFailure(message).into());
                Next::PollAfter(wait)
            }
            None => {
                let limit = policy.billing_pause.as_secs_f64();
                state.refused(
                    now,
                    402,
                    format!("the billing pause has lasted longer than {limit} s. Error: {message}"),
                )
            }
        },
        Answer::Expired { message } => {
            let said = message.map(|text| format!(" ({text})")).unwrap_or_default();
            // What changes a model must not simply be made again: it may have been carried out.
            let advice =
                if state.request_type == RequestType::Sample { "; submit a new request" } else { "" };
            let message = format!("the promise has expired{advice}{said}");
            let category = ErrorCategory::of_status(410);
            Next::Finish(Err(state.error(now, PollErrorKind::Expired, Some(410), category, message, None)))
        }
        Answer::Throttled { queue, hint, message } => {
            observation = queue.map(|report| state.observe(report));
            state.last_failure = Some(PassingFailure(message).into());
            let wait = honoured(hint).unwrap_or_else(|| after_setback(state.setbacks));
            state.setbacks = state.setbacks.saturating_add(1);
            Next::PollAfter(wait)
        }
        Answer::Unreachable { error } => {
            state.last_failure = Some(error);
            if state.outage_is_over_limit(policy, now) {
                Next::Finish(Err(state.outage_error(policy, now, None)))
            } else {
                let wait = after_setback(state.setbacks);
                state.setbacks = state.setbacks.saturating_add(1);
                Next::PollAfter(wait)
            }
        }
        Answer::ServerError { status, hint, message } => {
            state.last_failure = Some(PassingFailure(message).into());
            if state.outage_is_over_limit(policy, now) {
                Next::Finish(Err(state.outage_error(policy, now, Some(status))))
            } else {
                let wait = honoured(hint);
                let wait = wait.unwrap_or_else(|| jittered(after_server_error(state.server_errors), random));
                state.server_errors = state.server_errors.saturating_add(1);
                Next::PollAfter(wait)
            }
        }
        Answer::Refused { status, failure: Some((message, category)), .. } => {
            observation = Some(state.observe_completion());
            state.failed(now, Some(status), message, category)
        }
        Answer::Refused { status, failure: None, message } => state.refused(now, status, message),
        Answer::Undecodable { message, error } => {
            let category = ErrorCategory::Unknown;
            Next::Finish(Err(state.error(now, PollErrorKind::Decode, None, category, message, error)))
        }
    };

    let next = match (next, state.remaining(policy, now)) {
        (Next::PollAfter(_) | Next::Reserve { .. }, Some(Duration::ZERO)) => {
            Next::Finish(Err(state.timed_out(policy, now)))
        }
        (Next::PollAfter(wait), Some(left)) => Next::PollAfter(wait.min(left)),
        (next, _) => next,
    };
    Step { next, observation }
}
