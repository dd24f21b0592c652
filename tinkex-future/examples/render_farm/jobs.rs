//! Waiting for jobs: a closure translates the farm's words, and the poller does the rest.

use std::sync::Arc;
use std::time::Duration;

use tinkex_future::{
    ErrorCategory, Outcome, PollPolicy, Poller, PromiseRef, QueueState, RequestType, retrieve_fn,
};

use super::farm::{Farm, Job};

pub(crate) async fn run(say: impl Fn(String) + Clone + Send + Sync + 'static) {
    let farm = Farm::default();
    let narrate = say.clone();
    // The whole adapter: ask once, and say what was found. No loop, no pause, no limit.
    let ask_once = retrieve_fn(move |ask| {
        let (outcome, found) = match farm.ask(ask.request_id) {
            Ok(Job::Queued { ahead }) => {
                let reason = format!("{ahead} jobs ahead");
                (Outcome::paused(&QueueState::PausedCapacity, &reason), reason)
            }
            Ok(Job::Rendering { percent }) => (Outcome::pending(), format!("{percent} % rendered")),
            Ok(Job::Done { picture }) => (Outcome::finished(picture), "done".to_owned()),
            Ok(Job::Crashed { reason }) => {
                (Outcome::failed(reason, ErrorCategory::User), "crashed".to_owned())
            }
            Err(broken) => (Outcome::unreachable(broken), broken.to_owned()),
        };
        narrate(format!("  question {}: {found}", ask.iteration + 1));
        async move { outcome }
    });
    let tell = say.clone();
    let poller = Poller::new(ask_once)
        .policy(PollPolicy::default().deadline(Duration::from_secs(60)))
        .observer(Arc::new(move |state: QueueState| tell(format!("  the observer is told: {state}"))));

    for job in ["sunrise", "too-bright"] {
        say(format!("Waiting for {job}:"));
        // The kind says how results are encoded; those of optimizer steps are JSON, and so are these.
        match poller.poll(PromiseRef::new(job, RequestType::OptimStep)).await {
            Ok(picture) => {
                say(format!("  the result, as it was sent: {}\n", String::from_utf8_lossy(&picture.body)))
            }
            Err(error) => {
                say(format!("  no result after {} questions: {}\n", error.polls(), error.message()))
            }
        }
    }
}
