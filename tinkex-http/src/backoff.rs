//! How far apart attempts are (PROTOCOL 7.1).

use std::time::Duration;

/// Exponential backoff: `base · 2^n`, at most `cap`, shortened at random by up to `jitter` (PROTOCOL 7.1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The first delay. Default 0.5 s.
    pub base: Duration,
    /// The longest delay. Default 10 s.
    pub cap: Duration,
    /// The fraction, 0 to 1, by which a delay may be shortened. Default 0.25.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_millis(500), cap: Duration::from_secs(10), jitter: 0.25 }
    }
}

impl Backoff {
    /// The delay after `retries` retries, for a random number in [0, 1). Never longer than `cap`.
    pub fn delay(&self, retries: u32, random: f64) -> Duration {
        let factor = 2f64.powi(retries.min(1000).try_into().unwrap_or(i32::MAX));
        let full = (self.base.as_secs_f64() * factor).min(self.cap.as_secs_f64());
        let share = 1.0 - self.jitter.clamp(0.0, 1.0) * random.clamp(0.0, 1.0);
        Duration::try_from_secs_f64(full * share).unwrap_or(self.cap).min(self.cap)
    }
}
