//! That a service is being closed, and until when operations called before may still reach the server.

use std::time::Duration;

use tokio::sync::SetOnce;
use tokio::time::Instant;

/// How long operations called before `close` may still be submitted.
pub(crate) const GRACE: Duration = Duration::from_secs(30);

/// Seen by everything that waits to be submitted. The limit counts from the first `close`, whether or not that call is
/// still being awaited.
#[derive(Debug, Default)]
pub(crate) struct Closing(SetOnce<Instant>);

impl Closing {
    /// Nothing new is begun from now on.
    pub(crate) fn begin(&self) {
        // Where it has begun before, the limit counts from then.
        let _ = self.0.set(Instant::now());
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.0.initialized()
    }

    /// Completes when nothing is to be submitted any more; never, where nobody closes.
    pub(crate) async fn over(&self) {
        let begun = *self.0.wait().await;
        tokio::time::sleep_until(begun + GRACE).await;
    }
}
