//! The wall clock, behind a seam: the one place that reads it. Only HTTP dates in `Retry-After` and the expiry of tokens
//! need it; every duration is measured on tokio's clock.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// Tells the time of day. The default is the system's; tests fix it.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl WallClock {
    /// A clock that asks `now`.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// A clock that stands still.
    pub fn fixed(at: SystemTime) -> Self {
        Self::new(move || at)
    }

    /// The time of day.
    pub fn now(&self) -> SystemTime {
        (self.0)()
    }
}

impl Default for WallClock {
    #[allow(clippy::disallowed_methods, reason = "the seam itself")]
    fn default() -> Self {
        Self::new(SystemTime::now)
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}
