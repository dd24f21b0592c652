//! Why a poll ended without a result.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tinkex_types::{ErrorCategory, RequestType};

use crate::BoxError;

/// The coarse reason a poll failed; decide on it, and read the details from the accessors of [`PollError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PollErrorKind {
    /// The server says the operation failed: a 200 with an error, or a 400, 409 or 422 with an explanation.
    /// [`PollError::category`] says who is to blame. Final: the same promise never succeeds.
    Failed,
    /// The server forgot the promise (410). Submitting the operation anew is the only way on.
    Expired,
    /// A status that polling again cannot mend, or a billing pause (402) that lasted too long.
    Status(u16),
    /// The deadline passed. The promise may still be pending: poll it again by its id. The last failure, where
    /// there was one, is the source.
    Timeout,
    /// Server errors or connection failures, and nothing else, for longer than the limit.
    Outage,
    /// The answer could not be read, or broke the protocol.
    Decode,
    /// The session poller that announces results gave up; the promise itself was not polled.
    SessionPoll,
}

impl PollErrorKind {
    /// A label from a closed set, for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Status(_) => "status",
            Self::Timeout => "timeout",
            Self::Outage => "outage",
            Self::Decode => "decode",
            Self::SessionPoll => "session_poll",
        }
    }
}

/// A poll that ended without a result.
///
/// Prints as `sample request req-7 failed after 3 polls in 2.1 s: <message>`, without its source.
pub struct PollError(Box<Inner>);

pub(crate) struct Inner {
    pub(crate) kind: PollErrorKind,
    pub(crate) request_id: Arc<str>,
    pub(crate) request_type: RequestType,
    pub(crate) polls: u32,
    pub(crate) elapsed: Duration,
    pub(crate) category: ErrorCategory,
    pub(crate) status: Option<u16>,
    pub(crate) message: String,
    pub(crate) source: Option<BoxError>,
}

impl PollError {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Box::new(inner))
    }

    /// The coarse reason.
    pub fn kind(&self) -> PollErrorKind {
        self.0.kind
    }

    /// The promise that was polled; polling can be taken up again with it.
    pub fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// What the promise was for.
    pub fn request_type(&self) -> RequestType {
        self.0.request_type
    }

    /// How often the server was asked.
    pub fn polls(&self) -> u32 {
        self.0.polls
    }

    /// The time from the call to the failure.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed
    }

    /// Who is to blame: as the server says, else as the status implies.
    pub fn category(&self) -> ErrorCategory {
        self.0.category
    }

    /// The HTTP status that decided, where one did. None for a failure sent with a 2xx.
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// What went wrong, in the server's words where it had any; cut to a reasonable length.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for PollError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        for (at, letter) in inner.request_type.as_str().chars().enumerate() {
            // `ForwardBackward` reads as `forward backward`.
            if letter.is_ascii_uppercase() && at > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{}", letter.to_ascii_lowercase())?;
        }
        let polls = inner.polls;
        let noun = if polls == 1 { "poll" } else { "polls" };
        let seconds = inner.elapsed.as_secs_f64();
        write!(
            f,
            " request {} failed after {polls} {noun} in {seconds:.1} s: {}",
            inner.request_id, inner.message
        )
    }
}

impl fmt::Debug for PollError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.debug_struct("PollError")
            .field("kind", &inner.kind)
            .field("request_id", &inner.request_id)
            .field("request_type", &inner.request_type)
            .field("polls", &inner.polls)
            .field("elapsed", &inner.elapsed)
            .field("category", &inner.category)
            .field("status", &inner.status)
            .field("message", &inner.message)
            .field("source", &inner.source)
            .finish()
    }
}

impl Error for PollError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// A failure that a poll got over, kept as the source of the error that ends it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct PassingFailure(pub(crate) String);
