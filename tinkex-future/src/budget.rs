//! A budget of bytes (PROTOCOL 12.5): bounds the memory that results, or requests, in flight may take.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A byte semaphore that one holder may overdraw (PROTOCOL 12.5).
///
/// [`acquire`](Self::acquire) waits while the balance is *negative* and then subtracts. So a request larger than the
/// whole budget still passes, alone, and with a balance of 0 one more request passes. Waiters pass in the order they
/// came. Dropping a waiting future gives its place up; dropping a [`BudgetPermit`] gives its bytes back.
///
/// ```
/// # use std::sync::Arc;
/// # use tinkex_future::ByteBudget;
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let budget = Arc::new(ByteBudget::new(10));
/// let held = [budget.acquire(4).await, budget.acquire(4).await, budget.acquire(4).await];
/// assert_eq!(budget.available(), -2); // the fourth would wait
/// drop(held);
/// assert_eq!(budget.available(), 10);
/// # }
/// ```
pub struct ByteBudget {
    limit: u64,
    // u128: any number of permits of any size sum up without overflow.
    in_use: Mutex<u128>,
    // One waiter at a time looks at the balance; tokio's mutex queues the others first come, first served.
    turnstile: tokio::sync::Mutex<()>,
    released: Notify,
}

impl ByteBudget {
    /// A budget of `limit` bytes. With 0, one request passes at a time.
    pub fn new(limit: u64) -> Self {
        Self { limit, in_use: Mutex::new(0), turnstile: tokio::sync::Mutex::new(()), released: Notify::new() }
    }

    /// Takes `bytes`, once the balance is not negative and everyone who came before has passed.
    pub async fn acquire(self: &Arc<Self>, bytes: u64) -> BudgetPermit {
        let _turn = self.turnstile.lock().await;
        loop {
            if let Some(permit) = self.take(bytes) {
                return permit;
            }
            // A release between the look and this await leaves a stored wake-up, so it cannot be missed.
            self.released.notified().await;
        }
    }

    /// Takes `bytes` if that is possible without waiting and without overtaking anyone.
    pub fn try_acquire(self: &Arc<Self>, bytes: u64) -> Option<BudgetPermit> {
        let _turn = self.turnstile.try_lock().ok()?;
        self.take(bytes)
    }

    /// The balance, in bytes; negative while a holder has overdrawn it.
    pub fn available(&self) -> i64 {
        let balance =
            i128::from(self.limit).saturating_sub(i128::try_from(*self.lock()).unwrap_or(i128::MAX));
        i64::try_from(balance).unwrap_or(if balance < 0 { i64::MIN } else { i64::MAX })
    }

    /// The bytes that permits hold now.
    pub fn in_use(&self) -> u64 {
        u64::try_from(*self.lock()).unwrap_or(u64::MAX)
    }

    /// The size of the budget, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    fn take(self: &Arc<Self>, bytes: u64) -> Option<BudgetPermit> {
        let mut in_use = self.lock();
        if *in_use > u128::from(self.limit) {
            return None;
        }
        *in_use = in_use.saturating_add(u128::from(bytes));
        drop(in_use);
        Some(BudgetPermit { budget: Arc::clone(self), bytes })
    }

    fn lock(&self) -> MutexGuard<'_, u128> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ByteBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteBudget").field("limit", &self.limit).field("in_use", &self.in_use()).finish()
    }
}

/// Bytes taken from a [`ByteBudget`]; given back on drop.
#[must_use = "dropping the permit gives the bytes back"]
pub struct BudgetPermit {
    budget: Arc<ByteBudget>,
    bytes: u64,
}

impl BudgetPermit {
    /// How many bytes this permit holds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl fmt::Debug for BudgetPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetPermit").field("bytes", &self.bytes).finish()
    }
}

impl Drop for BudgetPermit {
    fn drop(&mut self) {
        let mut in_use = self.budget.lock();
        *in_use = in_use.saturating_sub(u128::from(self.bytes));
        drop(in_use);
        // Only the holder of the turnstile waits, so one wake-up is enough; it is stored if nobody waits.
        self.budget.released.notify_one();
    }
}
