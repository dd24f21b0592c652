//! The session poller at its seam: the recorded flows, errors, cancellation and closing.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use tinkex_future::{
    ByteBudget, Completion, ManyAsk, ManyOutcome, PollErrorKind, PollPolicy, Poller, PromiseRef,
    RetrieveMany, SessionPoller,
};
use tinkex_types::RequestType;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{Log, Script, done, json, ms, refused, secs};

/// A scripted session: answers in order, then holds every further poll open.
#[derive(Clone)]
pub(crate) struct Session(Arc<Inner>);

struct Inner {
    started: Instant,
    steps: Mutex<VecDeque<(Duration, ManyOutcome)>>,
    asked: Mutex<Vec<(u128, String)>>,
}

impl Session {
    pub(crate) fn new(steps: impl IntoIterator<Item = (Duration, ManyOutcome)>) -> Self {
        let steps = Mutex::new(steps.into_iter().collect());
        Self(Arc::new(Inner { started: Instant::now(), steps, asked: Mutex::default() }))
    }

    /// The asks so far: `<cursor>[ ack][ id...]`.
    fn asks(&self) -> Vec<String> {
        self.0.asked.lock().unwrap().iter().map(|(_, ask)| ask.clone()).collect()
    }

    fn arrivals(&self) -> Vec<u128> {
        self.0.asked.lock().unwrap().iter().map(|(at, _)| *at).collect()
    }

    fn poller(&self) -> SessionPoller<Self> {
        SessionPoller::new(self.clone(), Handle::current())
    }
}

impl RetrieveMany for Session {
    async fn retrieve_many(&self, ask: &ManyAsk) -> ManyOutcome {
        let ids: String = ask.retrieved_request_ids.iter().map(|id| format!(" {id}")).collect();
        let line = format!("{}{}{ids}", ask.prev_cursor, if ask.ack_only { " ack" } else { "" });
        assert_eq!(ask.client_timeout(), secs(if ask.ack_only { 5 } else { 45 }));
        self.0.asked.lock().unwrap().push((self.0.started.elapsed().as_millis(), line));
        let step = self.0.steps.lock().unwrap().pop_front();
        match step {
            Some((delay, outcome)) => {
                sleep(delay).await;
                outcome
            }
            None => pending().await,
        }
    }
}

fn held(body: &str) -> (Duration, ManyOutcome) {
    (secs(5), json(200, body))
}

