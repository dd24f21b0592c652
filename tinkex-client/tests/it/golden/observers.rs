//! The observer calls of the recorded polls.
//!
//! The recorded observer is called on every poll. A user observer of this client gets transitions only (DESIGN 3),
//! which `sampling` compares; so here the recorded answers go through a bare poller, whose observer gets every one.

use std::collections::VecDeque;
use std::future::ready;
use std::sync::{Arc, Mutex};

use tinkex_client::{QueueStateChange, QueueStateObserver, RequestType};
use tinkex_future::{Ask, Outcome, Poller, PromiseRef, RawResponse, Retrieve};

use super::deviations;
use super::fixtures::Scenario;
use super::replay::Observed;
use super::sampling;

/// Gives the recorded answers, one after another.
struct Recorded(Mutex<VecDeque<RawResponse>>);

impl Retrieve for Recorded {
    fn retrieve(&self, _: &Ask<'_>) -> impl Future<Output = Outcome> + Send {
        let next = self.0.lock().unwrap().pop_front().expect("one poll too many");
        ready(Outcome::Response(next))
    }
}

/// Takes every observation.
struct EveryOne(Observed);

impl QueueStateObserver for EveryOne {
    fn on_observation(&self, observation: &QueueStateChange) {
        self.0.note(observation);
    }
}

/// `observer_calls`, exactly, for every scenario that has them.
#[tokio::test(start_paused = true)]
async fn observer_calls() {
    let mut compared = 0;
    for name in sampling::REPLAYED {
        let scenario = Scenario::load(name);
        if scenario.raw.get("observer_calls").is_none() {
            continue;
        }
        let answers = scenario.of_route("retrieve_future").into_iter().map(|exchange| {
            let mut answer = RawResponse::json(exchange.status(), exchange.answer());
            answer.content_type = Some(exchange.answer_type().unwrap_or_default().to_owned());
            answer
        });
        let observed = Observed::default();
        let poller = Poller::new(Recorded(Mutex::new(answers.collect())))
            .observer(Arc::new(EveryOne(observed.clone())))
            .seed(7);
        // Whether it ends well is compared elsewhere.
        let _ = poller.poll(PromiseRef::new("req-s", RequestType::Sample)).await;
        assert_eq!(observed.list(), deviations::expected(&scenario).observations, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 17, "scenarios with observer calls");
}
