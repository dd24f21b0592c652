//! The background task of the session poller, and the reading of its answers.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, timeout};

use super::{Completion, ManyAsk, ManyOutcome, RetrieveMany, SessionPollError, Shared};
use crate::RawResponse;
use crate::answer::Answer;
use crate::peek::{is_word, text};
use crate::policy::{
    BILLING_INCIDENT, BILLING_WAIT, PollPolicy, REJECTION_RETRIES, WARNING_INTERVAL, after_fast_pending,
    honoured,
};
use crate::throttle::Throttle;

/// The pause after an error (PROTOCOL 16.6).
const ERROR_WAIT: Duration = Duration::from_secs(1);

/// Asks for as long as there is something to ask for or to report; never returns but on a terminal error.
pub(super) fn run<M: RetrieveMany>(
    many: Arc<M>,
    shared: Arc<Shared>,
    billing_pause: Duration,
) -> impl Future<Output = ()> {
    // Made before the first poll, which a runtime that is shut down never makes.
    let ending = Ending(shared);
    async move { ask_on(&*many, &ending.0, billing_pause).await }
}

async fn ask_on<M: RetrieveMany>(many: &M, shared: &Shared, billing_pause: Duration) {
    let mut course = Course::new(billing_pause);
    loop {
        let ask = shared.ledger().next_ask();
        let Some(ask) = ask else {
            course.fruitless = 0;
            shared.wake.notified().await;
            continue;
        };
        let asked = Instant::now();
        let outcome = many.retrieve_many(&ask).await;
        let now = Instant::now();
        match course.judge(outcome, now) {
            Verdict::Announcements(list) => {
                let news = shared.ledger().take_in(&ask, list.cursor, list.completions);
                if let Some(wait) = course.wait_after(news, now.saturating_duration_since(asked))
                    && shared.ledger().next_ask().is_some()
                {
                    if ask.ack_only {
                        // A report is answered at once by right: whoever waits by now is asked for.
                        let _ = timeout(wait, shared.wake.notified()).await;
                    } else {
                        sleep(wait).await;
                    }
                }
            }
            Verdict::Again(wait) => sleep(wait).await,
            Verdict::End(error) => {
                tracing::error!("the session poll ended, its waiters fail: {}", error.message());
                shared.ledger().end(error);
                return;
            }
        }
    }
}

/// Takes in the answer to the last report of a closing poller, where it was a success.
pub(super) fn take_in_last(shared: &Shared, ask: &ManyAsk, outcome: ManyOutcome) {
    if let ManyOutcome::Response(response) = outcome
        && let Some(list) = Announcements::of(&response)
    {
        shared.ledger().take_in(ask, list.cursor, list.completions);
    }
}

/// Fails the waiters when the task goes away for a reason of its own: a panic in the seam, or a runtime shut down.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ledger().end(SessionPollError::new("its task is gone", None));
    }
}

enum Verdict {
    Announcements(Announcements),
    Again(Duration),
    End(SessionPollError),
}

/// What the task remembers between two asks.
struct Course {
    billing_pause: Duration,
    billing: Option<(Instant, Instant)>,
    billing_line: Throttle,
    error_line: Throttle,
    /// 400s and unreadable answers since the last success.
    rejections: u32,
    /// Answers in a row that came at once and brought nothing.
    fruitless: u32,
}

impl Course {
    fn new(billing_pause: Duration) -> Self {
        Self {
            billing_pause,
            billing: None,
            billing_line: Throttle::default(),
            error_line: Throttle::default(),
            rejections: 0,
            fruitless: 0,
        }
    }

