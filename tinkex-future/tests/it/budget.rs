//! The byte budget, alone and under large results.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::future::join_all;
use tinkex_future::{ByteBudget, PollErrorKind, Poller, PromiseRef, retrieve_fn};
use tinkex_types::RequestType;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{Script, done, json, ms, secs};

const MIB: u64 = 1024 * 1024;

fn metadata(bytes: u64) -> tinkex_future::Outcome {
    json(200, &format!(r#"{{"status":"complete_metadata","response_payload_size":{bytes}}}"#))
}

/// PROTOCOL 12.5: with 10 bytes, requests of 4 pass three at a time; with 0 left one more passes; recorded peaks of
/// 1000 bytes: four of 300, one of 6000.
#[tokio::test(start_paused = true)]
async fn one_holder_may_overdraw() {
    for (limit, bytes, passing) in [(10, 4, 3), (8, 4, 3), (1000, 300, 4), (1000, 6000, 1), (0, 5, 1)] {
        let budget = Arc::new(ByteBudget::new(limit));
        let mut held = Vec::new();
        while let Some(permit) = budget.acquire(bytes).now_or_never() {
            held.push(permit);
        }
        assert_eq!(held.len() as u64, passing, "{limit}/{bytes}");
        assert_eq!(budget.in_use(), passing * bytes);
        assert_eq!(budget.available(), limit as i64 - (passing * bytes) as i64);
        assert!(budget.try_acquire(1).is_none());
        drop(held);
        assert_eq!((budget.in_use(), budget.available()), (0, limit as i64));
    }
}

/// Sizes at the end of the range neither overflow nor lose bytes.
#[tokio::test]
async fn enormous_sizes_are_counted_right() {
    let budget = Arc::new(ByteBudget::new(u64::MAX));
    let held = [budget.acquire(u64::MAX).await, budget.acquire(u64::MAX).await];
    assert_eq!((budget.in_use(), held[0].bytes()), (u64::MAX, u64::MAX));
    assert!(budget.try_acquire(0).is_none());
    drop(held);
    assert_eq!((budget.in_use(), budget.available()), (0, i64::MAX));
}

/// Waiters pass in the order they came, a small one does not overtake, and one that leaves is skipped.
#[tokio::test(start_paused = true)]
async fn waiters_pass_in_order() {
    let budget = Arc::new(ByteBudget::new(10));
    let held = budget.acquire(20).await;
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let tasks: Vec<_> = [(0, 20), (1, 20), (2, 1), (3, 1)]
        .into_iter()
        .map(|(n, bytes)| {
            let (budget, order) = (budget.clone(), order.clone());
            tokio::spawn(async move {
                let permit = budget.acquire(bytes).await;
                order.lock().unwrap().push(n);
                sleep(ms(10)).await;
                drop(permit);
            })
        })
        .collect();
    sleep(ms(1)).await;
    assert!(budget.try_acquire(0).is_none(), "nobody overtakes");
    tasks[1].abort();
    sleep(ms(1)).await;
    drop(held);
    let ended = join_all(tasks).await;
    assert_eq!(ended.iter().filter(|end| end.is_ok()).count(), 3);
    assert_eq!(*order.lock().unwrap(), [0, 2, 3]);
    assert_eq!(budget.available(), 10);
}

/// CA-1, F-07: whoever is cancelled, at whatever moment, the budget is whole afterwards and nobody hangs.
#[tokio::test(start_paused = true)]
async fn cancelled_holders_and_waiters_leak_nothing() {
    let budget = Arc::new(ByteBudget::new(100));
    let tasks: Vec<_> = (0..200_u64)
        .map(|n| {
            let budget = budget.clone();
            let life = ms(n % 17);
            tokio::spawn(timeout(life, async move {
                let _permit = budget.acquire(30 + n % 90).await;
                sleep(ms(5)).await;
            }))
        })
        .collect();
    for (n, task) in tasks.iter().enumerate() {
        if n % 5 == 0 {
            task.abort();
        }
    }
    join_all(tasks).await;
    assert_eq!(budget.available(), 100);
    assert!(budget.acquire(500).now_or_never().is_some());
}

/// FU-2: five results of 10 MB under a budget of 5 MiB come in one after the other, and all of them come in.
#[tokio::test(start_paused = true)]
async fn large_results_share_the_budget() {
    let (now, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let budget = Arc::new(ByteBudget::new(5 * MIB));
    let fetching = (now.clone(), peak.clone());
    let poller = Poller::new(retrieve_fn(move |ask| {
        let (now, peak) = fetching.clone();
        let only_metadata = ask.allow_metadata_only;
        async move {
            if only_metadata {
                return metadata(10_000_000);
            }
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(secs(1)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            done()
        }
    }))
    .payload_budget(budget.clone());
    let started = Instant::now();
    let polls = (0..5).map(|n| {
        let poller = poller.clone();
        tokio::spawn(async move {
            let payload = poller.poll(PromiseRef::new(format!("r{n}"), RequestType::Sample)).await.unwrap();
            assert_eq!(payload.reservation.as_ref().unwrap().bytes(), 10_000_000);
            // Decoding: the reservation is held for as long as the payload is.
            sleep(secs(1)).await;
        })
    });
    for end in join_all(polls.collect::<Vec<_>>()).await {
        end.unwrap();
    }
    assert_eq!(peak.load(Ordering::SeqCst), 1);
    assert_eq!(started.elapsed(), secs(10), "one after the other, with nothing in between");
    assert_eq!(budget.available(), 5 * MIB as i64);
}

/// FU-2: a poll cancelled while it waits, fetches or holds gives its bytes back, and the next goes on.
#[tokio::test(start_paused = true)]
async fn cancelled_large_polls_give_back() {
    let budget = Arc::new(ByteBudget::new(5 * MIB));
    let script = Script::timed([
        (ms(10), metadata(10 * MIB)),
        (ms(10), metadata(10 * MIB)),
        (secs(9), done()),
        (secs(9), done()),
    ]);
    let poller = Poller::new(script.clone()).payload_budget(budget.clone());
    let poll = |id: &'static str| {
        let poller = poller.clone();
        tokio::spawn(async move { poller.poll(PromiseRef::new(id, RequestType::Sample)).await })
    };
    let (first, second) = (poll("a"), poll("b"));
    sleep(secs(1)).await;
    assert_eq!(budget.available(), -5 * MIB as i64);
    assert_eq!(script.count(), 3, "the second waits for the first");
    first.abort();
    let payload = second.await.unwrap().unwrap();
    assert_eq!(budget.in_use(), 10 * MIB);
    drop(payload);
    assert_eq!(budget.available(), 5 * MIB as i64);
    assert_eq!(script.asked()[3].iteration, 1);
    assert!(!script.asked()[3].allow_metadata_only);
}

/// Failures after the reservation give it back; without a budget nothing is reserved; no size is a size of 0.
#[tokio::test(start_paused = true)]
async fn reservations_end_with_the_poll() {
    let budget = Arc::new(ByteBudget::new(MIB));
    let script = Script::instant([metadata(7), json(200, r#"{"error":"x"}"#)]);
    let poller = Poller::new(script).payload_budget(budget.clone());
    let error = poller.poll(PromiseRef::new("r", RequestType::Sample)).await.unwrap_err();
    assert_eq!((error.kind(), budget.in_use()), (PollErrorKind::Failed, 0));

    let script = Script::instant([metadata(7), done()]);
    let payload = Poller::new(script).poll(PromiseRef::new("r", RequestType::Sample)).await.unwrap();
    assert!(payload.reservation.is_none());

    let script = Script::instant([json(200, r#"{"status":"complete_metadata"}"#), done()]);
    let poller = Poller::new(script).payload_budget(budget.clone());
    let payload = poller.poll(PromiseRef::new("r", RequestType::Sample)).await.unwrap();
    assert_eq!(payload.reservation.unwrap().bytes(), 0);
}
