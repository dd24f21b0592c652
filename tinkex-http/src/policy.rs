//! How long a call is worth repeating.

use std::time::Duration;

use crate::Backoff;

/// The limits of the retry loop. Throttling (429 behind a gate) and billing pauses wait outside these limits, since
/// the server asked for the wait; [`billing_pause`](Self::billing_pause) bounds the latter.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// The most retries after the first attempt; none is no limit of count. Default 10.
    pub max_retries: Option<u32>,
    /// Give up at the first failure that comes this long after the first one; none is no limit of time, zero is no
    /// retry. A wait or an attempt that has begun is not cut short by it; [`ApiRequest::deadline`] does that. Default
    /// 5 minutes.
    ///
    /// [`ApiRequest::deadline`]: crate::ApiRequest::deadline
    pub max_elapsed: Option<Duration>,
    /// The delays between attempts, where the server gives no hint.
    pub backoff: Backoff,
    /// How long 402 answers are waited out. Default 1 hour.
    pub billing_pause: Duration,
    enabled: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_retries: Some(10),
            max_elapsed: Some(Duration::from_secs(300)),
            backoff: Backoff::default(),
            billing_pause: Duration::from_secs(3600),
            enabled: true,
        }
    }
}

impl RetryPolicy {
    /// One attempt, whatever happens. A 429 still penalises the shared gate (C-3).
    pub fn none() -> Self {
        Self { enabled: false, ..Self::default() }
    }

    /// No limit of count, `max_elapsed` since the first failure: for work that is worth waiting for.
    pub fn patient(max_elapsed: Duration) -> Self {
        Self { max_retries: None, max_elapsed: Some(max_elapsed), ..Self::default() }
    }

    /// Sets the most retries after the first attempt; none for no limit of count.
    #[must_use]
    pub fn max_retries(mut self, max_retries: impl Into<Option<u32>>) -> Self {
        self.max_retries = max_retries.into();
        self
    }

    /// Sets the time, counted from the first failure, after which no failure is repeated any more; none for no limit.
    #[must_use]
    pub fn max_elapsed(mut self, max_elapsed: impl Into<Option<Duration>>) -> Self {
        self.max_elapsed = max_elapsed.into();
        self
    }

    /// Sets the delays.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets how long 402 answers are waited out.
    #[must_use]
    pub fn billing_pause(mut self, billing_pause: Duration) -> Self {
        self.billing_pause = billing_pause;
        self
    }

    /// Whether anything is repeated at all.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }
}
