//! The step function: tables, recorded vectors, and properties over arbitrary sequences of answers.

use std::time::Duration;

use proptest::prelude::*;
use serde::Deserialize;
use tinkex_future::{
    Answer, LONGEST_WAIT, Next, Outcome, Payload, PollError, PollErrorKind, PollPolicy, PollState,
    RawResponse, step,
};
use tinkex_types::{ErrorCategory, RequestType};
use tokio::time::Instant;

use crate::support::{cut_off, json, ms, refused, secs};

/// A poll on a clock of its own.
struct Bench {
    state: PollState,
    policy: PollPolicy,
    now: Instant,
}

impl Bench {
    fn new(policy: PollPolicy) -> Self {
        let now = Instant::now();
        Self { state: PollState::new("r", RequestType::Sample, now), policy, now }
    }

    /// Takes an answer in at the present time, jitter switched off.
    fn take(&mut self, outcome: Outcome, took: Duration) -> Next {
        step(&mut self.state, &self.policy, Answer::of(outcome), self.now, took, 0.0).next
    }

    /// The wait after an answer that came at once; the clock then moves on by it.
    fn wait(&mut self, outcome: Outcome) -> Duration {
        let next = self.take(outcome, Duration::ZERO);
        let Next::PollAfter(wait) = next else { panic!("{next:?}") };
        self.now += wait;
        wait
    }

    fn end(&mut self, outcome: Outcome) -> Result<Payload, PollError> {
        let next = self.take(outcome, Duration::ZERO);
        let Next::Finish(end) = next else { panic!("{next:?}") };
        end
    }
}

#[derive(Deserialize)]
struct Vectors {
    retrieve_future_backoff_delays: Vec<u64>,
    retrieve_future_status_actions: Vec<StatusAction>,
}

#[derive(Deserialize)]
struct StatusAction {
    status: u16,
    action: String,
    carries_queue_state: bool,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../fixtures/retrieve_future.json")).unwrap()
}

/// The recorded reactions to each status. Two differ on purpose: 402 is waited out first, and 429 bodies carry a
/// state too (C-5).
#[test]
fn statuses_act_as_recorded() {
    let vectors = vectors();
    assert_eq!(vectors.retrieve_future_status_actions.len(), 16);
    for StatusAction { status, action, carries_queue_state } in vectors.retrieve_future_status_actions {
        let mut bench = Bench::new(PollPolicy::default().billing_pause(Duration::ZERO));
        let body = r#"{"queue_state":"paused_capacity"}"#;
        let answer = Answer::of(json(status, body));
        let taken = step(&mut bench.state, &bench.policy, answer, bench.now, Duration::ZERO, 0.0);
        let did = match &taken.next {
            Next::PollAfter(wait) if status == 429 => {
                assert_eq!(*wait, secs(1));
                "retry_with_backoff"
            }
            Next::PollAfter(wait) => {
                assert!(*wait <= secs(1), "{status}: {wait:?}");
                if status == 400 { "retry_if_budget" } else { "retry" }
            }
            Next::Finish(Err(error)) if error.kind() == PollErrorKind::Expired => "retryable_exception",
            Next::Finish(Err(error)) => {
                assert_eq!(error.kind(), PollErrorKind::Status(status));
                assert_eq!(error.status(), Some(status));
                "fatal"
            }
            next => panic!("{status}: {next:?}"),
        };
        assert_eq!(did, action, "{status}");
        let reports = carries_queue_state || status == 429;
        assert_eq!(taken.observation.is_some(), reports, "{status}");
    }
}

/// The recorded delays after 429s and connection failures, in any mixture.
#[test]
fn setbacks_back_off_as_recorded() {
    let expected = vectors().retrieve_future_backoff_delays;
    let kinds: [fn(usize) -> Outcome; 3] =
        [|_| refused(), |_| json(429, ""), |n| if n % 2 == 0 { refused() } else { json(429, "{}") }];
    for kind in kinds {
        let mut bench = Bench::new(PollPolicy::default());
        let waits: Vec<_> = (0..expected.len()).map(|n| bench.wait(kind(n)).as_secs()).collect();
        assert_eq!(waits, expected);
    }
}

