//! The built-in pause logger: one instance per client, fed with every observation (C-12).

use std::time::Duration;

use tinkex_types::{ClientKind, QueueState, QueueStateChange, QueueStateObserver};
use tokio::time::Instant;

use crate::debounce::DebounceClock;
use crate::grace::StateAge;
use crate::{LogPolicy, LogWording};

/// Writes a WARN line when work is held back, at most one per interval.
///
/// It takes **every** observation, not only transitions: a state that began inside the interval and lasts is told
/// when the interval is over, and a long pause is told again each time (C-12). [`QueueState::Active`] is never
/// logged and does not touch the clock (S2-11). The clock belongs to the instance, so each client needs its own
/// (S2-25); any number of threads may call it, and one line comes out (QS-3).
///
/// Lines go through [`tracing`] at WARN, target `tinkex_observer`, with the fields `client` (`sampling`, `training`,
/// `model_creation`), `id`, `queue_state` (the server's word) and `reason`.
///
/// [`on_queue_state_change`](QueueStateObserver::on_queue_state_change) carries neither client nor id, so called
/// directly it does nothing.
#[derive(Debug)]
pub struct QueueStateLogger {
    policy: LogPolicy,
    /// One per class of states. Without `per_state`, only the first is used.
    clocks: [DebounceClock; 3],
    age: StateAge,
}

impl QueueStateLogger {
    /// A logger that has not logged yet.
    pub fn new(policy: LogPolicy) -> Self {
        let origin = Instant::now();
        Self { policy, clocks: std::array::from_fn(|_| DebounceClock::new(origin)), age: StateAge::default() }
    }

    /// The settings.
    pub fn policy(&self) -> &LogPolicy {
        &self.policy
    }

    /// When this logger wrote its latest line; none where it has not written any.
    pub fn last_logged(&self) -> Option<Instant> {
        self.clocks.iter().filter_map(DebounceClock::last).max()
    }

    fn observe(&self, seen: &QueueStateChange) {
        let now = Instant::now();
        let grace = self.policy.grace_for(seen.client);
        // Active is noted too, as it ends the state before, but goes no further.
        let lasted = grace.is_zero() || self.age.note(&seen.state, now) >= grace;
        if seen.state.is_active() || !lasted || !self.clock_for(&seen.state).claim(now, self.policy.interval)
        {
            return;
        }
        let wording = self.policy.wording;
        let reason = wording.reason(&seen.state, seen.client, seen.reason.as_deref());
        write_line(wording, &seen.state, seen.client, &seen.client_id, reason);
    }

    fn clock_for(&self, state: &QueueState) -> &DebounceClock {
        let [first, second, third] = &self.clocks;
        match state {
            QueueState::PausedCapacity if self.policy.per_state => second,
            QueueState::Unknown(_) if self.policy.per_state => third,
            _ => first,
        }
    }
}

impl Default for QueueStateLogger {
    fn default() -> Self {
        Self::new(LogPolicy::default())
    }
}

impl QueueStateObserver for QueueStateLogger {
    fn on_change(&self, change: &QueueStateChange) {
        self.observe(change);
    }

    fn on_observation(&self, observation: &QueueStateChange) {
        self.observe(observation);
    }
}

/// True where a line may be written: none was yet, or the last one is at least `interval` old (S2-12, S2-13). A
/// `last` later than `now` counts as just written.
pub fn should_log(last: Option<Instant>, now: Instant, interval: Duration) -> bool {
    last.is_none_or(|last| now.saturating_duration_since(last) >= interval)
}

/// Writes the line for a state in the default wording, without any debounce (S2-14). [`QueueState::Active`] writes
/// nothing; a blank id prints `unknown`.
pub fn log_state_change(state: &QueueState, client: ClientKind, id: &str) {
    if !state.is_active() {
        let wording = LogWording::default();
        write_line(wording, state, client, id, wording.default_reason(state, client));
    }
}

fn write_line(wording: LogWording, state: &QueueState, client: ClientKind, id: &str, reason: &str) {
    tracing::warn!(
        target: "tinkex_observer",
        client = client.label(),
        id,
        queue_state = state.as_str(),
        reason,
        "{}",
        wording.line(client, id, reason),
    );
}
