//! The backoff gate: after a 429, when may anybody knock again? (REQUIREMENTS 1.4)
//!
//! One gate per service and key, shared by every client in the process. The window only grows: a penalty takes the
//! maximum of the old and the new end, and a success never shortens it. Waiters look again after waking, since the
//! window may have grown, and leave spread out, so that its end is no stampede.

use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use secrecy::ExposeSecret;
use tinkex_metrics::contract;
use tokio::time::Instant;

use crate::{AuthProvider, BaseUrl};

/// Asked before every attempt of a call that carries one; told of every 429.
///
/// [`BackoffGate`] is the plain one. A client that also limits how many requests are being sent wraps it and returns
/// its permit, which is held for exactly one attempt.
pub trait AttemptGate: Send + Sync {
    /// Waits until an attempt may start. Must be cancel-safe.
    fn admit(&self) -> Admission<'_>;

    /// The server answered 429, or 402 and the call waits for the billing pause to end, and gave this hint, if any.
    /// Called while the attempt's permit is still held, so that the next in line finds the gate closed. A 429 is told
    /// whether or not the call is tried again (C-3).
    fn throttled(&self, hint: Option<Duration>);

    /// The server answered an attempt with an error status. A gate that knows what the words mean may overrule the
    /// decision table; the default does not.
    fn refused(&self, refusal: &Refusal<'_>) -> Ruling {
        let _ = refusal;
        Ruling::AsUsual
    }
}

impl<T: AttemptGate + ?Sized> AttemptGate for Arc<T> {
    fn admit(&self) -> Admission<'_> {
        T::admit(self)
    }

    fn throttled(&self, hint: Option<Duration>) {
        T::throttled(self, hint);
    }

    fn refused(&self, refusal: &Refusal<'_>) -> Ruling {
        T::refused(self, refusal)
    }
}

/// An answer with an error status, as a gate gets to see it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Refusal<'a> {
    /// The status.
    pub status: u16,
    /// The body, decompressed.
    pub body: &'a [u8],
}

/// What a gate makes of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The decision table decides.
    AsUsual,
    /// The refusal is final, whatever the table says.
    Final,
}

/// The wait before an attempt.
pub type Admission<'a> = Pin<Box<dyn Future<Output = AttemptPermit> + Send + 'a>>;

/// Held while an attempt runs; whatever it holds is released when it is dropped.
pub struct AttemptPermit(#[allow(dead_code, reason = "held for its drop")] Option<Box<dyn Send>>);

impl AttemptPermit {
    /// A permit that holds nothing.
    pub fn free() -> Self {
        Self(None)
    }

    /// A permit that holds `held` until the attempt ends.
    pub fn holding(held: impl Send + 'static) -> Self {
        Self(Some(Box::new(held)))
    }
}

impl std::fmt::Debug for AttemptPermit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AttemptPermit")
    }
}

/// Who shares a gate: everybody who talks to the same service (scheme, host, port, path) with the same key. The key
/// itself is not kept, only two keyed hashes of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GateKey {
    service: String,
    credential: [u64; 2],
}

impl GateKey {
    /// The key for a service and a credential.
    pub fn new(base_url: &BaseUrl, credential: &[u8]) -> Self {
        static HASHERS: LazyLock<[RandomState; 2]> =
            LazyLock::new(|| [RandomState::new(), RandomState::new()]);
        Self {
            service: base_url.as_str().to_owned(),
            credential: [HASHERS[0].hash_one(credential), HASHERS[1].hash_one(credential)],
        }
    }
}

impl GateKey {
    /// The key for a service and whoever a provider speaks for.
    pub(crate) fn of(base_url: &BaseUrl, auth: &dyn AuthProvider) -> Self {
        Self::new(base_url, auth.identity().expose_secret().as_bytes())
    }
}

/// A window during which nobody sends: after a 429, when may anybody knock again? (REQUIREMENTS 1.4)
///
/// One gate per service and key, shared by every client in the process. The window only grows: a penalty takes the
/// maximum of the old and the new end, and a success never shortens it. Waiters look again after waking, since the
/// window may have grown, and leave spread out, so that its end is no stampede.
#[derive(Debug)]
pub struct BackoffGate {
    origin: Instant,
    /// Nanoseconds after `origin` at which the window ends; 0 is "never penalised".
    until: AtomicU64,
    /// Nanoseconds over which waiters leave after the window.
    spread: AtomicU64,
    /// Whose gate it is, for the metrics.
    label: &'static str,
}

