//! When a line is written: the interval, the clocks, the grace period, and many threads at once.

use std::sync::Barrier;
use std::time::Duration;

use proptest::prelude::*;
use tinkex_observer::{
    ClientKind, DEFAULT_LOG_INTERVAL, LogPolicy, ObserverSet, QueueState, QueueStateChange, QueueStateLogger,
    QueueStateObserver, should_log,
};
use tokio::time::Instant;

use crate::capture::{CAPACITY_LINE, Log, RATE_LIMIT_LINE, VirtualTime, repeated, sampling};

/// S2-12, S2-13, S2-14: never logged is due; exactly the interval is due; a nanosecond less is not, nor is a last
/// line in the future.
#[tokio::test(start_paused = true)]
async fn should_log_has_its_boundary_at_the_interval() {
    let last = Instant::now();
    let interval = DEFAULT_LOG_INTERVAL;
    assert_eq!(interval, Duration::from_secs(60));
    assert!(should_log(None, last, interval));
    for (age, due) in [
        (Duration::ZERO, false),
        (Duration::from_secs(30), false),
        (interval - Duration::from_nanos(1), false),
        (interval, true),
        (interval + Duration::from_nanos(1), true),
    ] {
        assert_eq!(should_log(Some(last), last + age, interval), due, "{age:?}");
    }
    assert!(
        !should_log(Some(last + interval), last, interval),
        "a last line in the future is no reason to log"
    );
    assert!(should_log(Some(last), last, Duration::ZERO));
}

/// S2-12: t=0 logs, 30 and 59.999 do not, 60 does, and then the interval begins again.
#[tokio::test(start_paused = true)]
async fn one_line_per_minute() {
    let (log, _guard) = Log::start();
    let (clock, logger) = (VirtualTime::start(), QueueStateLogger::default());
    for (t, lines) in
        [(0.0, 1), (30.0, 1), (59.999, 1), (60.0, 2), (119.999, 2), (120.5, 3), (180.4, 3), (180.5, 4)]
    {
        clock.to(t).await;
        logger.on_observation(&repeated(QueueState::PausedCapacity));
        assert_eq!(log.pauses().len(), lines, "at {t} s");
    }
}

/// S2-13: the first pause logs, however young or old the client is, and also where it is not a transition.
#[tokio::test(start_paused = true)]
async fn the_first_pause_logs() {
    for age in
        [Duration::ZERO, Duration::from_millis(1), Duration::from_secs(59), Duration::from_secs(1_000_000)]
    {
        let (log, _guard) = Log::start();
        let logger = QueueStateLogger::default();
        assert_eq!(logger.last_logged(), None);
        tokio::time::advance(age).await;
        logger.on_observation(&repeated(QueueState::PausedRateLimit));
        assert_eq!(log.pauses(), [RATE_LIMIT_LINE]);
        assert_eq!(logger.last_logged(), Some(Instant::now()));
    }
}

/// S2-11: Active is silent at any time, and neither starts nor resets the clock.
#[tokio::test(start_paused = true)]
async fn active_does_not_touch_the_clock() {
    let (log, _guard) = Log::start();
    let (clock, logger) = (VirtualTime::start(), QueueStateLogger::default());
    logger.on_observation(&sampling(QueueState::Active));
    assert_eq!(logger.last_logged(), None);
    clock.to(1.0).await;
    logger.on_observation(&sampling(QueueState::PausedCapacity));
    let first = logger.last_logged();
    assert_eq!(log.pauses().len(), 1, "right after Active");
    clock.to(30.0).await;
    logger.on_observation(&sampling(QueueState::Active));
    assert_eq!(logger.last_logged(), first);
    logger.on_observation(&sampling(QueueState::PausedCapacity));
    assert_eq!(log.pauses().len(), 1, "Active in between opens nothing");
    clock.to(61.0).await;
    logger.on_observation(&sampling(QueueState::Active));
    assert_eq!(log.pauses().len(), 1, "Active is silent after the interval too");
    logger.on_observation(&repeated(QueueState::PausedCapacity));
    assert_eq!(log.pauses().len(), 2);
}