/// An answer to an ack: at once, nothing new.
fn acked(cursor: i64) -> (Duration, ManyOutcome) {
    (ms(10), json(200, &format!(r#"{{"completions":[],"cursor":{cursor}}}"#)))
}

fn finished(id: &str, size: u64, cursor: i64) -> (Duration, ManyOutcome) {
    held(&format!(
        r#"{{"completions":[{{"state":"finished","request_id":"{id}","response_payload_uncompressed_size":{size}}}],"cursor":{cursor}}}"#
    ))
}

fn promise(id: &str) -> PromiseRef {
    PromiseRef::new(id, RequestType::Sample)
}

/// Flow `retrieve_futures_flow`: cursor 0 twice, an ack of the cursor, the fetch with the size reserved, an ack of
/// the id.
#[tokio::test(start_paused = true)]
async fn announces_fetches_and_acknowledges() {
    let session = Session::new([
        held(r#"{"completions":[],"cursor":0}"#),
        finished("req-s", 100, 7),
        acked(7),
        acked(7),
    ]);
    let poller = session.poller();
    let script = Script::timed([(secs(1), done())]);
    let budget = Arc::new(ByteBudget::new(1000));
    let fetch = Poller::new(script.clone()).payload_budget(budget.clone());
    let payload = fetch.poll_announced(promise("req-s").with_create_roundtrip(ms(3)), &poller).await.unwrap();
    assert_eq!(payload.reservation.as_ref().unwrap().bytes(), 100);
    assert_eq!(budget.in_use(), 100);
    let asked = script.asked();
    assert_eq!((asked.len(), asked[0].allow_metadata_only), (1, false));
    assert_eq!((asked[0].at, asked[0].create_roundtrip), (secs(10), Some(ms(3))));
    sleep(secs(100)).await;
    assert_eq!(session.asks(), ["0", "0", "7 ack", "7 ack req-s"]);
}

/// Flow `retrieve_futures_failed`: the error is fetched by a normal poll, and the id is acknowledged.
#[tokio::test(start_paused = true)]
async fn a_failed_completion_is_fetched_like_any_other() {
    let failed = held(r#"{"completions":[{"state":"failed","request_id":"req-s"}],"cursor":1}"#);
    let session = Session::new([failed, acked(1), acked(1)]);
    let poller = session.poller();
    let script = Script::timed([(secs(1), json(200, r#"{"error":"bad","category":"user"}"#))]);
    let error = Poller::new(script.clone()).poll_announced(promise("req-s"), &poller).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (PollErrorKind::Failed, "bad"));
    assert!(script.asked()[0].allow_metadata_only);
    sleep(secs(100)).await;
    assert_eq!(session.asks(), ["0", "1 ack", "1 ack req-s"]);
}

/// Flow `retrieve_futures_5xx_then_ok` and the other passing errors: a pause of 1 s, the same cursor.
#[tokio::test(start_paused = true)]
async fn passing_errors_pause_a_second() {
    let errors = [
        json(503, r#"{"detail":"x"}"#),
        json(408, ""),
        json(409, ""),
        json(429, ""),
        refused(),
        crate::support::cut_off(),
        json(400, ""),
        json(200, "nonsense"),
        json(400, ""),
    ];
    let count = errors.len() as u128;
    let steps = errors.into_iter().map(|outcome| (Duration::ZERO, outcome));
    let session = Session::new(steps.chain([finished("req-s", 9, 1), acked(1), acked(1)]));
    let poller = session.poller();
    let completion = poller.wait("req-s").await.unwrap();
    assert_eq!(completion, Completion::Finished { size: Some(9) });
    assert_eq!(session.arrivals()[..10], (0..=count).map(|n| n * 1000).collect::<Vec<_>>());
    assert!(session.asks()[..10].iter().all(|ask| ask == "0"));
}

/// 402: 5 s each, one line a minute, and terminal after its limit.
#[tokio::test(start_paused = true)]
async fn a_billing_pause_holds_the_session() {
    let (log, _guard) = Log::capture();
    let steps = (0..4).map(|_| (Duration::ZERO, json(402, r#"{"detail":"pay"}"#)));
    let session = Session::new(steps);
    let poller = session.poller().billing_pause(secs(15));
    let error = poller.wait("r").await.unwrap_err();
    assert_eq!(error.status(), Some(402));
    assert_eq!(session.arrivals(), [0, 5000, 10_000, 15_000]);
    assert_eq!(log.lines_with("The job is paused due to billing status. Error:").len(), 1);
}

/// Flow `retrieve_futures_fatal`: every waiter and every later one fails, but not one whose completion is known.
#[tokio::test(start_paused = true)]
async fn a_fatal_error_fails_everyone() {
    let session = Session::new([finished("known", 0, 1), (secs(1), json(403, r#"{"detail":"nope"}"#))]);
    let poller = session.poller();
    let script = Script::instant([]);
    let fetch = Poller::new(script.clone());
    let (known, one, two) =
        tokio::join!(poller.wait("known"), poller.wait("a"), fetch.poll_announced(promise("b"), &poller));
    assert_eq!(known.unwrap(), Completion::Finished { size: Some(0) });
    let error = one.unwrap_err();
    assert_eq!((error.status(), error.message()), (Some(403), "HTTP 403: nope"));
    let error = two.unwrap_err();
    assert_eq!((error.kind(), error.status(), error.polls()), (PollErrorKind::SessionPoll, Some(403), 0));
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("nope"));
    assert!(poller.wait("later").await.is_err());
    assert!(poller.wait("known").await.is_ok());
    assert_eq!((script.count(), session.asks().len()), (0, 2));
    // What ends it at once, and what only in the fourth place.
    for (outcomes, polls) in [
        (vec![json(501, "")], 1),
        (vec![json(404, "")], 1),
        (vec![json(410, "")], 1),
        ((0..4).map(|_| json(400, "")).collect(), 4),
        ((0..4).map(|n| json(200, if n == 2 { "[]" } else { "x" })).collect(), 4),
    ] {
        let session = Session::new(outcomes.into_iter().map(|outcome| (Duration::ZERO, outcome)));
        assert!(session.poller().wait("r").await.is_err());
        assert_eq!(session.asks().len(), polls);
    }
}

/// PROTOCOL 16.6: a report is answered at once and brings nothing new. Who begins to wait meanwhile is asked for at once,
/// however often that happens.
#[tokio::test(start_paused = true)]
async fn nobody_waits_behind_a_report() {
    let rounds = (1..=20).flat_map(|n| [finished(&format!("r-{n}"), 1, n), acked(n)]);
    let session = Session::new(rounds);
    let poller = session.poller();
    let begun = Instant::now();
    for n in 1..=20 {
        let id = format!("r-{n}");
        poller.wait(&id).await.unwrap();
        poller.mark_retrieved(&id);
        // The next one begins while the report is on its way.
        sleep(ms(5)).await;
    }
    // Twenty answers that were held for 5 s each, and nothing but the reports between them.
    assert!((secs(100)..secs(101)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

/// Nothing is asked before the first waiter, and nothing when all is reported.
#[tokio::test(start_paused = true)]
async fn it_sleeps_when_there_is_nothing_to_do() {
    let session = Session::new([finished("a", 1, 1), acked(1), acked(1), finished("b", 1, 2), acked(2)]);
    let poller = session.poller();
    sleep(secs(100)).await;
    assert_eq!(session.asks(), [""; 0]);
    poller.wait("a").await.unwrap();
    poller.mark_retrieved("a");
    sleep(secs(100)).await;
    let so_far = session.asks().len();
    assert!((2..=3).contains(&so_far), "{:?}", session.asks());
    assert_eq!(session.asks().last().unwrap(), "1 ack a");
    assert!(timeout(secs(100), poller.wait("b")).await.is_ok());
}

/// Announcements without a waiter are kept; a dropped waiter loses nothing; several may wait for the same promise.
#[tokio::test(start_paused = true)]
async fn waits_are_cancel_safe() {
    let both = r#"{"completions":[{"state":"finished","request_id":"a"},{"state":"finished","request_id":"b","response_payload_uncompressed_size":5}],"cursor":1}"#;
    let session = Session::new([held(both), acked(1)]);
    let poller = session.poller();
    assert!(timeout(secs(2), poller.wait("b")).await.is_err());
    let (first, second) = tokio::join!(poller.wait("a"), poller.wait("a"));
    assert_eq!(
        (first.unwrap(), second.unwrap()),
        (Completion::Finished { size: None }, Completion::Finished { size: None })
    );
    // `b` was announced while nobody waited for it; it is there at once, as often as asked.
    for _ in 0..2 {
        let known = poller.wait("b").now_or_never().unwrap();
        assert_eq!(known.unwrap(), Completion::Finished { size: Some(5) });
    }
    poller.mark_retrieved("b");
    assert!(timeout(secs(60), poller.wait("b")).await.is_err(), "forgotten once retrieved");
}

/// A waiter that gave up is not asked for any more.
#[tokio::test(start_paused = true)]
async fn abandoned_waits_end_the_asking() {
    let session = Session::new([held(r#"{"completions":[],"cursor":0}"#)]);
    let poller = session.poller();
    assert!(timeout(secs(2), poller.wait("a")).await.is_err());
    sleep(secs(100)).await;
    assert_eq!(session.asks(), ["0"]);
}

/// Odd entries do not hide the good ones, and an unknown end is still an end.
#[tokio::test(start_paused = true)]
async fn odd_completions_are_tolerated() {
    let body = r#"{"completions":[7,null,{},{"request_id":3},{"state":"FINISHED","request_id":"a","response_payload_uncompressed_size":"x"},{"state":"cancelled","request_id":"b"},{"request_id":"c"}],"cursor":"odd"}"#;
    let session = Session::new([held(body)]);
    let poller = session.poller();
    let (a, b, c) = tokio::join!(poller.wait("a"), poller.wait("b"), poller.wait("c"));
    assert_eq!(a.unwrap(), Completion::Finished { size: None });
    assert_eq!((b.unwrap(), c.unwrap()), (Completion::Failed, Completion::Failed));
    sleep(secs(10)).await;
    assert_eq!(session.asks(), ["0"], "no new cursor, nothing to acknowledge");
}

/// A server that does not hold the call is not hammered.
#[tokio::test(start_paused = true)]
async fn instant_empty_answers_are_paced() {
    let session =
        Session::new((0..10_000).map(|_| (Duration::ZERO, json(200, r#"{"completions":[],"cursor":0}"#))));
    let poller = session.poller();
    assert!(timeout(secs(60), poller.wait("a")).await.is_err());
    let asks = session.asks().len();
    assert!((55..75).contains(&asks), "{asks}");
}

/// Nor is one that ignores the cursor and announces again and again what nobody waits for (F-19).
#[tokio::test(start_paused = true)]
async fn repeated_announcements_are_paced() {
    let known = r#"{"completions":[{"state":"finished","request_id":"dropped"}],"cursor":1}"#;
    let session = Session::new((0..10_000).map(|_| (Duration::ZERO, json(200, known))));
    let poller = session.poller();
    assert!(timeout(secs(60), poller.wait("a")).await.is_err());
    let asks = session.asks().len();
    assert!((55..75).contains(&asks), "{asks}");
}

/// Closing sends what was not reported, once, and fails whoever still waits.
#[tokio::test(start_paused = true)]
async fn closing_reports_the_rest() {
    let session = Session::new([finished("a", 1, 4), acked(4), (secs(60), refused()), acked(4)]);
    let poller = Arc::new(session.poller());
    poller.wait("a").await.unwrap();
    sleep(secs(1)).await;
    // A waiter for something else keeps a long poll open while `a` is fetched.
    let waiter = tokio::spawn({
        let poller = poller.clone();
        async move { poller.wait("b").await }
    });
    sleep(secs(1)).await;
    poller.mark_retrieved("a");
    poller.close().await;
    assert!(waiter.await.unwrap().is_err());
    assert_eq!(session.asks(), ["0", "4 ack", "4", "4 ack a"]);
    assert!(poller.wait("c").await.is_err());
    poller.close().await;
    sleep(secs(100)).await;
    assert_eq!(session.asks().len(), 4, "closing twice reports once");
}

/// Closing does not wait for a server that is gone.
#[tokio::test(start_paused = true)]
async fn closing_is_bounded() {
    let session = Session::new([finished("a", 1, 4), acked(4)]);
    let poller = session.poller();
    poller.wait("a").await.unwrap();
    sleep(secs(1)).await;
    poller.mark_retrieved("a");
    let started = Instant::now();
    poller.close().await;
    assert_eq!(started.elapsed(), secs(5));
}

/// Dropping the poller ends its task: nothing it held lives on.
#[tokio::test(start_paused = true)]
async fn dropping_ends_the_task() {
    let session = Session::new([]);
    let poller = session.poller();
    assert!(timeout(secs(1), poller.wait("a")).await.is_err());
    assert!(Arc::strong_count(&session.0) >= 2);
    drop(poller);
    tokio::task::yield_now().await;
    sleep(ms(1)).await;
    assert_eq!(Arc::strong_count(&session.0), 1);
}

/// A seam that panics fails the waiters instead of leaving them hanging (F-30).
#[tokio::test(start_paused = true)]
async fn a_panicking_seam_fails_the_waiters() {
    struct Broken;
    impl RetrieveMany for Broken {
        async fn retrieve_many(&self, _: &ManyAsk) -> ManyOutcome {
            std::panic::resume_unwind(Box::new("broken seam"));
        }
    }
    let poller = SessionPoller::new(Broken, Handle::current());
    assert!(timeout(secs(1), poller.wait("a")).await.unwrap().is_err());
}

/// A task that never runs, because its runtime is gone already, fails the waiters all the same (F-30).
#[tokio::test(start_paused = true)]
async fn a_runtime_that_is_gone_fails_the_waiters() {
    let gone = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let handle = gone.handle().clone();
    gone.shutdown_background();
    let poller = SessionPoller::new(Session::new([]), handle);
    assert!(timeout(secs(1), poller.wait("a")).await.unwrap().is_err());
}

/// The deadline covers the wait for the announcement too.
#[tokio::test(start_paused = true)]
async fn a_deadline_covers_the_announcement() {
    let session = Session::new([]);
    let poller = session.poller();
    for deadline in [Duration::ZERO, ms(2500)] {
        let fetch = Poller::new(Script::instant([])).policy(PollPolicy::default().deadline(deadline));
        let started = Instant::now();
        let error = fetch.poll_announced(promise("a"), &poller).await.unwrap_err();
        assert_eq!((error.kind(), started.elapsed()), (PollErrorKind::Timeout, deadline));
    }
}
