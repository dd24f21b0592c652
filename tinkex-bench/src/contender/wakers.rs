//! The yardstick's session poller: one loop that asks what is ready and wakes who waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Notify, oneshot};

use super::bare::{Route, Wire};

/// Who waits for which promise.
#[derive(Clone)]
pub(super) struct Wakers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    places: Mutex<Places>,
    first: Notify,
}

#[derive(Default)]
struct Places {
    waiting: HashMap<String, Place>,
    /// To be reported with the next poll.
    retrieved: Vec<String>,
}

/// Either may come first.
enum Place {
    Waiting(oneshot::Sender<()>),
    Announced,
}

#[derive(Deserialize)]
struct Announcements {
    completions: Vec<Completion>,
    cursor: u64,
}

#[derive(Deserialize)]
struct Completion {
    request_id: String,
}

impl Wakers {
    /// Starts the loop. It runs as long as the process.
    pub(super) fn new(wire: Wire) -> Self {
        let shared = Arc::new(Shared::default());
        tokio::spawn(ask_on(Arc::clone(&shared), wire));
        Self(shared)
    }

    /// Resolves when the promise is announced.
    pub(super) async fn announced(&self, id: &str) -> Result<(), crate::AnyError> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut places = self.0.places();
            if places.waiting.remove(id).is_some() {
                return Ok(());
            }
            places.waiting.insert(id.to_owned(), Place::Waiting(sender));
        }
        self.0.first.notify_one();
        receiver.await.map_err(|_| "the poller ended".into())
    }

    /// The result of a promise was fetched.
    pub(super) fn retrieved(&self, id: String) {
        self.0.places().retrieved.push(id);
    }
}

impl Shared {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, id: String) {
        let mut places = self.places();
        match places.waiting.remove(&id) {
            // Who waited has gone away where this fails.
            Some(Place::Waiting(sender)) => drop(sender.send(())),
            Some(Place::Announced) | None => drop(places.waiting.insert(id, Place::Announced)),
        }
    }
}

async fn ask_on(shared: Arc<Shared>, wire: Wire) {
    let mut cursor = 0;
    loop {
        if shared.places().waiting.is_empty() {
            shared.first.notified().await;
        }
        let retrieved = std::mem::take(&mut shared.places().retrieved);
        match ask(&wire, cursor, retrieved).await {
            Ok(announcements) => {
                cursor = announcements.cursor;
                announcements.completions.into_iter().for_each(|done| shared.announce(done.request_id));
            }
            // Without the poller nothing goes on: those who wait are told by the end of their channels.
            Err(_) => return shared.places().waiting.clear(),
        }
    }
}

async fn ask(wire: &Wire, cursor: u64, retrieved: Vec<String>) -> Result<Announcements, crate::AnyError> {
    let body = json!({
        "target": {
            "type": "sampling_session",
            "sampling_session_id": "s-1:sample:0",
            "cloned_sampler_id": 0,
        },
        "prev_cursor": cursor,
        "retrieved_request_ids": retrieved,
    });
    let answer = wire.post(Route::RetrieveMany, serde_json::to_vec(&body)?).await?;
    Ok(serde_json::from_slice(&answer)?)
}
