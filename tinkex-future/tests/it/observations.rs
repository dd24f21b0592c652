//! Queue states: what observers are told, and what they cannot break.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tinkex_future::{Outcome, PollErrorKind, Poller, PromiseRef, RawResponse};
use tinkex_types::{ClientKind, QueueState, QueueStateChange, QueueStateObserver, RequestType};

use crate::support::{Log, Recorder, Script, done, json, refused};

fn promise() -> PromiseRef {
    PromiseRef::new("req-s", RequestType::Sample)
}

fn state(state: &str) -> Outcome {
    json(200, &format!(r#"{{"type":"try_again","queue_state":"{state}"}}"#))
}

/// Polls held answers to the end and returns what the observer saw.
async fn observed(steps: impl IntoIterator<Item = Outcome>) -> Arc<Recorder> {
    let recorder = Arc::new(Recorder::default());
    let script = Script::held(steps);
    let poller =
        Poller::new(script.clone()).observer(recorder.clone()).client(ClientKind::Sampling, "sess:0");
    let _ = poller.poll(promise()).await;
    assert_eq!(script.left(), 0, "the script was played to its end");
    recorder
}

fn pair(state: &str, reason: Option<&str>) -> (String, Option<String>) {
    (state.to_owned(), reason.map(str::to_owned))
}

/// Flow `retrieve_future_try_again_408_proto`: the recorded observer calls.
#[tokio::test(start_paused = true)]
async fn observer_calls_as_recorded() {
    let recorder = observed([
        json(
            200,
            r#"{"type":"try_again","queue_state":"paused_capacity","queue_state_reason":"warming up"}"#,
        ),
        json(408, r#"{"type":"try_again","queue_state":"paused_rate_limit","queue_state_reason":null}"#),
        json(408, r#"{"type":"try_again","queue_state":"active"}"#),
        RawResponse::protobuf(200, &b"x"[..]).into(),
    ])
    .await;
    let expected = [
        pair("paused_capacity", Some("warming up")),
        pair("paused_rate_limit", None),
        pair("active", None),
        pair("active", None),
    ];
    assert_eq!(recorder.states(), expected);
    let first = &recorder.all()[0];
    assert_eq!(
        (first.client, &*first.client_id, &*first.request_id),
        (ClientKind::Sampling, "sess:0", "req-s")
    );
}

/// Flow `retrieve_future_try_again_no_state`, with the one difference of C-5: a state nobody knows is reported even
/// without a reason.
#[tokio::test(start_paused = true)]
async fn answers_without_a_state_are_not_reported() {
    let recorder = observed([
        json(200, r#"{"type":"try_again","request_id":"req-s"}"#),
        json(200, r#"{"type":"try_again","queue_state":"weird"}"#),
        json(200, r#"{"type":"try_again","queue_state":"weird","queue_state_reason":"r"}"#),
        json(408, r#"{"type":"try_again","queue_state":"weird"}"#),
        json(408, r#"{"type":"try_again","queue_state_reason":"only reason"}"#),
        json(408, "not json"),
        RawResponse::protobuf(200, &b"x"[..]).into(),
    ])
    .await;
    let expected = [pair("weird", None), pair("weird", Some("r")), pair("weird", None), pair("active", None)];
    assert_eq!(recorder.states(), expected);
}

/// PROTOCOL 17.2 and C-5: which endings report `active`, and which answers report nothing.
#[tokio::test(start_paused = true)]
async fn completion_is_active() {
    let failed = json(200, r#"{"error":"bad","category":"user"}"#);
    let open_server = json(422, r#"{"detail":"bad"}"#);
    for end in [done(), failed, open_server] {
        assert_eq!(observed([end]).await.states(), [pair("active", None)]);
    }
    let silent = [json(410, ""), json(403, ""), json(200, "nonsense"), json(501, "")];
    for end in silent {
        let steps =
            [json(503, r#"{"queue_state":"paused_capacity"}"#), refused(), json(402, ""), json(429, ""), end];
        assert_eq!(observed(steps).await.states(), []);
    }
    let limited = json(429, r#"{"queue_state":"paused_rate_limit","queue_state_reason":"slow down"}"#);
    let expected = [pair("paused_rate_limit", Some("slow down")), pair("active", None)];
    assert_eq!(observed([limited, done()]).await.states(), expected);
}

/// QS-1: a pause that lasts is observed each time and is one transition; its end is another.
#[tokio::test(start_paused = true)]
async fn a_lasting_pause_is_one_transition() {
    let pause = || state("paused_rate_limit");
    let recorder = observed([pause(), pause(), pause(), done()]).await;
    assert_eq!(recorder.all().len(), 4);
    assert_eq!(recorder.transitions(), ["paused_rate_limit", "active"]);
    let previous: Vec<_> = recorder.all().into_iter().map(|change| change.previous).collect();
    let paused = Some(QueueState::PausedRateLimit);
    assert_eq!(previous, [None, paused.clone(), paused.clone(), paused]);
}

/// S2-17: paused, paused, active, paused are three transitions. A changed reason is one too.
#[tokio::test(start_paused = true)]
async fn transitions_are_changes() {
    let steps =
        [state("paused_capacity"), state("paused_capacity"), state("active"), state("paused_capacity")];
    let recorder = observed(steps.into_iter().chain([json(410, "")])).await;
    assert_eq!(recorder.transitions(), ["paused_capacity", "active", "paused_capacity"]);

    let because =
        |why| json(408, &format!(r#"{{"queue_state":"paused_capacity","queue_state_reason":{why}}}"#));
    let steps = [because("null"), because(r#""a""#), because(r#""a""#), because(r#""b""#), because(r#"" ""#)];
    let recorder = observed(steps.into_iter().chain([json(410, "")])).await;
    assert_eq!(
        recorder.all().iter().map(QueueStateChange::is_transition).collect::<Vec<_>>(),
        [true, true, false, true, true]
    );
}

/// The first state a server reports counts, `active` too; the end of a promise that was never paused does not.
#[tokio::test(start_paused = true)]
async fn first_states_count_and_quiet_ends_do_not() {
    assert_eq!(observed([state("active"), done()]).await.transitions(), ["active"]);
    assert_eq!(observed([done()]).await.transitions(), Vec::<String>::new());
    assert_eq!(observed([state("weird"), done()]).await.transitions(), ["weird", "active"]);
}

/// QS-4: ten flaps are twenty transitions.
#[tokio::test(start_paused = true)]
async fn flapping_is_reported_in_full() {
    let flaps = (0..10).flat_map(|_| [state("paused_capacity"), state("active")]);
    assert_eq!(observed(flaps.chain([done()])).await.transitions().len(), 20);
}

/// QS-6, S2-20: an observer that panics every time costs one warning, and the poll its observer, nothing more.
#[tokio::test(start_paused = true)]
async fn a_panicking_observer_is_survived() {
    struct Broken(AtomicU32);
    impl QueueStateObserver for Broken {
        fn on_queue_state_change(&self, _: QueueState) {
            self.0.fetch_add(1, Ordering::Relaxed);
            std::panic::resume_unwind(Box::new("broken observer"));
        }
    }
    let (log, _guard) = Log::capture();
    let broken = Arc::new(Broken(AtomicU32::new(0)));
    let script = Script::held([state("paused_capacity"), state("paused_rate_limit"), done()]);
    let poller = Poller::new(script).observer(broken.clone());
    assert!(poller.poll(promise()).await.is_ok());
    assert_eq!(broken.0.load(Ordering::Relaxed), 3);
    assert_eq!(log.lines_with("observer panicked").len(), 1);
}

/// The end is observed before the result is handed out, for failures too.
#[tokio::test(start_paused = true)]
async fn completion_is_observed_before_the_result() {
    let recorder = Arc::new(Recorder::default());
    let script = Script::instant([json(200, r#"{"error":"x"}"#)]);
    let error = Poller::new(script).observer(recorder.clone()).poll(promise()).await.unwrap_err();
    assert_eq!(error.kind(), PollErrorKind::Failed);
    assert_eq!(recorder.states(), [pair("active", None)]);
}
