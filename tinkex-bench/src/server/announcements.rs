//! What a session poller is told: the promises of a run that are ready, in order (PROTOCOL 16.6).

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tinkex_testkit::Reply;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The promises of a run, oldest first. All samples of a run take the same time, so the oldest is ready first.
#[derive(Default)]
pub(super) struct Announcements {
    promises: Mutex<Promises>,
    accepted: Notify,
}

#[derive(Default)]
struct Promises {
    waiting: VecDeque<Promise>,
    /// The number of the last promise; numbers are the cursor.
    last: u64,
}

struct Promise {
    number: u64,
    id: String,
    ready: Instant,
}

#[derive(Deserialize)]
struct Poll {
    #[serde(default)]
    prev_cursor: u64,
    /// Seconds; 0 acknowledges only.
    timeout: Option<f64>,
}

/// What there is to tell.
enum News {
    Ready(Reply),
    /// Nothing before this time; none where nothing is awaited.
    Later(Option<Instant>),
}

impl Announcements {
    /// A promise was made.
    pub(super) fn expect(&self, id: String, ready: Instant) {
        let mut promises = self.promises();
        promises.last += 1;
        let number = promises.last;
        promises.waiting.push_back(Promise { number, id, ready });
        drop(promises);
        self.accepted.notify_waiters();
    }

    /// Answers a poll, as soon as there is something to tell, after `hold` at the latest.
    pub(super) async fn poll(&self, body: &[u8], hold: Duration) -> Reply {
        let Ok(poll) = serde_json::from_slice::<Poll>(body) else {
            return Reply::detail(400, "not a poll");
        };
        let hold = if poll.timeout == Some(0.0) { Duration::ZERO } else { hold };
        let give_up = Instant::now() + hold;
        loop {
            // Registered before the look, so that no promise in between is missed.
            let accepted = self.accepted.notified();
            tokio::pin!(accepted);
            accepted.as_mut().enable();
            let news = self.promises().news(poll.prev_cursor, Instant::now() >= give_up);
            match news {
                News::Ready(reply) => return reply,
                News::Later(Some(ready)) => sleep_until(ready.min(give_up)).await,
                News::Later(None) => {
                    tokio::select! {
                        () = sleep_until(give_up) => {}
                        () = accepted => {}
                    }
                }
            }
        }
    }

    fn promises(&self) -> MutexGuard<'_, Promises> {
        self.promises.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Promises {
    /// Forgets what is acknowledged and tells what is ready; an empty list where it is time to give up.
    fn news(&mut self, acknowledged: u64, give_up: bool) -> News {
        while self.waiting.front().is_some_and(|promise| promise.number <= acknowledged) {
            self.waiting.pop_front();
        }
        let now = Instant::now();
        let mut body = String::from(r#"{"completions":["#);
        let mut cursor = None;
        for promise in self.waiting.iter().take_while(|promise| promise.ready <= now) {
            let comma = if cursor.is_some() { "," } else { "" };
            // Writing to a string does not fail.
            let _ = write!(
                body,
                r#"{comma}{{"state":"finished","request_id":"{}","response_payload_uncompressed_size":300}}"#,
                promise.id
            );
            cursor = Some(promise.number);
        }
        if cursor.is_none() && !give_up {
            return News::Later(self.waiting.front().map(|promise| promise.ready));
        }
        let _ = write!(body, r#"],"cursor":{}}}"#, cursor.unwrap_or(acknowledged));
        News::Ready(Reply::raw(200, body, "application/json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn poll(announcements: &Announcements, body: &str) -> (usize, u64) {
        let reply = announcements.poll(body.as_bytes(), Duration::from_secs(30)).await;
        let json = reply.to_json().expect("a JSON body");
        let completions = json["completions"].as_array().expect("a list").len();
        (completions, json["cursor"].as_u64().expect("a number"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_waits_for_what_is_ready_first_and_repeats_it_until_it_is_acknowledged() {
        let announcements = Announcements::default();
        let began = Instant::now();
        announcements.expect("a".to_owned(), began + Duration::from_secs(5));
        announcements.expect("b".to_owned(), began + Duration::from_secs(6));
        assert_eq!(poll(&announcements, "{}").await, (1, 1));
        assert_eq!(Instant::now() - began, Duration::from_secs(5));
        assert_eq!(poll(&announcements, "{}").await, (1, 1));
        assert_eq!(poll(&announcements, r#"{"prev_cursor":1}"#).await, (1, 2));
        assert_eq!(Instant::now() - began, Duration::from_secs(6));
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_without_news_ends_at_once_or_after_the_hold() {
        let announcements = Announcements::default();
        let began = Instant::now();
        assert_eq!(poll(&announcements, r#"{"prev_cursor":3,"timeout":0.0}"#).await, (0, 3));
        assert_eq!(Instant::now(), began);
        assert_eq!(poll(&announcements, r#"{"prev_cursor":3}"#).await, (0, 3));
        assert_eq!(Instant::now() - began, Duration::from_secs(30));
    }
}
