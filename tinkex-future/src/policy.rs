//! The limits of a poll, and the waits between two asks.
//!
//! Every wait this module computes is at most [`LONGEST_WAIT`]; all arithmetic saturates.

use std::time::Duration;

/// No wait between two polls is longer than this, whatever a server asks for.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How often a 400 is polled again before it is believed (PROTOCOL 16.3).
pub(crate) const REJECTION_RETRIES: u32 = 3;
/// The pause after a 402 (PROTOCOL 7.4).
pub(crate) const BILLING_WAIT: Duration = Duration::from_secs(5);
/// A 402 this long after the one before is a new incident (PROTOCOL 7.4).
pub(crate) const BILLING_INCIDENT: Duration = Duration::from_secs(300);
/// The least time between two warnings about the same kind of trouble.
pub(crate) const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// When a poll gives up, and what counts as an answer that came too fast.
///
/// The delays themselves are fixed by the protocol. Make one with [`PollPolicy::default`] and the setters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PollPolicy {
    /// The time the whole poll may take, from the call. Default none: a promise may be pending for hours.
    /// [`Duration::ZERO`] fails at once.
    pub deadline: Option<Duration>,
    /// How long server errors and connection failures may follow each other without any other answer. Default
    /// 30 minutes.
    pub outage_limit: Duration,
    /// How long a billing pause (402) is waited out. Default one hour.
    pub billing_pause: Duration,
    /// A "still pending" that came back sooner than this was not held by the server, so the next poll waits a
    /// little. Default 500 ms.
    pub fast_answer: Duration,
}

impl Default for PollPolicy {
    fn default() -> Self {
        Self {
            deadline: None,
            outage_limit: Duration::from_secs(30 * 60),
            billing_pause: Duration::from_secs(3600),
            fast_answer: Duration::from_millis(500),
        }
    }
}

impl PollPolicy {
    /// Sets the time the whole poll may take; none for no limit.
    #[must_use]
    pub fn deadline(mut self, deadline: impl Into<Option<Duration>>) -> Self {
        self.deadline = deadline.into();
        self
    }

    /// Sets how long an unbroken outage is waited out.
    #[must_use]
    pub fn outage_limit(mut self, limit: Duration) -> Self {
        self.outage_limit = limit;
        self
    }

    /// Sets how long a billing pause is waited out.
    #[must_use]
    pub fn billing_pause(mut self, limit: Duration) -> Self {
        self.billing_pause = limit;
        self
    }

    /// Sets the bound under which a "still pending" counts as too fast.
    #[must_use]
    pub fn fast_answer(mut self, bound: Duration) -> Self {
        self.fast_answer = bound;
        self
    }
}

/// The wait after the `n`-th (from 0) "still pending" in a row that came too fast: 50 ms, doubling, at most 1 s.
pub(crate) fn after_fast_pending(n: u32) -> Duration {
    doubling(Duration::from_millis(50), n, Duration::from_secs(1))
}

/// The wait after the `n`-th server error in a row: 0.5 s, doubling, at most 10 s.
pub(crate) fn after_server_error(n: u32) -> Duration {
    doubling(Duration::from_millis(500), n, Duration::from_secs(10))
}

/// The wait after the `n`-th 429 or connection failure in a row: 1 s, doubling, at most 30 s (PROTOCOL 16.3).
pub(crate) fn after_setback(n: u32) -> Duration {
    doubling(Duration::from_secs(1), n, Duration::from_secs(30))
}

/// The wait after the `n`-th 400: 50, 100, 200 ms.
pub(crate) fn after_rejection(n: u32) -> Duration {
    doubling(Duration::from_millis(50), n, Duration::from_millis(200))
}

/// Takes up to a quarter off a delay, so that many polls do not move in step. `random` is in `[0, 1)`.
pub(crate) fn jittered(delay: Duration, random: f64) -> Duration {
    let random = if random.is_finite() { random.clamp(0.0, 1.0) } else { 0.0 };
    delay.min(LONGEST_WAIT).mul_f64(1.0 - 0.25 * random)
}

/// A server's hint, where it may be believed as it is: more than nothing and at most [`LONGEST_WAIT`].
pub(crate) fn honoured(hint: Option<Duration>) -> Option<Duration> {
    hint.filter(|wait| !wait.is_zero() && *wait <= LONGEST_WAIT)
}

fn doubling(base: Duration, n: u32, longest: Duration) -> Duration {
    base.saturating_mul(1_u32.checked_shl(n).unwrap_or(u32::MAX)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Growth and caps, at the edges of the counter too.
    #[test]
    fn delays_double_up_to_their_cap() {
        let seconds: Vec<_> = (0..8).map(|n| after_setback(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30, 30]);
        let millis: Vec<_> = (0..7).map(|n| after_fast_pending(n).as_millis()).collect();
        assert_eq!(millis, [50, 100, 200, 400, 800, 1000, 1000]);
        let millis: Vec<_> = (0..7).map(|n| after_server_error(n).as_millis()).collect();
        assert_eq!(millis, [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        for n in [31, 32, u32::MAX] {
            assert_eq!(after_setback(n), Duration::from_secs(30));
            assert_eq!(after_server_error(n), Duration::from_secs(10));
        }
    }

    /// Jitter takes between nothing and a quarter, whatever number it is given.
    #[test]
    fn jitter_stays_in_its_band() {
        let ten = Duration::from_secs(10);
        assert_eq!(jittered(ten, 0.0), ten);
        assert_eq!(jittered(ten, 1.0), Duration::from_millis(7500));
        for odd in [f64::NAN, f64::INFINITY, -3.0, 17.0] {
            assert!((Duration::from_millis(7500)..=ten).contains(&jittered(ten, odd)), "{odd}");
        }
        assert_eq!(jittered(Duration::MAX, 0.0), LONGEST_WAIT);
    }

    /// RL-6: the header rule at its bounds.
    #[test]
    fn hints_are_honoured_within_a_minute() {
        assert_eq!(honoured(None), None);
        assert_eq!(honoured(Some(Duration::ZERO)), None);
        assert_eq!(honoured(Some(LONGEST_WAIT)), Some(LONGEST_WAIT));
        assert_eq!(honoured(Some(LONGEST_WAIT + Duration::from_millis(1))), None);
    }
}