static GATES: LazyLock<Mutex<HashMap<GateKey, Arc<BackoffGate>>>> = LazyLock::new(Mutex::default);

impl Default for BackoffGate {
    fn default() -> Self {
        Self::labelled("own")
    }
}

impl BackoffGate {
    /// Waiters leave over at most this long after a window, and over a quarter of the window at most.
    const LONGEST_SPREAD: Duration = Duration::from_secs(1);

    /// The penalty for a 429 without a hint (PROTOCOL 15.4, small request).
    const DEFAULT_PENALTY: Duration = Duration::from_secs(1);

    /// A gate of its own, under this label in the metrics (`docs/metrics.md`, label `gate`).
    pub fn labelled(label: &'static str) -> Self {
        Self { origin: Instant::now(), until: AtomicU64::new(0), spread: AtomicU64::new(0), label }
    }

    /// The process-wide gate for a key, `shared` in the metrics. Gates that nobody holds and whose window is over are forgotten; a running
    /// window is kept, so a new client cannot escape it.
    pub fn for_key(key: &GateKey) -> Arc<Self> {
        let mut gates = GATES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(key) {
            return Arc::clone(gate);
        }
        gates.retain(|_, gate| Arc::strong_count(gate) > 1 || gate.in_backoff());
        let gate = Arc::new(Self::labelled("shared"));
        gates.insert(key.clone(), Arc::clone(&gate));
        gate
    }

    /// No window is longer, whatever was asked: the gate belongs to the whole process, and a mistaken unit must not
    /// close it for good.
    pub const LONGEST_WINDOW: Duration = Duration::from_secs(24 * 3600);

    /// Closes the gate for at least `penalty` from now; for a day at most. A window that ends later stays as it is.
    pub fn penalise(&self, penalty: Duration) {
        let penalty = penalty.min(Self::LONGEST_WINDOW);
        let now = Instant::now().saturating_duration_since(self.origin);
        let end = nanoseconds(now.saturating_add(penalty));
        let before = self.until.fetch_max(end, Ordering::AcqRel);
        if before < end {
            self.spread.store(nanoseconds((penalty / 4).min(Self::LONGEST_SPREAD)), Ordering::Release);
            let closed_anyway = before.max(nanoseconds(now));
            let longer = Duration::from_nanos(end.saturating_sub(closed_anyway));
            contract::BACKOFF_WINDOW.record([self.label], longer);
        }
    }

    /// When the last window ends or ended; none where there was none.
    pub fn until(&self) -> Option<Instant> {
        match self.until.load(Ordering::Acquire) {
            0 => None,
            end => self.origin.checked_add(Duration::from_nanos(end)),
        }
    }

    /// Whether the gate is closed now.
    pub fn in_backoff(&self) -> bool {
        self.until().is_some_and(|until| Instant::now() < until)
    }

    /// Whether a window runs or ended less than `window` ago.
    pub fn throttled_within(&self, window: Duration) -> bool {
        self.until().is_some_and(|until| match Instant::now().checked_duration_since(until) {
            Some(since) => since < window,
            None => true,
        })
    }

    /// Waits until the gate is open; at once where it is. Waiters come out at random over a short time after the end.
    pub async fn ready(&self) {
        let mut waiting = None;
        while let Some(until) = self.until() {
            if Instant::now() >= until {
                break;
            }
            waiting.get_or_insert_with(|| {
                let begun = Instant::now();
                contract::BACKOFF_WAIT
                    .timer([self.label], move || Instant::now().saturating_duration_since(begun))
            });
            let spread = Duration::from_nanos(self.spread.load(Ordering::Acquire));
            tokio::time::sleep_until(until + spread.mul_f64(fastrand::f64())).await;
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl AttemptGate for BackoffGate {
    fn admit(&self) -> Admission<'_> {
        Box::pin(async {
            self.ready().await;
            AttemptPermit::free()
        })
    }

    fn throttled(&self, hint: Option<Duration>) {
        self.penalise(hint.unwrap_or(Self::DEFAULT_PENALTY));
    }
}
