//! What becomes of failures: which are repeated, when, under which identity, and what the error says in the end.

mod billing;
mod deadlines;
mod malformed;
mod messages;
mod polls;
mod submissions;

use std::error::Error as _;
use std::time::Duration;

use tinkex_client::Error;

/// The first delay of the default backoff, in seconds: half a second, less up to a quarter.
const FIRST_BACKOFF: (f64, f64) = (0.375, 0.5);
/// A window of one second and the time over which waiters leave it.
const SMALL_WINDOW: (f64, f64) = (1.0, 1.25);

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// Whether an error's message repeats the text of one of its sources.
fn repeats_a_source(error: &Error) -> bool {
    let message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        if message.contains(&cause.to_string()) {
            return true;
        }
        source = cause.source();
    }
    false
}