/// QS-5, C-12: a change inside the interval that lasts is told when the interval is over, by its present state.
#[tokio::test(start_paused = true)]
async fn a_change_inside_the_interval_is_told_later() {
    let (log, _guard) = Log::start();
    let (clock, set) = (VirtualTime::start(), ObserverSet::default());
    set.on_observation(&sampling(QueueState::PausedRateLimit));
    clock.to(10.0).await;
    set.on_observation(&sampling(QueueState::PausedCapacity));
    for t in 11..60 {
        clock.to(f64::from(t)).await;
        set.on_observation(&repeated(QueueState::PausedCapacity));
    }
    assert_eq!(log.pauses(), [RATE_LIMIT_LINE]);
    for t in 60..=61 {
        clock.to(f64::from(t)).await;
        set.on_observation(&repeated(QueueState::PausedCapacity));
        assert_eq!(log.pauses(), [RATE_LIMIT_LINE, CAPACITY_LINE], "at {t} s");
    }
}

/// S2-25: every client has its own clock, and its own id in the line.
#[tokio::test(start_paused = true)]
async fn clients_do_not_share_a_clock() {
    let (log, _guard) = Log::start();
    let first = ObserverSet::default();
    let second = first.for_another_client();
    for (set, id) in [(&first, "a"), (&second, "b"), (&first, "a"), (&second, "b")] {
        set.on_observation(&QueueStateChange::new(QueueState::PausedCapacity, ClientKind::Sampling, id));
    }
    assert_eq!(
        log.pauses(),
        [
            "Sampling is paused for a. Reason: out of capacity",
            "Sampling is paused for b. Reason: out of capacity"
        ]
    );
}

/// C-7: with a clock per state, each of the three kinds of pause logs at once and then keeps its own interval.
#[tokio::test(start_paused = true)]
async fn a_clock_per_state_is_an_option() {
    let states = [
        QueueState::PausedRateLimit,
        QueueState::PausedCapacity,
        QueueState::Unknown("draining".into()),
        QueueState::Unknown("moving".into()),
    ];
    for (per_state, at_once, after_a_minute) in [(false, 1, 2), (true, 3, 6)] {
        let (log, _guard) = Log::start();
        let clock = VirtualTime::start();
        let logger = QueueStateLogger::new(LogPolicy::new().per_state(per_state));
        for (t, lines) in [(0.0, at_once), (59.0, at_once), (60.0, after_a_minute)] {
            clock.to(t).await;
            states.iter().for_each(|state| logger.on_observation(&sampling(state.clone())));
            assert_eq!(log.pauses().len(), lines, "per state {per_state}, at {t} s");
        }
    }
}

/// The interval is a setting.
#[tokio::test(start_paused = true)]
async fn the_interval_is_an_option() {
    let (log, _guard) = Log::start();
    let clock = VirtualTime::start();
    let logger = QueueStateLogger::new(LogPolicy::new().interval(Duration::from_secs(5)));
    for (t, lines) in [(0.0, 1), (4.9, 1), (5.0, 2), (9.9, 2), (10.0, 3)] {
        clock.to(t).await;
        logger.on_observation(&repeated(QueueState::PausedCapacity));
        assert_eq!(log.pauses().len(), lines, "at {t} s");
    }
}

