//! The one error type of the clients.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tinkex_future::{PayloadEncoding, PollError, PollErrorKind, SessionPollError};
use tinkex_http::{AuthError, HttpError, HttpErrorKind};
use tinkex_types::{DecodeError, ErrorCategory, InvalidInput, TokenizerError};

/// The coarse kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument was refused before anything was sent.
    InvalidInput,
    /// No credential could be had.
    Auth,
    /// The server could not be reached, or the connection broke, for longer than the retry policy allows.
    Connection,
    /// Time ran out.
    Timeout,
    /// The server answered a request with an error status.
    Status,
    /// The server accepted the work and it failed there.
    RequestFailed,
    /// The server insists on an order of sequence ids, and the one of this request is not the one it expects
    /// ([`Error::expected_seq_id`]). The same request may be made again: it gets an id of its own. Of a training
    /// operation, [`Error::effect`] says whether it may have been taken in before.
    SequenceConflict,
    /// A custom loss failed, panicked, or returned what cannot be trained on. Its own error is the
    /// [`source`](std::error::Error::source).
    CustomLoss,
    /// An operation called before this one failed in a way that forbids sending this one (PROTOCOL 13.2). Nothing was
    /// sent; operations called after the failure work as usual.
    Poisoned,
    /// The server no longer knows the promise (410).
    Expired,
    /// No sample of the sampling client has finished for its progress time-out
    /// ([`SamplingClientBuilder::progress_timeout`](crate::SamplingClientBuilder::progress_timeout)), so those in
    /// progress were given up. They may be made again.
    Stuck,
    /// An answer could not be understood.
    Decode,
    /// The client was closed.
    Closed,
    /// The task behind a handle is gone: the runtime shut down.
    TaskEnded,
}

/// What a failed training operation has done at the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Effect {
    /// Nothing: the server took in no part of it.
    Nothing,
    /// Some chunks of the batch were taken in and count: their gradients are accumulated. Others were refused, or failed
    /// after they were taken in. The message names those that count.
    Partial,
    /// It was taken in; only its result is missing.
    TakenIn,
    /// It may have been taken in, wholly or in part.
    Unknown,
}

