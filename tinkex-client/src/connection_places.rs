//! Room for connections: over HTTP/1.1 each sample in flight and each poll of a training client holds one, and each
//! connection a file descriptor.
//!
//! Without a bound, a fan-out under the usual limit of 1,024 open files takes the descriptors that heartbeats, `close`
//! and the rest of the program need. Descriptors belong to the process, so the places do too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of the process, for clients of the ready-made transport.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionPlaces(Arc<Semaphore>);

impl ConnectionPlaces {
    /// The places that the limit of open files leaves; none where there is no such limit.
    #[cfg(feature = "reqwest")]
    pub(crate) fn of_process() -> Option<Self> {
        static PLACES: std::sync::LazyLock<Option<ConnectionPlaces>> =
            std::sync::LazyLock::new(|| tinkex_http::ReqwestTransport::capacity().map(ConnectionPlaces::new));
        PLACES.clone()
    }

    #[cfg(feature = "reqwest")]
    fn new(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))))
    }

    /// Takes a place, waiting for one where all are taken. The first wait of the process is told.
    pub(crate) async fn take(&self) -> Option<OwnedSemaphorePermit> {
        static TOLD: AtomicBool = AtomicBool::new(false);
        if let Ok(place) = Arc::clone(&self.0).try_acquire_owned() {
            return Some(place);
        }
        if !TOLD.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "requests wait for connections: the limit of open files leaves room for no more at once; \
                 raise it (ulimit -n), or lower max_in_flight"
            );
        }
        // The semaphore is never closed.
        Arc::clone(&self.0).acquire_owned().await.ok()
    }
}

#[cfg(all(test, feature = "reqwest"))]
mod tests {
    use super::ConnectionPlaces;

    #[tokio::test]
    async fn a_place_that_is_given_back_is_taken_again() {
        let places = ConnectionPlaces::new(1);
        let first = places.take().await.unwrap();
        let (second, ()) = tokio::join!(places.take(), async { drop(first) });
        assert!(second.is_some());
    }
}
