//! The table of requests in flight with what a person wants to know first, for a log or a file.

use std::time::Duration;

use tokio::time::Instant;

use crate::holder::Holder;

/// A line about the service, the table, and an empty line. One text, so that several services that write to one place do
/// not write into each other's.
pub(crate) fn dump(holder: &Holder) -> String {
    let up = Instant::now().saturating_duration_since(holder.built);
    format!("{}\n{}\n\n", head(holder, up), holder.inflight.snapshot())
}

fn head(holder: &Holder, up: Duration) -> String {
    let up = up.as_secs_f64();
    match holder.connected() {
        Some(connection) => {
            let session = connection.session.id();
            let backoff = if connection.dispatch.backoff().in_backoff() { "in" } else { "not in" };
            let (slots, _) = connection.dispatch.available();
            format!(
                "--- tinkex, {up:.1} s after the service was built: session {session}, {backoff} backoff, \
                 {slots} free dispatch slots"
            )
        }
        None => format!("--- tinkex, {up:.1} s after the service was built: no session yet"),
    }
}
