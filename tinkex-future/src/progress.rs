//! Looking over a poll's shoulder: for tables of promises in flight.

use std::fmt;

use tinkex_types::QueueStateChange;

/// Is told how a poll gets on. Every method does nothing unless implemented.
///
/// Called on the poll's own task: be quick. A panic inside is caught and does not hurt the poll.
pub trait PollProgress: Send + Sync {
    /// The server is about to be asked; `iteration` counts from 0.
    fn polled(&self, iteration: u32) {
        let _ = iteration;
    }

    /// An answer carried a queue state, changed or not.
    fn observed(&self, observation: &QueueStateChange) {
        let _ = observation;
    }
}

impl fmt::Debug for dyn PollProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PollProgress")
    }
}
