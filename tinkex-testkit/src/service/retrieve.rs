//! `retrieve_future`: the long poll of one promise (PROTOCOL 16.1–16.5).

use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::product::Product;
use super::promises::{Outcome, Place, Queue, Stage, Work, after};
use super::refusal::Refusal;
use super::routes::body;
use super::state::State;
use super::{FailureStyle, PendingStyle, Service};
use crate::{Received, Reply};

#[derive(Deserialize)]
struct Retrieve {
    request_id: String,
    #[serde(default)]
    allow_metadata_only: bool,
}

/// What a look at a promise led to.
enum Look {
    /// The answer.
    Told(Reply),
    /// It is finished, and this is its result.
    Result(Product),
    /// Nothing to tell; it may be ready at this instant.
    Wait(Option<Instant>),
}

impl Service {
    pub(crate) async fn retrieve_future(&self, request: &Received) -> Result<Reply, Refusal> {
        let asked: Retrieve = body(request)?;
        let id = asked.request_id.as_str();
        let number = self.dialect().request_ids.parse(id);
        let number = number.ok_or_else(|| Refusal::new(404, format!("unknown request {id}")))?;
        let give_up = after(Instant::now(), self.state().hold);
        loop {
            // Both are registered before the look, so that no change in between is missed.
            let changed = self.inner.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let turn = self.turn_of(number);
            let news = turn.as_ref().map_or(&self.inner.changed, |turn| turn.news.as_ref());
            let advanced = news.notified();
            tokio::pin!(advanced);
            advanced.as_mut().enable();
            if let Some(turn) = turn.as_ref().filter(|turn| turn.due) {
                self.work_off(&turn.model_id, Some(number));
            }
            let look = self.look(&mut self.state(), id, number, give_up)?;
            match look {
                Look::Told(reply) => return Ok(reply),
                Look::Result(product) => return Ok(self.result(&product, number, &asked, request)),
                Look::Wait(ready) => {
                    let until = ready.map_or(give_up, |ready| ready.min(give_up));
                    tokio::select! {
                        () = sleep_until(until) => {}
                        () = changed => {}
                        () = advanced => {}
                    }
                }
            }
        }
    }

    fn look(&self, state: &mut State, id: &str, number: u64, give_up: Instant) -> Result<Look, Refusal> {
        let now = Instant::now();
        let promise = state.promises.get(&number).filter(|promise| match &promise.place {
            Place::Run { model_id, .. } => state.runs.contains_key(model_id),
            Place::Sampler { .. } | Place::Alone => true,
        });
        let Some(promise) = promise else {
            let existed = (1..state.next_promise).contains(&number);
            let (status, what) = if existed { (410, "is gone") } else { (404, "is unknown") };
            return Err(Refusal::new(status, format!("request {id} {what}")));
        };
        let product = match &promise.work {
            Work::Product(product) => Some(product),
            Work::Ahead(_) | Work::Taken => None,
        };
        match (promise.stage, &promise.fate, product) {
            (Stage::Finished, Outcome::Result, Some(product)) => Ok(Look::Result(product.clone())),
            (Stage::Finished, Outcome::Lost, _) | (Stage::Finished, Outcome::Result, None) => {
                state.mark_retrieved(number);
                Err(Refusal::new(410, format!("request {id} was lost")))
            }
            (Stage::Finished, Outcome::Failure(category, message), _) => {
                let reply = self.failure(category.as_str(), message);
                state.mark_retrieved(number);
                Ok(Look::Told(reply))
            }
            (Stage::Cancelled, ..) => Ok(Look::Told(self.failure("user", "the request was cancelled"))),
            (Stage::Running(_) | Stage::Held | Stage::Queued | Stage::Due(_), ..) => {
                let queue = state.queue_of(number, now);
                let style = self.dialect().pending;
                let news = state.is_news(number, &queue) && style != PendingStyle::Bare408;
                if news || now >= give_up {
                    state.note_told(number, &queue);
                    return Ok(Look::Told(pending(style, id, &queue)));
                }
                Ok(Look::Wait(state.ready_at(number)))
            }
        }
    }

    fn result(&self, product: &Product, number: u64, asked: &Retrieve, request: &Received) -> Reply {
        // Samples are computed here, at the first need, with nothing locked.
        let may_announce = self.dialect().complete_metadata && asked.allow_metadata_only;
        let size = if may_announce { product.size() } else { 0 };
        let mut state = self.state();
        if may_announce && size > state.metadata_threshold {
            return Reply::json(
                200,
                &json!({ "status": "complete_metadata", "response_payload_size": size }),
            );
        }
        state.mark_retrieved(number);
        drop(state);
        product.reply(self.dialect(), request.accepts_protobuf())
    }

    fn failure(&self, category: &str, message: &str) -> Reply {
        match self.dialect().failure {
            FailureStyle::Body => Reply::json(200, &json!({ "error": message, "category": category })),
            FailureStyle::Status(status) => Reply::detail(status, message),
        }
    }
}

fn pending(style: PendingStyle, id: &str, queue: &Queue) -> Reply {
    let mut answer = json!({ "type": "try_again", "request_id": id, "queue_state": queue.state.as_str() });
    if let Some(reason) = &queue.reason {
        answer["queue_state_reason"] = json!(reason);
    }
    match style {
        PendingStyle::TryAgain => Reply::json(200, &answer),
        PendingStyle::Status408 => Reply::json(408, &answer),
        PendingStyle::Bare408 => Reply::empty(408),
    }
}