/// What went wrong, with which request, after how many attempts, and what to do about it.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    status: Option<u16>,
    category: ErrorCategory,
    request_id: Option<String>,
    retry_after: Option<Duration>,
    attempts: u32,
    elapsed: Duration,
    retryable: bool,
    expected_seq_id: Option<u64>,
    effect: Option<Effect>,
    encoding: Option<PayloadEncoding>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    fn new(kind: ErrorKind, category: ErrorCategory, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            status: None,
            category,
            request_id: None,
            retry_after: None,
            attempts: 0,
            elapsed: Duration::ZERO,
            retryable: false,
            expected_seq_id: None,
            effect: None,
            encoding: None,
            source: None,
        }))
    }

    /// `what` names the client: service, sampling or training.
    pub(crate) fn closed(what: &str) -> Self {
        Self::new(
            ErrorKind::Closed,
            ErrorCategory::User,
            format!("the {what} client was closed; make a new one"),
        )
    }

    /// No credential fits what the server's flags demand.
    pub(crate) fn no_credential(invalid: InvalidInput) -> Self {
        let mut error = Self::new(ErrorKind::Auth, ErrorCategory::User, invalid.to_string());
        error.0.source = Some(Arc::new(invalid));
        error
    }

    pub(crate) fn unloaded(model_id: &str) -> Self {
        let message = format!("the model {model_id} was unloaded; make a new training client");
        Self::new(ErrorKind::Closed, ErrorCategory::User, message)
    }

    pub(crate) fn task_ended() -> Self {
        let message = "the task behind the request is gone; the runtime it ran on has shut down; \
                       make a new client inside a running runtime";
        Self::new(ErrorKind::TaskEnded, ErrorCategory::Unknown, message)
    }

    /// What nobody hears: the handle of an operation was dropped while its result was waited for.
    pub(crate) fn detached() -> Self {
        Self::new(
            ErrorKind::TaskEnded,
            ErrorCategory::Unknown,
            "its handle was dropped, so its result is not fetched",
        )
    }

    pub(crate) fn deadline(after: Duration, request_id: Option<&str>) -> Self {
        let on = request_id.map(|id| format!(" on request {id}")).unwrap_or_default();
        let message = format!("no result within the deadline of {:.1} s{on}", after.as_secs_f64());
        let mut error = Self::new(ErrorKind::Timeout, ErrorCategory::Unknown, message);
        error.0.request_id = request_id.map(str::to_owned);
        error.0.elapsed = after;
        error.0.retryable = true;
        error
    }

    /// A sample that was given up because none of its client has finished for `silence`.
    pub(crate) fn stuck(silence: Duration, request_id: Option<&str>, polls: u32, elapsed: Duration) -> Self {
        let on = request_id.map(|id| format!(", on request {id}")).unwrap_or_default();
        let message = format!(
            "no sample of this client has finished for {:.1} s, so this one was given up after {:.1} s{on}; \
             the service may be stuck: sample again later, or set a longer progress_timeout(..)",
            silence.as_secs_f64(),
            elapsed.as_secs_f64()
        );
        let mut error = Self::new(ErrorKind::Stuck, ErrorCategory::Unknown, message);
        error.0.request_id = request_id.map(str::to_owned);
        error.0.attempts = polls;
        error.0.elapsed = elapsed;
        error.0.retryable = true;
        error
    }

    /// A `close` that met a connection being made and did not wait for it any longer.
    pub(crate) fn still_connecting(after: Duration) -> Self {
        let message = format!(
            "the service was still being connected after {:.1} s; close again to finish a session that comes about",
            after.as_secs_f64()
        );
        let mut error = Self::new(ErrorKind::Timeout, ErrorCategory::Unknown, message);
        error.0.retryable = true;
        error
    }

    pub(crate) fn sequence_conflict(http: HttpError, seq_id: u64, expected: u64) -> Self {
        let message = format!("{http}; sequence id {seq_id} was sent where the server expects {expected}");
        let mut error = Self::from(http);
        error.0.kind = ErrorKind::SequenceConflict;
        error.0.retryable = false;
        error.0.message = message;
        error.0.expected_seq_id = Some(expected);
        error
    }

    /// A custom loss that failed, of its own accord or by what it returned.
    pub(crate) fn custom_loss(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let cause = cause.into();
        let mut error =
            Self::new(ErrorKind::CustomLoss, ErrorCategory::User, format!("custom loss: {cause}"));
        error.0.source = Some(Arc::from(cause));
        error
    }

    /// An operation that was not sent because of one called before it.
    pub(crate) fn poisoned(cause: &Self) -> Self {
        let message = format!("an operation called before it failed, so this one was not sent: {cause}");
        let mut error = Self::new(ErrorKind::Poisoned, cause.category(), message);
        error.0.effect = Some(Effect::Nothing);
        error.0.source = Some(Arc::new(cause.clone()));
        error
    }

    /// An answer that lacks what the operation is about.
    pub(crate) fn incomplete(what: &str) -> Self {
        Self::new(ErrorKind::Decode, ErrorCategory::Server, what)
    }

    /// Adds what the failure has left at the server, in words and as a value.
    pub(crate) fn with_effect(mut self, effect: Effect, words: &str) -> Self {
        self.0.effect = Some(effect);
        self.0.message.push_str("; ");
        self.0.message.push_str(words);
        self
    }

    /// Puts words before the message.
    pub(crate) fn prefixed(mut self, words: &str) -> Self {
        self.0.message = format!("{words}: {}", self.0.message);
        self
    }

    /// Adds words to the message.
    pub(crate) fn noted(mut self, words: &str) -> Self {
        self.0.message.push_str("; ");
        self.0.message.push_str(words);
        self
    }

    /// Says how often the sample was submitted before it was given up.
    pub(crate) fn submitted(mut self, times: u32) -> Self {
        if times > 1 {
            self.0.message.push_str(&format!("; it was submitted {times} times and lost each time"));
        }
        self
    }

    /// A result that cannot be used, after that many polls and that much time.
    pub(crate) fn decode(
        error: impl Into<Box<dyn StdError + Send + Sync>>,
        request_id: &str,
        polls: u32,
        elapsed: Duration,
    ) -> Self {
        let source = error.into();
        let mut error = Self::new(
            ErrorKind::Decode,
            ErrorCategory::Server,
            format!(
                "result of request {request_id}: {source} (after {polls} poll{} in {:.1} s)",
                if polls == 1 { "" } else { "s" },
                elapsed.as_secs_f64()
            ),
        );
        error.0.attempts = polls;
        error.0.elapsed = elapsed;
        error.0.request_id = Some(request_id.to_owned());
        error.0.source = Some(Arc::from(source));
        error
    }

    /// Says how the result was encoded that cannot be used.
    pub(crate) fn of(mut self, encoding: PayloadEncoding) -> Self {
        self.0.encoding = Some(encoding);
        self
    }

    /// How a result was encoded that cannot be used.
    pub(crate) fn encoding(&self) -> Option<PayloadEncoding> {
        self.0.encoding
    }

    /// The failure this error was made from, where it was made from one of that type.
    pub(crate) fn origin<E: StdError + 'static>(&self) -> Option<&E> {
        let origin = self.0.source.as_deref()? as &(dyn StdError + 'static);
        origin.downcast_ref()
    }

    /// What happened, coarsely.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The HTTP status, where the server answered with an error status.
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// Whose fault it is: what the server said, else what kind and status imply.
    pub fn category(&self) -> ErrorCategory {
        self.0.category
    }

    /// The promise that failed, once there was one.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// The server's hint when to come back.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// HTTP attempts of the failed call, or polls of the failed promise. 0 where nothing was sent.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// How long the failed call or poll took, waits included. Zero where nothing was sent.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed
    }

    /// The sequence id the server expects, where it refused another one for that.
    pub fn expected_seq_id(&self) -> Option<u64> {
        self.0.expected_seq_id
    }

    /// What a failed training operation has done at the server, where that is known to be one of the few things that can
    /// be said; none for other errors. Those refused before anything was sent have done nothing; of an operation that the server
    /// took in and that failed there ([`RequestFailed`](ErrorKind::RequestFailed)) only the server knows. Of anything but [`Effect::Nothing`] the operation must not simply be made again,
    /// since its gradient or step may count twice; such an error is not [retryable](Self::is_retryable).
    pub fn effect(&self) -> Option<Effect> {
        self.0.effect
    }

    /// Whether the same request may succeed later, and may be made again without harm. The clients have already
    /// repeated it as far as their policy allows, so wait before trying again. Never of a training operation that was or
    /// may have been taken in, wholly or in part ([`effect`](Self::effect)).
    pub fn is_retryable(&self) -> bool {
        self.0.retryable && matches!(self.0.effect, None | Some(Effect::Nothing))
    }

    /// Whether the request or its arguments are at fault: the same request will fail again.
    pub fn is_user_error(&self) -> bool {
        self.0.category == ErrorCategory::User
    }
}

