//! The exact lines and how reasons are chosen.

use tinkex_observer::{
    ClientKind, LogPolicy, LogWording, QueueState, QueueStateChange, QueueStateLogger, QueueStateObserver,
    log_state_change, reason_for_state,
};
use tracing::Level;

use crate::capture::{Log, sampling};

fn unknown(text: &str) -> QueueState {
    QueueState::Unknown(text.into())
}

/// S2-05, S2-06, S2-07, S2-08, S2-09, S2-10, S2-14, S2-26: the seed lines, word for word, and the level, target and fields they come with.
#[test]
fn the_default_lines_are_exact() {
    use ClientKind::{ModelCreation, Sampling, Training};
    use QueueState::{PausedCapacity, PausedRateLimit};
    for (state, client, id, line) in [
        (
            PausedRateLimit,
            Sampling,
            "s-1",
            "Sampling is paused for s-1. Reason: concurrent LoRA rate limit hit",
        ),
        (PausedCapacity, Sampling, "s-1", "Sampling is paused for s-1. Reason: out of capacity"),
        (unknown("odd"), Sampling, "s-1", "Sampling is paused for s-1. Reason: unknown"),
        (
            PausedRateLimit,
            Training,
            "m-1",
            "Training is paused for m-1. Reason: concurrent models rate limit hit",
        ),
        (PausedCapacity, Training, "m-1", "Training is paused for m-1. Reason: out of capacity"),
        (unknown(""), Training, "m-1", "Training is paused for m-1. Reason: unknown"),
        (
            PausedRateLimit,
            ModelCreation,
            "Qwen/Qwen3-8B",
            "Model creation is paused for Qwen/Qwen3-8B. Reason: concurrent models rate limit hit",
        ),
        (PausedCapacity, ModelCreation, "b", "Model creation is paused for b. Reason: out of capacity"),
    ] {
        let (log, _guard) = Log::start();
        log_state_change(&state, client, id);
        QueueStateLogger::default().on_observation(&QueueStateChange::new(state.clone(), client, id));
        let lines = log.lines();
        assert_eq!(lines.len(), 2);
        for logged in lines {
            assert_eq!(logged.message, line);
            assert_eq!((logged.level, logged.target.as_str()), (Level::WARN, "tinkex_observer"));
            let fields: Vec<_> = logged.fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let reason = reason_for_state(&state, client);
            assert_eq!(
                fields,
                [("client", client.label()), ("id", id), ("queue_state", state.as_str()), ("reason", reason)]
            );
        }
    }
}

/// S2-01: whatever word a server sends becomes one of four states, and those pick the reason.
#[test]
fn wire_words_pick_the_reason() {
    for (text, reason) in [
        ("paused_rate_limit", "concurrent LoRA rate limit hit"),
        (" PAUSED_RATE_LIMIT ", "concurrent LoRA rate limit hit"),
        ("paused_capacity", "out of capacity"),
        ("draining", "unknown"),
        ("unknown", "unknown"),
        ("", "unknown"),
        ("active", "unknown"),
    ] {
        assert_eq!(reason_for_state(&QueueState::parse(text), ClientKind::Sampling), reason, "{text:?}");
    }
}

/// S2-11, S2-14: the small function is silent about Active as well.
#[test]
fn active_writes_nothing() {
    let (log, _guard) = Log::start();
    log_state_change(&QueueState::Active, ClientKind::Training, "m-1");
    assert_eq!(log.lines(), []);
}

/// S2-10: a missing id prints `unknown`.
#[test]
fn a_missing_id_prints_unknown() {
    let (log, _guard) = Log::start();
    log_state_change(&QueueState::PausedCapacity, ClientKind::Sampling, "");
    QueueStateLogger::default().on_observation(&QueueStateChange::new(
        QueueState::PausedCapacity,
        ClientKind::Training,
        " ",
    ));
    assert_eq!(
        log.pauses(),
        [
            "Sampling is paused for unknown. Reason: out of capacity",
            "Training is paused for unknown. Reason: out of capacity"
        ]
    );
}

/// QS-7, C-10: a reason with text replaces the built-in one, for unknown states too; an empty, blank or absent one
/// does not.
#[test]
fn the_servers_reason_wins_where_it_says_something() {
    let mut empty = sampling(QueueState::PausedCapacity);
    empty.reason = Some("".into());
    let mut blank = sampling(QueueState::PausedCapacity);
    blank.reason = Some(" \n".into());
    for (change, reason) in [
        (sampling(QueueState::PausedCapacity).with_reason(Some("maintenance")), "maintenance"),
        (sampling(unknown("draining")).with_reason(Some("moving house")), "moving house"),
        (sampling(QueueState::PausedCapacity).with_reason(Some("  ")), "out of capacity"),
        (sampling(QueueState::PausedCapacity).with_reason(None), "out of capacity"),
        (empty, "out of capacity"),
        (blank, "out of capacity"),
        (sampling(unknown("draining")), "unknown"),
    ] {
        let (log, _guard) = Log::start();
        QueueStateLogger::default().on_observation(&change);
        let lines = log.lines();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].message, format!("Sampling is paused for s-1. Reason: {reason}"));
        assert_eq!(lines[0].fields["reason"], reason);
    }
}

/// A server cannot forge a second line.
#[test]
fn a_line_stays_one_line() {
    let line = LogWording::Bare.line(ClientKind::Sampling, "a\nb", "busy\r\nERROR\u{1b}[31m all is lost");
    assert_eq!(line, "Sampling is paused for a b. Reason: busy  ERROR [31m all is lost");
}

/// PROTOCOL 17.4: before release 0.25 there was no line of its own for model creation, and 0.4 and 0.6 ignored the
/// server's reason. (The sampling and training lines are proven by the vectors.)
#[test]
fn model_creation_in_the_wording_of_older_releases() {
    for (wording, line) in [
        (LogWording::V0_4, "Training is paused for base. Reason: out of capacity"),
        (LogWording::V0_6, "Training is paused for base. Reason: out of capacity"),
        (LogWording::V0_7, "Training is paused for base. Reason: full"),
        (LogWording::V0_38, "Model creation for base is paused. Reason: full."),
    ] {
        let (log, _guard) = Log::start();
        let change = QueueStateChange::new(QueueState::PausedCapacity, ClientKind::ModelCreation, "base");
        QueueStateLogger::new(LogPolicy::new().wording(wording))
            .on_observation(&change.with_reason(Some("full")));
        assert_eq!(log.pauses(), [line]);
    }
}