/// PROTOCOL 17.3: the grace period applies to any kind of client when set, starts anew with each state and with
/// Active, and counts unknown states as one state.
#[tokio::test(start_paused = true)]
async fn the_grace_period_is_an_option() {
    let (log, _guard) = Log::start();
    let clock = VirtualTime::start();
    let logger = QueueStateLogger::new(LogPolicy::new().grace(Duration::from_secs(10)));
    for (t, state, lines) in [
        (0.0, "paused_capacity", 0),
        (9.9, "paused_capacity", 0),
        (9.95, "paused_rate_limit", 0),
        (10.0, "paused_rate_limit", 0),
        (19.9, "paused_rate_limit", 0),
        (19.91, "active", 0),
        (19.92, "draining", 0),
        (25.0, "moving", 0),
        (29.9, "draining", 0),
        (29.92, "moving", 1),
        (60.0, "moving", 1),
        (89.9, "moving", 1),
        (89.92, "moving", 2),
    ] {
        clock.to(t).await;
        logger.on_observation(&sampling(QueueState::parse(state)));
        assert_eq!(log.pauses().len(), lines, "at {t} s");
    }
}

/// QS-3, F-06: of 50 threads released at once, one writes; so again in each later interval.
#[tokio::test(start_paused = true)]
async fn fifty_threads_write_one_line() {
    const THREADS: usize = 50;
    let (log, _guard) = Log::start();
    let dispatch = tracing::dispatcher::get_default(Clone::clone);
    let runtime = tokio::runtime::Handle::current();
    let (clock, set) = (VirtualTime::start(), ObserverSet::default());
    for round in 0..20 {
        clock.to(60.0 * f64::from(round)).await;
        let barrier = Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    // The virtual clock and the log of the test, on this thread too.
                    let _entered = runtime.enter();
                    tracing::dispatcher::with_default(&dispatch, || {
                        barrier.wait();
                        set.on_observation(&sampling(QueueState::PausedRateLimit));
                    });
                });
            }
        });
        assert_eq!(log.pauses().len(), round as usize + 1, "in round {round}");
    }
}

/// What the logger must write, told in the plainest way.
fn expected_lines(events: &[(u64, QueueState)]) -> Vec<(u64, &'static str)> {
    let mut lines: Vec<(u64, &'static str)> = Vec::new();
    let mut now = 0;
    for (wait, state) in events {
        now += wait;
        let reason = match state {
            QueueState::Active => continue,
            QueueState::PausedRateLimit => "concurrent LoRA rate limit hit",
            QueueState::PausedCapacity => "out of capacity",
            QueueState::Unknown(_) => "unknown",
        };
        if lines.last().is_none_or(|(last, _)| now - last >= 60_000) {
            lines.push((now, reason));
        }
    }
    lines
}

fn any_state() -> impl Strategy<Value = QueueState> {
    prop_oneof![
        Just(QueueState::Active),
        Just(QueueState::PausedRateLimit),
        Just(QueueState::PausedCapacity),
        "[a-z]{0,6}".prop_map(|text| QueueState::Unknown(text.into_boxed_str())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// S2-15: whatever happens, at most one line per client in any 60 s; and none is missing either.
    #[test]
    fn any_sequence_keeps_the_interval(
        events in prop::collection::vec((prop_oneof![0_u64..2_000, 0_u64..70_000, Just(60_000)], any_state()), 0..120)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (log, _guard) = Log::start();
        let mut times = Vec::new();
        runtime.block_on(async {
            let (set, mut now) = (ObserverSet::default(), 0);
            for (wait, state) in &events {
                tokio::time::advance(Duration::from_millis(*wait)).await;
                now += wait;
                set.on_observation(&sampling(state.clone()));
                let lines = log.pauses().len();
                prop_assert!(lines <= times.len() + 1, "one observation, one line at most");
                if lines > times.len() {
                    times.push(now);
                }
            }
            Ok(())
        })?;
        prop_assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 60_000), "{times:?}");
        let wrote: Vec<(u64, String)> = times.into_iter().zip(log.pauses()).collect();
        let expected: Vec<(u64, String)> = expected_lines(&events)
            .into_iter()
            .map(|(t, reason)| (t, format!("Sampling is paused for s-1. Reason: {reason}")))
            .collect();
        prop_assert_eq!(wrote, expected);
    }
}