impl From<InvalidInput> for Error {
    fn from(input: InvalidInput) -> Self {
        let mut error = Self::new(ErrorKind::InvalidInput, ErrorCategory::User, input.to_string());
        error.0.source = Some(Arc::new(input));
        error
    }
}

/// So that `ModelInput::from_text(..)?` works beside the calls.
impl From<TokenizerError> for Error {
    fn from(tokenizer: TokenizerError) -> Self {
        let mut error = Self::new(ErrorKind::InvalidInput, ErrorCategory::User, tokenizer.to_string());
        error.0.source = Some(Arc::new(tokenizer));
        error
    }
}

impl From<DecodeError> for Error {
    fn from(decode: DecodeError) -> Self {
        let mut error = Self::new(ErrorKind::Decode, ErrorCategory::Server, decode.to_string());
        error.0.source = Some(Arc::new(decode));
        error
    }
}

impl From<HttpError> for Error {
    fn from(http: HttpError) -> Self {
        let kind = match http.kind() {
            HttpErrorKind::Timeout => ErrorKind::Timeout,
            HttpErrorKind::Status => ErrorKind::Status,
            HttpErrorKind::Decode => ErrorKind::Decode,
            HttpErrorKind::Auth => ErrorKind::Auth,
            HttpErrorKind::InvalidRequest => ErrorKind::InvalidInput,
            // Submissions are given up by closing the service; other calls that are given up have no caller left.
            HttpErrorKind::Abandoned => ErrorKind::Closed,
            _ => ErrorKind::Connection,
        };
        // Of a credential that could not be had, what its own error says.
        let auth = http.source().and_then(|cause| cause.downcast_ref::<AuthError>());
        let auth = auth.filter(|_| kind == ErrorKind::Auth).map(|auth| (auth.status(), auth.is_transient()));
        let (auth_status, passes) = auth.unwrap_or_default();
        // Other statuses are about the exchange alone, and must not be taken for the operation's.
        let status = http.status().or(auth_status.filter(|status| *status == 401));
        let category = if passes { ErrorCategory::Unknown } else { http.category() };
        let mut error = Self::new(kind, category, http.to_string());
        if matches!(status, Some(401)) {
            error.0.message.push_str("; check the API key");
        }
        if http.kind() == HttpErrorKind::Abandoned {
            error.0.message.push_str("; the service was closed");
        }
        error.0.status = status;
        error.0.retry_after = http.retry_after();
        error.0.attempts = http.attempts();
        error.0.elapsed = http.elapsed();
        error.0.retryable = match kind {
            ErrorKind::Connection | ErrorKind::Timeout => !http.is_permanent(),
            ErrorKind::Auth => passes,
            // 4xx are the user's unless the body says otherwise, so what is left here may pass. 410 and 501 never do.
            ErrorKind::Status => {
                http.category() != ErrorCategory::User
                    && matches!(status, Some(400..=409 | 411..=500 | 502..=599))
            }
            _ => false,
        };
        error.0.source = Some(Arc::new(http));
        error
    }
}

