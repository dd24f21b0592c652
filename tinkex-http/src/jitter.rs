//! The one generator behind jitter, seedable so that tests repeat.

use std::sync::{Mutex, PoisonError};

/// A source of random numbers for delays. Not used on the path of a call that succeeds.
#[derive(Debug)]
pub struct Jitter(Mutex<fastrand::Rng>);

impl Default for Jitter {
    fn default() -> Self {
        Self(Mutex::new(fastrand::Rng::new()))
    }
}

impl Jitter {
    /// A generator that always gives the same numbers.
    pub fn seeded(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// A number in [0, 1).
    pub fn next(&self) -> f64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }
}