    fn judge(&mut self, outcome: ManyOutcome, now: Instant) -> Verdict {
        let response = match outcome {
            ManyOutcome::Response(response) => response,
            ManyOutcome::Unreachable { error, .. } => return self.again(None, now, &error.to_string()),
        };
        let status = response.status;
        if (200..=299).contains(&status) {
            return match Announcements::of(&response) {
                Some(list) => {
                    self.rejections = 0;
                    Verdict::Announcements(list)
                }
                None => self.rejected(None, now, "the answer is not a JSON object"),
            };
        }
        match Answer::of(ManyOutcome::Response(response)) {
            Answer::BillingPause { message } => self.billing(now, &message),
            Answer::Pending { hint, .. } => self.again(hint, now, "HTTP 408"),
            Answer::Throttled { hint, message, .. } | Answer::ServerError { hint, message, .. } => {
                self.again(hint, now, &message)
            }
            Answer::Refused { status: 409, message, .. } => self.again(None, now, &message),
            Answer::Rejected { message, .. } => self.rejected(Some(400), now, &message),
            Answer::Refused { message, .. } => Verdict::End(SessionPollError::new(message, Some(status))),
            _ => Verdict::End(SessionPollError::new(format!("HTTP {status}"), Some(status))),
        }
    }

    fn again(&self, hint: Option<Duration>, now: Instant, message: &str) -> Verdict {
        let wait = honoured(hint).unwrap_or_default().max(ERROR_WAIT);
        if self.error_line.due(now, WARNING_INTERVAL) {
            tracing::warn!(?wait, "a session poll failed: {message}");
        }
        Verdict::Again(wait)
    }

    fn rejected(&mut self, status: Option<u16>, now: Instant, message: &str) -> Verdict {
        if self.rejections >= REJECTION_RETRIES {
            return Verdict::End(SessionPollError::new(message, status));
        }
        self.rejections = self.rejections.saturating_add(1);
        self.again(None, now, message)
    }

    fn billing(&mut self, now: Instant, message: &str) -> Verdict {
        let since = match self.billing {
            Some((since, last)) if now.saturating_duration_since(last) <= BILLING_INCIDENT => since,
            _ => now,
        };
        self.billing = Some((since, now));
        if now.saturating_duration_since(since) >= self.billing_pause {
            return Verdict::End(SessionPollError::new(message, Some(402)));
        }
        if self.billing_line.due(now, WARNING_INTERVAL) {
            tracing::warn!("The job is paused due to billing status. Error: {message}");
        }
        Verdict::Again(BILLING_WAIT)
    }

    /// The wait after a success: none, unless the server answers at once and has nothing new to say.
    fn wait_after(&mut self, news: bool, took: Duration) -> Option<Duration> {
        if news || took >= PollPolicy::default().fast_answer {
            self.fruitless = 0;
            return None;
        }
        let wait = after_fast_pending(self.fruitless);
        self.fruitless = self.fruitless.saturating_add(1);
        Some(wait)
    }
}

/// The body of a success, read generously.
struct Announcements {
    cursor: Option<i64>,
    completions: Vec<(String, Completion)>,
}

impl Announcements {
    fn of(response: &RawResponse) -> Option<Self> {
        let body: Body<'_> = object(&response.body)?;
        let cursor = body.cursor.and_then(|raw| serde_json::from_str(raw.get()).ok());
        // One odd entry must not hide the others, so each is read by itself.
        let entries: Vec<&RawValue> =
            body.completions.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        let completions = entries.into_iter().filter_map(completion).collect();
        Some(Self { cursor, completions })
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    completions: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cursor: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow, default)]
    state: Option<&'a RawValue>,
    #[serde(borrow, default)]
    request_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response_payload_uncompressed_size: Option<&'a RawValue>,
}

/// Reads an object. Arrays, which serde would take for a struct's fields in order, are not one.
fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    json.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(json).ok()).flatten()
}

fn completion(raw: &RawValue) -> Option<(String, Completion)> {
    let entry: Entry<'_> = object(raw.get().as_bytes())?;
    let id = text(entry.request_id)?;
    // A state not known here is an end all the same: the promise's own poll tells what it is.
    let completion = if is_word(entry.state, "finished") {
        let size = entry.response_payload_uncompressed_size;
        Completion::Finished { size: size.and_then(|raw| serde_json::from_str(raw.get()).ok()) }
    } else {
        Completion::Failed
    };
    Some((id, completion))
}
