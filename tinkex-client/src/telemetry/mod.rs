//! Service telemetry: what a client tells the service about its session and its failures (PROTOCOL 20).
//!
//! ```text
//! an error leaves an operation      operation_failure.rs   user_error, UNHANDLED_EXCEPTION, and what it came from
//! a poll fails                      poll_failure.rs        APIFuture.result_async.api_status_error, connection_error
//!   report                          report.rs              what is told, before it has a number and a time
//!   queue                           queue.rs               bounded; numbered; never waits
//!   reporter                        reporter.rs            one task a session: batches, flushes, the drain of `close`
//!     redaction                     redaction.rs           every text of every event, last thing before it is sent
//! ```
//!
//! Nothing here is done where all goes well: an operation that succeeds meets one comparison. Nobody waits for a flush but
//! [`ServiceClient::close`](crate::ServiceClient::close). Where telemetry is off there is no task and no queue.
//!
//! What differs from the reference SDK, on purpose:
//!
//! * SESSION_END is sent once, by `close`; the reference SDK adds one to every failed operation, and waits there.
//! * Polls that only say "not yet" (408, or no answer in time) are no failures, and no events.
//! * A call that failed is one `execute_with_retries.exception` with the number of its attempts, not one for each.
//! * The polls of a session poller are told by the samples that fail with them.
//! * No request header is sent. The reference SDK sends all of them with fatal polls, the API key included.
//! * What ends because its client is closed has not failed, and goes untold.
//! * What a server says of a request it could not process (422) is left out, as it may quote the request.
//! * Failures before there is a session, and those of [`RestClient`](crate::RestClient), which needs none, go untold.
//!
//! A sampler that was opened from a handle reports its failures under the session of the handle, with a process id and
//! numbers of its own. It tells neither the beginning nor the end of that session, which belongs to whoever created it.

mod debounce;
mod operation_failure;
mod poll_failure;
mod process;
mod queue;
mod redaction;
mod report;
mod reporter;
mod timestamp;

use std::sync::Arc;

use secrecy::SecretString;
use tinkex_future::Ask;
use tinkex_http::{ApiResponse, HttpError, WallClock};

use crate::Error;
use operation_failure::Origin;
use queue::EventQueue;
use report::Report;

pub(crate) use reporter::{ReportedSession, Reporter};

/// How to report, where telemetry is on.
pub(crate) struct TelemetrySettings {
    /// The time of day, for the events.
    pub(crate) clock: WallClock,
    /// What no event may hold, besides credentials: the values of headers the user added.
    pub(crate) secrets: Vec<SecretString>,
}

/// Where failures are told. A cheap clone; without a queue, everything is ignored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Telemetry(Option<Arc<EventQueue>>);

impl Telemetry {
    /// Ignores everything.
    pub(crate) const OFF: Self = Self(None);

    /// An error leaves the public method `method`: tells what it came from, and that it left.
    pub(crate) fn operation_failed(&self, method: &'static str, error: &Error) {
        if operation_failure::is_orderly_end(error) {
            return;
        }
        self.add_origin(error);
        self.add(|_| operation_failure::leaving(method, error));
    }

    /// A sample of the public method `method` failed for good.
    pub(crate) fn sample_failed(&self, method: &'static str, error: &Error) {
        if operation_failure::is_orderly_end(error) {
            return;
        }
        self.add_origin(error);
        self.add(|queue| operation_failure::sample_attempt(method, error, false, queue.unix_seconds()));
        self.add(|_| operation_failure::leaving(method, error));
    }

    /// A sample of the public method `method` was lost, and is submitted anew.
    pub(crate) fn sample_retried(&self, method: &'static str, error: &Error) {
        self.add(|queue| operation_failure::sample_attempt(method, error, true, queue.unix_seconds()));
    }

    fn add_origin(&self, error: &Error) {
        if let Some(origin) = Origin::of(error).filter(|_| self.0.is_some()) {
            self.add(|queue| origin.report(queue.unix_seconds()));
        }
    }

    /// A promise was asked about.
    pub(crate) fn polled(&self, ask: &Ask<'_>, answer: &Result<ApiResponse, HttpError>) {
        if answer.as_ref().is_ok_and(|response| response.status.is_success()) || self.0.is_none() {
            return;
        }
        if let Some(failure) = poll_failure::PollFailure::of(answer) {
            self.add(|_| failure.report(ask, answer));
        }
    }

    /// Keeps a secret of a single call out of all events to come.
    pub(crate) fn conceal(&self, secret: &str) {
        if let Some(queue) = &self.0 {
            queue.secrets().learn(secret);
        }
    }

    /// Adds an event, which is made only where there is room for it.
    fn add(&self, make: impl FnOnce(&EventQueue) -> Report) {
        if let Some(queue) = &self.0
            && queue.has_room()
        {
            queue.add(make(queue));
        }
    }
}
