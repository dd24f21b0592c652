//! Which `reqwest` client, and so which connections, a call travels on.
//!
//! Each class of calls has a plain client, which keeps as many HTTP/1.1 connections as there are calls. An origin that
//! has answered over HTTP/2 is called over lanes instead: clients that keep one HTTP/2 connection each. A class begins
//! with one lane and gets another where all are full (PROTOCOL 8). Which lane is free is found by a count of calls in
//! flight, which a call gives back when its answer has been read or dropped.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{Uri, Version};

use super::settings::{HttpVersionPolicy, Settings};
use crate::CallClass;

/// Calls at once on one HTTP/2 connection (PROTOCOL 8).
const CALLS_PER_LANE: usize = 50;

/// A body from this length on fills a connection by itself: over a shared one it would hold up the small calls behind
/// it. (In PROTOCOL 8 no two training requests share a connection; what counts is their size.)
const LARGE_BODY: usize = 1 << 20;

/// Origins remembered as speaking HTTP/2. A transport has one service, and perhaps a store that it is sent on to.
const KEPT_ORIGINS: usize = 8;

/// The connections of a transport.
pub(super) struct Connections {
    settings: Settings,
    classes: [RwLock<OfClass>; CallClass::ALL.len()],
    /// Who has answered over HTTP/2, over TLS. Empty under other policies than [`HttpVersionPolicy::Auto`].
    speak_http2: RwLock<Vec<Authority>>,
    /// Whether `speak_http2` is not empty, for those who only ask that.
    multiplexes: AtomicBool,
}

struct OfClass {
    plain: reqwest::Client,
    lanes: Vec<Arc<Lane>>,
}

struct Lane {
    client: reqwest::Client,
    in_flight: AtomicUsize,
}

/// Where a call is to travel.
pub(super) struct Place {
    pub(super) client: reqwest::Client,
    pub(super) held: Option<Held>,
}

/// A call's share of a lane, given back when it is dropped.
pub(super) struct Held {
    lane: Arc<Lane>,
    share: usize,
}

impl Connections {
    pub(super) fn new(settings: Settings) -> reqwest::Result<Self> {
        let class = || Ok(RwLock::new(OfClass { plain: settings.client(false)?, lanes: Vec::new() }));
        let classes = [class()?, class()?, class()?, class()?];
        Ok(Self { settings, classes, speak_http2: RwLock::default(), multiplexes: AtomicBool::new(false) })
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.settings.connect_timeout
    }

    /// Whether calls share connections.
    pub(super) fn multiplexes(&self) -> bool {
        match self.settings.version {
            HttpVersionPolicy::Auto => self.multiplexes.load(Ordering::Relaxed),
            HttpVersionPolicy::Http1Only => false,
            HttpVersionPolicy::Http2PriorKnowledge => true,
        }
    }

    /// A place for a call with a body of `length` bytes.
    pub(super) fn place(&self, class: CallClass, uri: &Uri, length: usize) -> Place {
        let share = if length < LARGE_BODY { 1 } else { CALLS_PER_LANE };
        if self.in_lanes(uri)
            && let Some(held) = self.lane(class, share)
        {
            return Place { client: held.lane.client.clone(), held: Some(held) };
        }
        Place { client: self.read(class).plain.clone(), held: None }
    }

    /// Notes by which version of HTTP an answer came.
    pub(super) fn answered(&self, place: &Place, uri: &Uri, version: Version) {
        if place.held.is_some() || version != Version::HTTP_2 || uri.scheme() != Some(&Scheme::HTTPS) {
            return;
        }
        let Some(authority) = uri.authority().filter(|authority| !self.speaks_http2(authority)) else {
            return;
        };
        let mut known = self.speak_http2.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < KEPT_ORIGINS && !known.contains(authority) {
            known.push(authority.clone());
            self.multiplexes.store(true, Ordering::Relaxed);
        }
    }

    /// Notes that no connection could be made. Where it was to be one for HTTP/2, the server may have ceased to speak
    /// it: the next call asks again what it speaks.
    pub(super) fn unreachable(&self, place: &Place, uri: &Uri) {
        if place.held.is_none() || self.settings.version != HttpVersionPolicy::Auto {
            return;
        }
        let mut known = self.speak_http2.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|known| Some(known) != uri.authority());
        self.multiplexes.store(!known.is_empty(), Ordering::Relaxed);
    }

    /// Leaves the connections of a class to the calls that are on them.
    pub(super) fn renew(&self, class: CallClass) {
        // A client was made from these settings before. Should it fail now, the old connections are better than none.
        if let Ok(plain) = self.settings.client(false) {
            *self.write(class) = OfClass { plain, lanes: Vec::new() };
        }
    }

    fn in_lanes(&self, uri: &Uri) -> bool {
        match self.settings.version {
            HttpVersionPolicy::Auto => {
                self.multiplexes()
                    && uri.scheme() == Some(&Scheme::HTTPS)
                    && uri.authority().is_some_and(|authority| self.speaks_http2(authority))
            }
            HttpVersionPolicy::Http1Only => false,
            HttpVersionPolicy::Http2PriorKnowledge => true,
        }
    }

    fn speaks_http2(&self, authority: &Authority) -> bool {
        self.speak_http2.read().unwrap_or_else(PoisonError::into_inner).contains(authority)
    }

    /// The first lane with room, or a new one. None where no client can be made.
    fn lane(&self, class: CallClass, share: usize) -> Option<Held> {
        if let Some(held) = self.read(class).hold(share) {
            return Some(held);
        }
        let mut state = self.write(class);
        // Somebody else may have made one meanwhile.
        if let Some(held) = state.hold(share) {
            return Some(held);
        }
        let client = self.settings.client(true).ok()?;
        let lane = Arc::new(Lane { client, in_flight: AtomicUsize::new(share) });
        state.lanes.push(Arc::clone(&lane));
        Some(Held { lane, share })
    }

    fn read(&self, class: CallClass) -> RwLockReadGuard<'_, OfClass> {
        self.classes[class.index()].read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, class: CallClass) -> RwLockWriteGuard<'_, OfClass> {
        self.classes[class.index()].write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfClass {
    fn hold(&self, share: usize) -> Option<Held> {
        self.lanes.iter().find_map(|lane| {
            let room = |taken: usize| (taken + share <= CALLS_PER_LANE).then_some(taken + share);
            lane.in_flight.fetch_update(Ordering::AcqRel, Ordering::Relaxed, room).ok()?;
            Some(Held { lane: Arc::clone(lane), share })
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.lane.in_flight.fetch_sub(self.share, Ordering::AcqRel);
    }
}
