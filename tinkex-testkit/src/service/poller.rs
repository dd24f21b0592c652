//! `retrieve_futures`: one poll that announces the finished promises of a sampling client (PROTOCOL 16.6).

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::Service;
use super::product::Product;
use super::promises::{Outcome, Place, Work, after};
use super::refusal::Refusal;
use super::routes::body;
use crate::{Received, Reply};

#[derive(Deserialize)]
struct Poll {
    target: Target,
    #[serde(default)]
    prev_cursor: u64,
    /// Seconds; 0 acknowledges only.
    timeout: Option<f64>,
    #[serde(default)]
    retrieved_request_ids: Vec<String>,
}

#[derive(Deserialize)]
struct Target {
    #[serde(rename = "type")]
    kind: String,
    sampling_session_id: String,
    #[serde(default)]
    cloned_sampler_id: u64,
}

/// A finished promise, to be announced.
struct Finished {
    number: u64,
    /// None where it failed or was lost: the error is had from `retrieve_future`.
    result: Option<Product>,
}

/// What a look at the completions led to.
enum Look {
    Completions(Vec<Finished>, u64),
    Wait(Option<Instant>),
}

impl Service {
    pub(crate) async fn retrieve_futures(&self, request: &Received) -> Result<Reply, Refusal> {
        let poll: Poll = body(request)?;
        if poll.target.kind != "sampling_session" {
            return Err(Refusal::new(400, format!("unknown target type {:?}", poll.target.kind)));
        }
        let hold = self.state().hold;
        let hold = match poll.timeout {
            None => hold,
            Some(seconds) => Duration::try_from_secs_f64(seconds).unwrap_or_default().min(hold),
        };
        let give_up = after(Instant::now(), hold);
        self.forget_retrieved(&poll);
        loop {
            // Both are registered before the look, so that no change in between is missed.
            let changed = self.inner.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let news = self.group_news(&poll.target)?;
            let accepted = news.notified();
            tokio::pin!(accepted);
            accepted.as_mut().enable();
            match self.completions(&poll, give_up)? {
                Look::Completions(finished, cursor) => {
                    let list: Vec<Value> = finished.iter().map(|promise| self.completion(promise)).collect();
                    return Ok(Reply::json(200, &json!({ "completions": list, "cursor": cursor })));
                }
                Look::Wait(ready) => {
                    let until = ready.map_or(give_up, |ready| ready.min(give_up));
                    tokio::select! {
                        () = sleep_until(until) => {}
                        () = changed => {}
                        () = accepted => {}
                    }
                }
            }
        }
    }

    /// Forgets what the client says it has.
    fn forget_retrieved(&self, poll: &Poll) {
        let mut state = self.state();
        for id in &poll.retrieved_request_ids {
            let number = self.dialect().request_ids.parse(id);
            let own = |number: &u64| {
                matches!(
                    state.promises.get(number).map(|promise| &promise.place),
                    Some(Place::Sampler { id, .. }) if *id == poll.target.sampling_session_id
                )
            };
            if let Some(number) = number.filter(own) {
                state.forget(number);
            }
        }
    }

    fn group_news(&self, target: &Target) -> Result<Arc<Notify>, Refusal> {
        let mut state = self.state();
        let id = &target.sampling_session_id;
        let sampler = state.samplers.get_mut(id);
        let sampler = sampler.ok_or_else(|| Refusal::new(404, format!("unknown sampling session {id}")))?;
        Ok(Arc::clone(&sampler.groups.entry(target.cloned_sampler_id).or_default().news))
    }

    fn completions(&self, poll: &Poll, give_up: Instant) -> Result<Look, Refusal> {
        let (id, clone) = (&poll.target.sampling_session_id, poll.target.cloned_sampler_id);
        let mut guard = self.state();
        let state = &mut *guard;
        let gone = || Refusal::new(404, format!("unknown sampling session {id}"));
        let group =
            state.samplers.get_mut(id).and_then(|sampler| sampler.groups.get_mut(&clone)).ok_or_else(gone)?;
        // A completion is told again and again until a cursor at or beyond it comes back.
        group.completions = group.completions.split_off(&poll.prev_cursor.saturating_add(1));
        let promises = &state.promises;
        let finished: Vec<Finished> = group
            .completions
            .values()
            .filter_map(|number| {
                let promise = promises.get(number)?;
                let result = match (&promise.fate, &promise.work) {
                    (Outcome::Result, Work::Product(product)) => Some(product.clone()),
                    _ => None,
                };
                Some(Finished { number: *number, result })
            })
            .collect();
        if finished.is_empty() && Instant::now() < give_up {
            return Ok(Look::Wait(state.next_ready(id, clone)));
        }
        let last = group.completions.keys().next_back().copied().unwrap_or(poll.prev_cursor);
        Ok(Look::Completions(finished, last))
    }

    fn completion(&self, promise: &Finished) -> Value {
        let id = self.dialect().request_ids.format(promise.number);
        match &promise.result {
            None => json!({ "state": "failed", "request_id": id }),
            Some(product) => json!({
                "state": "finished",
                "request_id": id,
                "response_payload_uncompressed_size": product.size(),
            }),
        }
    }
}
