//! Sizes, traits and texts that callers rely on.

use std::mem::{size_of, size_of_val};
use std::sync::Arc;

use tinkex_future::{
    ByteBudget, Completion, PollError, PollPolicy, Poller, PromiseRef, SessionPoller, retrieve_fn,
};
use tinkex_types::RequestType;

use crate::session_polling::Session;
use crate::support::{Script, json, ms, secs};

fn assert_send<T: Send>(value: T) -> T {
    value
}

fn assert_shared<T: Send + Sync + 'static>() {}

/// Thousands of polls are alive at once, so one is small, whatever the transport; and it can move between threads.
#[tokio::test(start_paused = true)]
async fn polls_are_small_and_send() {
    let poller = Poller::new(retrieve_fn(|_| async {
        // A transport with a large future of its own.
        let held = [0_u8; 16 * 1024];
        tokio::time::sleep(secs(1)).await;
        std::hint::black_box(&held);
        json(200, "{}")
    }))
    .payload_budget(Arc::new(ByteBudget::new(1)));
    let poll = assert_send(poller.poll(PromiseRef::new("r", RequestType::Sample)));
    let size = size_of_val(&poll);
    assert!((100..1536).contains(&size), "{size}");
    poll.await.unwrap();

    let session = SessionPoller::new(Session::new([]), tokio::runtime::Handle::current());
    let poll = assert_send(poller.poll_announced(PromiseRef::new("r", RequestType::Sample), &session));
    assert!(size_of_val(&poll) < 2048, "{}", size_of_val(&poll));
    drop(poll);
    assert!(size_of::<PollError>() <= size_of::<usize>());
    assert!(size_of::<Completion>() <= 24);
}

/// The parts are shared between threads.
#[test]
fn parts_are_send_and_sync() {
    assert_shared::<Poller<Arc<Script>>>();
    assert_shared::<SessionPoller<Session>>();
    assert_shared::<ByteBudget>();
    assert_shared::<PollError>();
}

/// The poll runs on a multi-thread runtime.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polls_can_be_spawned() {
    let poller = Poller::new(retrieve_fn(|_| async { json(200, "{}") })).seed(1);
    let polls: Vec<_> = (0..50)
        .map(|n| {
            let poller = poller.clone();
            tokio::spawn(
                async move { poller.poll(PromiseRef::new(format!("r{n}"), RequestType::Sample)).await },
            )
        })
        .collect();
    for poll in polls {
        poll.await.unwrap().unwrap();
    }
}

/// The text of an error: what, which, how often, how long, why; the source is left to `source()`.
#[tokio::test(start_paused = true)]
async fn errors_read_well() {
    let script = Script::timed([
        (secs(1), json(408, "")),
        (secs(1), json(408, "")),
        (ms(100), json(200, r#"{"error":"bad prompt","category":"user"}"#)),
    ]);
    let poller = Poller::new(script).policy(PollPolicy::default());
    let error = poller.poll(PromiseRef::new("req-7", RequestType::Sample)).await.unwrap_err();
    assert_eq!(error.to_string(), "sample request req-7 failed after 3 polls in 2.1 s: bad prompt");
    assert_eq!(error.request_id(), "req-7");
    assert_eq!(error.request_type(), RequestType::Sample);
    let script = Script::instant([json(403, "")]);
    let error =
        Poller::new(script).poll(PromiseRef::new("q", RequestType::ForwardBackward)).await.unwrap_err();
    assert_eq!(error.to_string(), "forward backward request q failed after 1 poll in 0.0 s: HTTP 403");
}
