//! Prometheus's time: seconds since 1970. What runs here are real programs in real time.

#![allow(clippy::disallowed_methods, reason = "other processes do not know tokio's clock")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::Failure;

/// Now, in seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Asks again and again until there is an answer.
///
/// # Errors
///
/// Where there is none within `limit`: what was waited for, and the last reason why not.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(reason) if begun.elapsed() > limit => {
                return Err(format!("waited {limit:?} for {what}: {reason}").into());
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
