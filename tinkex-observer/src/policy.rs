//! What the pause logger does and when: [`LogPolicy`], and [`QueueLog`] to turn it off.

use std::time::Duration;

use tinkex_types::ClientKind;

use crate::LogWording;

/// The shortest time between two lines of one client: 60 s (S2-12).
pub const DEFAULT_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The grace period that the reference SDK 0.38 gives training and model creation (PROTOCOL 17.3).
const RELEASE_0_38_GRACE: Duration = Duration::from_secs(15 * 60);

/// Settings of a [`QueueStateLogger`](crate::QueueStateLogger).
///
/// The default: the first pause logs at once, then at most one line per 60 s and client, in
/// [`LogWording::Bare`].
///
/// ```
/// use std::time::Duration;
/// use tinkex_observer::{LogPolicy, LogWording};
///
/// let policy = LogPolicy::new().interval(Duration::from_secs(300)).wording(LogWording::V0_38);
/// assert_ne!(policy, LogPolicy::default());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPolicy {
    pub(crate) interval: Duration,
    pub(crate) per_state: bool,
    pub(crate) grace: Duration,
    pub(crate) sampling_grace: Duration,
    pub(crate) wording: LogWording,
}

impl LogPolicy {
    /// The default settings.
    pub fn new() -> Self {
        Self {
            interval: DEFAULT_LOG_INTERVAL,
            per_state: false,
            grace: Duration::ZERO,
            sampling_grace: Duration::ZERO,
            wording: LogWording::Bare,
        }
    }

    /// Wording and timing of a release of the reference SDK: for [`LogWording::V0_38`] a grace period of 15 min for
    /// training and model creation, for all others none.
    ///
    /// Release 0.25 to 0.36 is this wording without grace: `LogPolicy::new().wording(LogWording::V0_38)`.
    pub fn of_release(wording: LogWording) -> Self {
        let grace = if wording == LogWording::V0_38 { RELEASE_0_38_GRACE } else { Duration::ZERO };
        Self::new().wording(wording).grace(grace).sampling_grace(Duration::ZERO)
    }

    /// The shortest time between two lines; exactly this long is enough. Default 60 s; zero logs every observation
    /// of a pause.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// With `true`, each state (rate limit, capacity, anything else) has a clock of its own, so a client that goes
    /// from one pause to another tells both at once. Default `false`: one clock per client (C-7).
    #[must_use]
    pub fn per_state(mut self, per_state: bool) -> Self {
        self.per_state = per_state;
        self
    }

    /// Nothing is logged until the client has been in the same non-active state for this long; exactly this long is
    /// enough. Default: none.
    ///
    /// A change from one pause to another starts the time anew, as does [`Active`](crate::QueueState::Active); a
    /// changed reason does not (PROTOCOL 17.3). Sets the period for clients of every kind.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self.sampling_grace = grace;
        self
    }

    /// The grace period of sampling clients alone; call it after [`grace`](Self::grace).
    #[must_use]
    pub fn sampling_grace(mut self, grace: Duration) -> Self {
        self.sampling_grace = grace;
        self
    }

    /// The words of the lines. Default [`LogWording::Bare`].
    #[must_use]
    pub fn wording(mut self, wording: LogWording) -> Self {
        self.wording = wording;
        self
    }

    /// The grace period for a kind of client.
    pub(crate) fn grace_for(&self, client: ClientKind) -> Duration {
        match client {
            ClientKind::Sampling => self.sampling_grace,
            _ => self.grace,
        }
    }
}

impl Default for LogPolicy {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether the built-in pause logger runs (C-6, S2-19). User observers and metrics are not affected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueLog {
    /// Pauses are logged by this policy; the default, with the default policy.
    On(LogPolicy),
    /// No pause lines.
    Off,
}

impl Default for QueueLog {
    fn default() -> Self {
        Self::On(LogPolicy::default())
    }
}

impl From<LogPolicy> for QueueLog {
    fn from(policy: LogPolicy) -> Self {
        Self::On(policy)
    }
}