impl From<SessionPollError> for Error {
    /// Of a sample that was not submitted, since nobody would announce its result.
    fn from(ended: SessionPollError) -> Self {
        let status = ended.status();
        let kind = if status.is_some() { ErrorKind::Status } else { ErrorKind::Closed };
        let category = status.map_or(ErrorCategory::Unknown, ErrorCategory::of_status);
        let mut error =
            Self::new(kind, category, format!("nothing was sent: {ended}; make a new sampling client"));
        error.0.status = status;
        error.0.source = Some(Arc::new(ended));
        error
    }
}

impl From<PollError> for Error {
    fn from(poll: PollError) -> Self {
        let kind = match poll.kind() {
            PollErrorKind::Expired => ErrorKind::Expired,
            PollErrorKind::Timeout => ErrorKind::Timeout,
            PollErrorKind::Failed => ErrorKind::RequestFailed,
            PollErrorKind::Decode => ErrorKind::Decode,
            PollErrorKind::Outage => ErrorKind::Connection,
            PollErrorKind::SessionPoll if poll.status().is_none() => ErrorKind::Closed,
            _ => ErrorKind::Status,
        };
        let mut error = Self::new(kind, poll.category(), poll.to_string());
        if matches!(kind, ErrorKind::Connection | ErrorKind::Timeout)
            && let Some(last) = poll.source()
        {
            // That nothing but failures came says nothing of what to do about them.
            error.0.message.push_str(&format!("; the last failure: {last}"));
        }
        error.0.status = poll.status();
        error.0.request_id = Some(poll.request_id().to_owned());
        error.0.attempts = poll.polls();
        error.0.elapsed = poll.elapsed();
        error.0.retryable = match kind {
            ErrorKind::Expired | ErrorKind::Timeout | ErrorKind::Connection => true,
            ErrorKind::RequestFailed => poll.category() != ErrorCategory::User,
            _ => false,
        };
        error.0.source = Some(Arc::new(poll));
        error
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("request_id", &self.0.request_id)
            .finish_non_exhaustive()
    }
}

impl StdError for Error {
    /// The first cause whose text the message does not hold already, so that a printed chain says nothing twice. Of a
    /// custom loss the error that it gave, which the caller may want back as what it is.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let mut cause = self.0.source.as_deref().map(|e| e as &(dyn StdError + 'static));
        if self.0.kind == ErrorKind::CustomLoss {
            return cause;
        }
        while let Some(told) = cause.filter(|cause| self.0.message.contains(&cause.to_string())) {
            cause = told.source();
        }
        cause
    }
}
