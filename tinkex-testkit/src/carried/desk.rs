//! Where a request that comes in on the socket finds the call it belongs to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::oneshot;

use super::wire_side::Played;

/// Carries the number of a call over the wire. Taken off before anything of the server sees the request.
const CALL: HeaderName = HeaderName::from_static("x-testkit-call");

/// A request that has come over the wire.
pub(crate) struct Arrival {
    pub(crate) head: Parts,
    pub(crate) body: Bytes,
    pub(crate) connection: u64,
    /// Where to tell what becomes of it. Dropped, the connection is given up.
    pub(crate) played: oneshot::Sender<Played>,
}

/// What the desk has for a request.
pub(crate) enum Lookup {
    /// It has no number: an ordinary request.
    Ordinary,
    /// Its call waits for it.
    Expected(oneshot::Sender<Arrival>),
    /// Its call has been given up.
    GivenUp,
    /// It has come before: the transport has sent it again.
    Again(u64),
}

/// The calls that are under way, by number.
#[derive(Clone, Default)]
pub(crate) struct Desk(Arc<Mutex<Calls>>);

#[derive(Default)]
struct Calls {
    next: u64,
    /// None once the request has come.
    waiting: HashMap<u64, Option<oneshot::Sender<Arrival>>>,
}

impl Desk {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a call its number.
    pub(crate) fn expect(&self) -> Expected {
        let (arrived, arrival) = oneshot::channel();
        let mut calls = self.calls();
        let number = calls.next;
        calls.next += 1;
        calls.waiting.insert(number, Some(arrived));
        Expected { desk: self.clone(), number, arrival }
    }

    /// Finds the call of a request, and takes the number off its headers.
    pub(crate) fn look_up(&self, headers: &mut HeaderMap) -> Lookup {
        let number = headers.remove(CALL).and_then(|value| value.to_str().ok()?.parse().ok());
        let Some(number) = number else { return Lookup::Ordinary };
        match self.calls().waiting.get_mut(&number) {
            None => Lookup::GivenUp,
            Some(waiting) => waiting.take().map_or(Lookup::Again(number), Lookup::Expected),
        }
    }
}

/// A call whose request is to come over the wire. Dropping it gives the call up.
pub(crate) struct Expected {
    desk: Desk,
    number: u64,
    arrival: oneshot::Receiver<Arrival>,
}

impl Expected {
    /// Writes the number into the headers.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        headers.insert(CALL, HeaderValue::from(self.number));
    }

    /// Resolves when the request has come; never where the wire gives it up.
    pub(crate) async fn arrival(&mut self) -> Arrival {
        match (&mut self.arrival).await {
            Ok(arrival) => arrival,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.desk.calls().waiting.remove(&self.number);
    }
}
