//! Everything in flight at one moment.

use std::ops::Deref;
use std::time::Duration;
use std::{slice, vec};

use super::{InflightRequest, Stage};

/// The requests of a service that were in flight at one moment, oldest first:
/// [`ServiceClient::inflight`](crate::ServiceClient::inflight).
///
/// It is a slice of [`InflightRequest`]s. `Display` writes a table for a person: a line with the counts by stage and the
/// oldest age, then the oldest 50 requests, and how many more there are. Ids are written whole.
///
/// As JSON (`Serialize`, [`to_json`](Self::to_json)) it is an object of
///
/// | Field | Meaning |
/// |---|---|
/// | `count` | how many requests there are |
/// | `queued`, `submitting`, `polling` | how many of them are at each [`Stage`] |
/// | `oldest_age_seconds` | the age of the oldest; null where there is none |
/// | `requests` | all of them, oldest first |
///
/// and each request of
///
/// | Field | Meaning |
/// |---|---|
/// | `number` | its number, counted per service client |
/// | `request_type` | what it is for, as the protocol calls it, such as `Sample` (PROTOCOL 16.2) |
/// | `stage` | `queued`, `submitting` or `polling` |
/// | `age_seconds` | the time since it was started |
/// | `client_id` | the sampling session or model; for the creation of a model, the base model |
/// | `request_id` | the promise, the first of several; null before the server has accepted it |
/// | `polls` | how often the server has been asked for the result |
/// | `queue_state` | the last state an answer carried, such as `paused_capacity`; null where none did |
/// | `reason` | the server's reason for it; null where it gave none |
///
/// Nothing in it is secret: neither credentials nor headers, neither prompts nor results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inflight(Vec<InflightRequest>);

impl Inflight {
    pub(super) fn new(mut requests: Vec<InflightRequest>) -> Self {
        requests.sort_unstable_by_key(|request| request.number);
        Self(requests)
    }

    /// How many requests are at `stage`.
    pub fn count(&self, stage: Stage) -> usize {
        self.iter().filter(|request| request.stage == stage).count()
    }

    /// The age of the oldest request; none where nothing is in flight.
    pub fn oldest_age(&self) -> Option<Duration> {
        self.iter().map(|request| request.age).max()
    }

    /// All requests as a JSON object on one line.
    pub fn to_json(&self) -> String {
        // Text and numbers are written to memory, which cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Deref for Inflight {
    type Target = [InflightRequest];

    fn deref(&self) -> &[InflightRequest] {
        &self.0
    }
}

impl IntoIterator for Inflight {
    type Item = InflightRequest;
    type IntoIter = vec::IntoIter<InflightRequest>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Inflight {
    type Item = &'a InflightRequest;
    type IntoIter = slice::Iter<'a, InflightRequest>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
