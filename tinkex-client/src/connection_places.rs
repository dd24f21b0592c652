//! Room for connections: over HTTP/1.1 each sample in flight and each poll of a training client holds one, and each
//! connection a file descriptor.
//!
//! Over HTTP/2 many calls share a connection, so nothing is bounded any more as soon as an answer has come that way.
//!
//! Without a bound, a fan-out under the usual limit of 1,024 open files takes the descriptors that heartbeats, `close`
//! and the rest of the program need. Descriptors belong to the process, so the places do too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(feature = "reqwest")]
use tinkex_http::ReqwestTransport;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of the process, for clients of the ready-made transport.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionPlaces {
    places: Arc<Semaphore>,
    /// Says whether calls still have connections of their own.
    #[cfg(feature = "reqwest")]
    transport: ReqwestTransport,
}

impl ConnectionPlaces {
    /// The places that the limit of open files leaves, for a client of this transport; none where there is no such
    /// limit.
    #[cfg(feature = "reqwest")]
    pub(crate) fn of_process(transport: ReqwestTransport) -> Option<Self> {
        static PLACES: std::sync::LazyLock<Option<Arc<Semaphore>>> = std::sync::LazyLock::new(|| {
            let places = ReqwestTransport::capacity()?.min(Semaphore::MAX_PERMITS);
            Some(Arc::new(Semaphore::new(places)))
        });
        Some(Self { places: PLACES.clone()?, transport })
    }

    /// Takes a place, waiting for one where all are taken; none where none is needed. The first wait of the process is
    /// told.
    pub(crate) async fn take(&self) -> Option<OwnedSemaphorePermit> {
        static TOLD: AtomicBool = AtomicBool::new(false);
        #[cfg(feature = "reqwest")]
        if self.transport.multiplexes() {
            return None;
        }
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        if !TOLD.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "requests wait for connections: the limit of open files leaves room for no more at once; \
                 raise it (ulimit -n), or lower max_in_flight"
            );
        }
        // The semaphore is never closed.
        Arc::clone(&self.places).acquire_owned().await.ok()
    }
}

#[cfg(test)]
#[cfg(feature = "reqwest")]
mod tests {
    use tinkex_http::HttpVersionPolicy;

    use super::*;

    fn one(version: HttpVersionPolicy) -> ConnectionPlaces {
        let transport = ReqwestTransport::builder().http_version(version).build().unwrap();
        ConnectionPlaces { places: Arc::new(Semaphore::new(1)), transport }
    }

    #[tokio::test]
    async fn a_place_that_is_given_back_is_taken_again() {
        let places = one(HttpVersionPolicy::Auto);
        let first = places.take().await.unwrap();
        let (second, ()) = tokio::join!(places.take(), async { drop(first) });
        assert!(second.is_some());
    }

    /// Calls that share connections need no places.
    #[tokio::test]
    async fn over_http2_nothing_is_bounded() {
        let places = one(HttpVersionPolicy::Http2PriorKnowledge);
        assert!(places.take().await.is_none());
        assert_eq!(places.places.available_permits(), 1);
    }
}
