//! The retry budget: how fast retries may follow each other, over all calls that share it.
//!
//! A thousand calls that fail at once must not become ten thousand attempts a second. Each retry takes a token; the
//! bucket refills at a steady rate. When it is empty a retry waits for its token instead of failing: a long job would
//! rather be late than lose work, and each call's own limits still end it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::GateKey;

/// A token bucket for retries, shared by the calls to one service.
#[derive(Debug)]
pub struct RetryBudget {
    burst: f64,
    per_second: f64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// Negative while retries wait for tokens that are still to come.
    tokens: f64,
    refilled: Instant,
}

impl Default for RetryBudget {
    /// 500 retries at once, 100 a second after that.
    fn default() -> Self {
        Self::new(500, 100)
    }
}

impl RetryBudget {
    /// A bucket that holds `burst` tokens and gains `per_second`; both at least 1.
    pub fn new(burst: u32, per_second: u32) -> Self {
        let burst = f64::from(burst.max(1));
        let bucket = Bucket { tokens: burst, refilled: Instant::now() };
        Self { burst, per_second: f64::from(per_second.max(1)), bucket: Mutex::new(bucket) }
    }

    /// The process-wide budget of a service and key: a second client must not double the rate of retries. Budgets that
    /// nobody holds are forgotten once they are full again.
    pub fn for_key(key: &GateKey) -> Arc<Self> {
        static BUDGETS: LazyLock<Mutex<HashMap<GateKey, Arc<RetryBudget>>>> = LazyLock::new(Mutex::default);
        let mut budgets = BUDGETS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(budget) = budgets.get(key) {
            return Arc::clone(budget);
        }
        budgets.retain(|_, budget| Arc::strong_count(budget) > 1 || !budget.is_full());
        let budget = Arc::new(Self::default());
        budgets.insert(key.clone(), Arc::clone(&budget));
        budget
    }

    fn is_full(&self) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        self.refill(&mut bucket);
        bucket.tokens >= self.burst
    }

    fn refill(&self, bucket: &mut Bucket) {
        let now = Instant::now();
        let gained = now.saturating_duration_since(bucket.refilled).as_secs_f64() * self.per_second;
        bucket.tokens = (bucket.tokens + gained).min(self.burst);
        bucket.refilled = now;
    }

    /// Takes a token and says how long to wait for it; zero while the bucket is not empty.
    pub fn take(&self) -> Duration {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        self.refill(&mut bucket);
        bucket.tokens -= 1.0;
        Duration::try_from_secs_f64((-bucket.tokens).max(0.0) / self.per_second).unwrap_or(Duration::MAX)
    }

    /// Takes a token that goes back into the bucket unless it is spent, so that retries which are never made (the
    /// deadline is too near, the caller gave up) do not slow down those that are.
    pub(crate) fn reserve(&self) -> Reserved<'_> {
        Reserved { wait: self.take(), budget: Some(self) }
    }
}

/// A token that has been taken and not yet spent.
#[derive(Debug)]
pub(crate) struct Reserved<'a> {
    wait: Duration,
    budget: Option<&'a RetryBudget>,
}

impl Reserved<'_> {
    /// How long to wait before the retry.
    pub(crate) fn wait(&self) -> Duration {
        self.wait
    }

    /// The retry is made.
    pub(crate) fn spend(mut self) {
        self.budget = None;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Some(budget) = self.budget {
            budget.bucket.lock().unwrap_or_else(PoisonError::into_inner).tokens += 1.0;
        }
    }
}
