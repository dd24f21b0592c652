//! The example runs, and shows what it claims; and what it is made of, apart.

#[path = "../../examples/render_farm/farm.rs"]
mod farm;
#[path = "../../examples/render_farm/jobs.rs"]
mod jobs;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tinkex_future::{
    Answer, ErrorCategory, Outcome, PayloadEncoding, PollErrorKind, Poller, PromiseRef, QueueState,
    RequestType, retrieve_fn,
};
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn render_farm() {
    let begun = Instant::now();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    jobs::run(move |line| sink.lock().unwrap().push(line)).await;
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(4), "it takes {took:?}");
    let text = lines.lock().unwrap().join("\n");
    for (part, times) in [
        ("question 1: 2 jobs ahead", 2),
        ("the observer is told: paused_capacity", 4),
        ("question 3: the farm's network is down", 1),
        ("question 6: done", 1),
        (r#"as it was sent: {"status":"in colour","pixels":2073600}"#, 1),
        ("no result after 3 questions: the sun is inside the camera", 1),
    ] {
        assert_eq!(text.matches(part).count(), times, "{part}: {text}");
    }
}

/// What a closure finds is what the poller understands, whatever keys the result has.
#[tokio::test(start_paused = true)]
async fn outcomes_of_anything() {
    assert!(matches!(Answer::of(Outcome::pending()), Answer::Pending { queue: None, .. }));
    let Answer::Pending { queue: Some(queue), .. } =
        Answer::of(Outcome::paused(&QueueState::PausedRateLimit, "a \"quoted\" reason"))
    else {
        panic!("a pause");
    };
    assert_eq!(
        (queue.state, queue.reason.as_deref()),
        (QueueState::PausedRateLimit, Some("a \"quoted\" reason"))
    );
    let Answer::Failed { message, category } =
        Answer::of(Outcome::failed("no \"ink\"", ErrorCategory::Server))
    else {
        panic!("a failure");
    };
    assert_eq!((message.as_str(), category), ("no \"ink\"", ErrorCategory::Server));
    for result in
        [r#"{"error":"none"}"#, r#"{"type":"try_again"}"#, r#"{"status":"failed","result":1}"#, "[1, 2]", "7"]
    {
        let Answer::Payload { encoding, body } = Answer::of(Outcome::finished(result)) else {
            panic!("{result} is a result");
        };
        assert_eq!((encoding, &body[..]), (PayloadEncoding::Json, result.as_bytes()));
    }
    let poller = Poller::new(retrieve_fn(|_| async { Outcome::finished("no JSON") }));
    let error = poller.poll(PromiseRef::new("a", RequestType::OptimStep)).await.unwrap_err();
    assert_eq!(error.kind(), PollErrorKind::Decode);
    let poller = Poller::new(retrieve_fn(|_| async { Outcome::unreachable("gone") }));
    let error = poller.poll(PromiseRef::new("a", RequestType::OptimStep)).await.unwrap_err();
    assert_eq!(error.kind(), PollErrorKind::Outage);
}