/// REQUIREMENTS 3.2 "Python's rule": the count is of consecutive failures, not of polls, and any other outcome
/// starts it anew. Three pendings before a blip do not make it longer.
#[test]
fn any_other_outcome_resets_the_backoff() {
    for between in
        [json(408, ""), json(200, r#"{"type":"try_again"}"#), json(503, ""), json(400, ""), cut_off()]
    {
        let mut bench = Bench::new(PollPolicy::default());
        assert_eq!(bench.wait(refused()), secs(1));
        assert_eq!(bench.wait(refused()), secs(2));
        bench.wait(between);
        assert_eq!(bench.wait(refused()), secs(1));
    }
    // A billing pause is the exception (PROTOCOL 16.3).
    let mut bench = Bench::new(PollPolicy::default());
    bench.wait(refused());
    assert_eq!(bench.wait(json(402, "")), secs(5));
    assert_eq!(bench.wait(refused()), secs(2));
}

/// Retry-After wins over the backoff of a 429 where it is more than nothing and at most a minute.
#[test]
fn a_429_honours_hints_within_bounds() {
    for (hint, expected) in [
        (ms(200), ms(200)),
        (secs(60), secs(60)),
        (Duration::ZERO, secs(1)),
        (secs(61), secs(1)),
        (Duration::MAX, secs(1)),
    ] {
        let mut bench = Bench::new(PollPolicy::default());
        let response = RawResponse::json(429, "").with_retry_after(hint);
        assert_eq!(bench.wait(response.into()), expected, "{hint:?}");
    }
}

/// A pending answer is polled again at once if the server held the call; one that came too fast is followed by a
/// short, growing wait; a hint wins, up to a minute.
#[test]
fn pending_waits() {
    let pending = || json(200, r#"{"type":"try_again","queue_state":"paused_capacity"}"#);
    for held in [pending(), json(408, ""), cut_off()] {
        let mut bench = Bench::new(PollPolicy::default());
        assert!(matches!(bench.take(held, ms(500)), Next::PollAfter(Duration::ZERO)));
    }
    let mut bench = Bench::new(PollPolicy::default());
    let waits: Vec<_> = (0..7).map(|_| bench.wait(json(408, "")).as_millis()).collect();
    assert_eq!(waits, [50, 100, 200, 400, 800, 1000, 1000]);
    assert!(matches!(bench.take(pending(), secs(20)), Next::PollAfter(Duration::ZERO)));
    assert_eq!(bench.wait(cut_off()), ms(50), "a held call starts the count anew");

    for (body, expected) in [
        (r#"{"type":"try_again","retry_after_ms":1500}"#, ms(1500)),
        (r#"{"type":"try_again","retry_after_ms":0.5}"#, Duration::from_micros(500)),
        (r#"{"type":"try_again","retry_after_ms":86400000}"#, secs(60)),
        (r#"{"type":"try_again","retry_after_ms":1e300}"#, secs(60)),
    ] {
        let mut bench = Bench::new(PollPolicy::default());
        let next = bench.take(json(200, body), secs(20));
        assert!(matches!(next, Next::PollAfter(wait) if wait == expected), "{body} {next:?}");
    }
}

/// 5xx: exponential with jitter; a hint of the server wins.
#[test]
fn server_errors_back_off_with_jitter() {
    let mut bench = Bench::new(PollPolicy::default());
    let waits: Vec<_> = (0..7).map(|_| bench.wait(json(503, "")).as_millis()).collect();
    assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
    let mut bench = Bench::new(PollPolicy::default());
    let answer = Answer::of(json(500, ""));
    let next = step(&mut bench.state, &bench.policy, answer, bench.now, Duration::ZERO, 0.5).next;
    assert!(matches!(next, Next::PollAfter(wait) if wait == Duration::from_micros(437_500)), "{next:?}");
    let mut bench = Bench::new(PollPolicy::default());
    let response = RawResponse::json(503, "").with_retry_after(secs(7));
    assert_eq!(bench.wait(response.into()), secs(7));
}

/// Flow `retrieve_future_400_budget`: three more polls, the fourth 400 is believed. Only a 408 with a JSON body
/// resets the count.
#[test]
fn the_fourth_400_is_final() {
    let mut bench = Bench::new(PollPolicy::default());
    let waits: Vec<_> = (0..3).map(|_| bench.wait(json(400, "")).as_millis()).collect();
    assert_eq!(waits, [50, 100, 200]);
    let error = bench.end(json(400, "")).unwrap_err();
    assert_eq!((error.kind(), error.polls()), (PollErrorKind::Status(400), 4));
    assert_eq!(error.category(), ErrorCategory::User);

    // With an explanation it is a failed promise of an open server.
    let mut bench = Bench::new(PollPolicy::default());
    for between in [json(503, ""), json(429, ""), json(200, r#"{"type":"try_again"}"#), json(408, "text")] {
        bench.wait(between);
        if bench.state.polls() < 7 {
            bench.wait(json(400, r#"{"detail":"bad"}"#));
        }
    }
    let error = bench.end(json(400, r#"{"detail":"bad"}"#)).unwrap_err();
    assert_eq!((error.kind(), error.category()), (PollErrorKind::Failed, ErrorCategory::User));
    assert_eq!((error.message(), error.status()), ("bad", Some(400)));

    let mut bench = Bench::new(PollPolicy::default());
    for _ in 0..3 {
        bench.wait(json(400, ""));
    }
    bench.wait(json(408, "{}"));
    assert_eq!(bench.wait(json(400, "")), ms(50), "forgiven");
}

/// OPEN_SERVERS 7: a 4xx with an explanation is the same error as a 200 with one; without, it is a plain status.
#[test]
fn failures_of_open_servers() {
    for (status, category) in [(409, ErrorCategory::Unknown), (422, ErrorCategory::User)] {
        let mut bench = Bench::new(PollPolicy::default());
        let error = bench.end(json(status, r#"{"detail":"no such loss"}"#)).unwrap_err();
        assert_eq!((error.kind(), error.category()), (PollErrorKind::Failed, category));
        assert_eq!((error.status(), error.message()), (Some(status), "no such loss"));
        let mut bench = Bench::new(PollPolicy::default());
        let error = bench.end(json(status, "")).unwrap_err();
        assert_eq!(error.kind(), PollErrorKind::Status(status));
    }
    let mut bench = Bench::new(PollPolicy::default());
    let error = bench.end(json(404, r#"{"detail":"unknown request"}"#)).unwrap_err();
    assert_eq!(error.to_string(), "sample request r failed after 1 poll in 0.0 s: HTTP 404: unknown request");
    let mut bench = Bench::new(PollPolicy::default());
    let error = bench.end(json(501, r#"{"detail":"loss not supported"}"#)).unwrap_err();
    assert_eq!(error.kind(), PollErrorKind::Status(501), "501 is never polled again");
    assert_eq!(error.category(), ErrorCategory::Server);
}

/// FU-4: 410 is a kind of its own.
#[test]
fn a_410_is_expired() {
    let mut bench = Bench::new(PollPolicy::default());
    let error = bench.end(json(410, r#"{"detail":"gone"}"#)).unwrap_err();
    assert_eq!((error.kind(), error.status()), (PollErrorKind::Expired, Some(410)));
    assert_eq!(error.message(), "the promise has expired; submit a new request (gone)");
    // A step that may have been carried out must not simply be made again, so nothing of the kind is advised.
    let mut bench = Bench::new(PollPolicy::default());
    bench.state = PollState::new("r", RequestType::OptimStep, bench.now);
    let error = bench.end(json(410, r#"{"detail":"gone"}"#)).unwrap_err();
    assert_eq!(error.message(), "the promise has expired (gone)");
}

/// A large result is announced once; a second announcement breaks the protocol.
#[test]
fn a_second_announcement_is_an_error() {
    let announced = || json(200, r#"{"status":"complete_metadata","response_payload_size":5}"#);
    let mut bench = Bench::new(PollPolicy::default());
    assert!(bench.state.ask(None).allow_metadata_only);
    assert!(matches!(bench.take(announced(), Duration::ZERO), Next::Reserve { bytes: 5 }));
    assert!(!bench.state.ask(None).allow_metadata_only);
    bench.wait(json(503, ""));
    assert!(!bench.state.ask(None).allow_metadata_only, "failures in between change nothing");
    assert_eq!(bench.end(announced()).unwrap_err().kind(), PollErrorKind::Decode);
}

/// An outage ends after its limit and says how many attempts it took; any answer in between starts it anew.
#[test]
fn an_outage_ends_at_its_limit() {
    let policy = PollPolicy::default().outage_limit(secs(100));
    let mut bench = Bench::new(policy);
    let start = bench.now;
    let error = loop {
        let failure = if bench.state.polls().is_multiple_of(2) { refused() } else { json(502, "") };
        match bench.take(failure, Duration::ZERO) {
            Next::PollAfter(wait) => bench.now += wait,
            Next::Finish(Err(error)) => break error,
            next => panic!("{next:?}"),
        }
    };
    let attempts = error.polls();
    assert_eq!(error.kind(), PollErrorKind::Outage);
    let lasted = bench.now - start;
    assert!((secs(100)..secs(131)).contains(&lasted), "{lasted:?}");
    assert!(error.message().contains(&format!("({attempts} attempts in a row, limit 100.0 s)")), "{error}");
    assert!(std::error::Error::source(&error).is_some());

    for between in [json(408, ""), json(429, ""), cut_off()] {
        let mut bench = Bench::new(policy);
        bench.wait(refused());
        bench.now += secs(99);
        bench.wait(between);
        bench.now += secs(99);
        bench.wait(json(503, ""));
    }
}

/// PROTOCOL 7.4: a billing pause lasts at most its limit; five quiet minutes make a new incident.
#[test]
fn a_billing_pause_is_bounded() {
    let mut bench = Bench::new(PollPolicy::default().billing_pause(secs(12)));
    assert_eq!(bench.wait(json(402, "")), secs(5));
    assert_eq!(bench.wait(json(402, "")), secs(5));
    assert_eq!(bench.wait(json(402, "")), secs(2), "cut at the limit");
    let error = bench.end(json(402, r#"{"detail":"pay"}"#)).unwrap_err();
    assert_eq!(error.kind(), PollErrorKind::Status(402));
    assert_eq!(
        error.message(),
        r#"the billing pause has lasted longer than 12 s. Error: Error code: 402 - {"detail":"pay"}"#
    );

    let mut bench = Bench::new(PollPolicy::default().billing_pause(secs(12)));
    bench.wait(json(402, ""));
    bench.now += secs(301);
    assert_eq!(bench.wait(json(402, "")), secs(5));
}

/// Waits end at the deadline, and an answer after it that does not end the poll ends it as a timeout.
#[test]
fn waits_are_cut_at_the_deadline() {
    let mut bench = Bench::new(PollPolicy::default().deadline(secs(2)));
    assert_eq!(bench.wait(refused()), secs(1));
    bench.now += ms(400);
    assert_eq!(bench.wait(refused()), ms(600), "not 2 s");
    let error = bench.end(json(408, "")).unwrap_err();
    assert_eq!(error.kind(), PollErrorKind::Timeout);
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "connection refused");
    assert!(
        Bench::new(PollPolicy::default().deadline(Duration::ZERO)).end(json(200, "{}")).is_ok(),
        "a result wins"
    );
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    let text = |options: &'static [&'static str]| prop::sample::select(options);
    let body = prop_oneof![
        any::<Vec<u8>>(),
        text(&["", "{}", "[]", "null", r#"{"error":"x"}"#, r#"{"detail":"x"}"#, r#"{"status":"pending"}"#])
            .prop_map(|body| body.as_bytes().to_vec()),
        (text(&["active", "paused_capacity", "", "odd"]), any::<f64>()).prop_map(|(state, wait)| {
            format!(r#"{{"type":"try_again","queue_state":"{state}","retry_after_ms":{wait}}}"#).into_bytes()
        }),
        any::<u64>().prop_map(|size| {
            format!(r#"{{"status":"complete_metadata","response_payload_size":{size}}}"#).into_bytes()
        }),
    ];
    let status = prop_oneof![prop::sample::select(vec![200, 400, 402, 408, 429, 500, 503]), any::<u16>()];
    let hint = prop::option::of((any::<u64>(), 0..1_000_000_000_u32).prop_map(|(s, n)| Duration::new(s, n)));
    let response = (status, body, hint, any::<bool>()).prop_map(|(status, body, retry_after, protobuf)| {
        let content_type = protobuf.then(|| "application/x-protobuf".to_owned());
        RawResponse { status, content_type, body: body.into(), retry_after }.into()
    });
    prop_oneof![
        6 => response,
        1 => any::<bool>().prop_map(|timed_out| Outcome::Unreachable { timed_out, error: "x".into() }),
    ]
}

proptest! {
    /// F-19: for any answers, at any times, with any random numbers: no panic, and no wait over a minute or past
    /// the deadline.
    #[test]
    fn no_sequence_of_answers_breaks_the_step(
        sequence in prop::collection::vec((outcomes(), any::<u32>(), any::<u64>(), any::<f64>()), 1..60),
        deadline in prop::option::of(any::<u64>().prop_map(Duration::from_millis)),
    ) {
        let policy = PollPolicy::default().deadline(deadline);
        let mut bench = Bench::new(policy);
        let start = bench.now;
        for (outcome, gap, took, random) in sequence {
            // Time may also seem to stand still or to run backwards against the start.
            bench.now = start + Duration::from_millis(u64::from(gap));
            let took = Duration::from_millis(took);
            match step(&mut bench.state, &policy, Answer::of(outcome), bench.now, took, random).next {
                Next::PollAfter(wait) => {
                    prop_assert!(wait <= LONGEST_WAIT);
                    if let Some(deadline) = deadline {
                        prop_assert!(bench.now - start + wait <= deadline);
                    }
                }
                Next::Reserve { .. } => {}
                Next::Finish(end) => {
                    if let Err(error) = end {
                        let _ = (error.to_string(), format!("{error:?}"));
                    }
                    break;
                }
                _ => prop_assert!(false, "an unknown action"),
            }
        }
    }
}
