//! The server's hint when to come back, in all its spellings (PROTOCOL 7.1, REQUIREMENTS C-2).

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use serde::Deserialize;

/// The longest hint that is believed. Anything beyond is ignored, as the reference SDK does.
pub const LONGEST_HINT: Duration = Duration::from_secs(60);

/// Reads `retry-after-ms`, `retry_after_ms` (both in milliseconds), `retry-after` (seconds or an HTTP date), then the
/// body's `retry_after_ms`. A value that cannot be parsed falls through to the next spelling; one that is parsed but
/// lies outside (0, 60 s] is no hint at all. Never negative, never unbounded (RL-6).
pub fn retry_after(headers: &HeaderMap, body: &[u8], now: SystemTime) -> Option<Duration> {
    let seconds = header_seconds(headers, now).or_else(|| body_seconds(body))?;
    // Less than half a nanosecond rounds to nothing, which is no hint either.
    let hint = Duration::try_from_secs_f64(seconds).ok()?;
    (!hint.is_zero() && seconds <= LONGEST_HINT.as_secs_f64()).then_some(hint)
}

fn header_seconds(headers: &HeaderMap, now: SystemTime) -> Option<f64> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let milliseconds = |name| text(name).and_then(number).map(|ms| ms / 1000.0);
    milliseconds("retry-after-ms")
        .or_else(|| milliseconds("retry_after_ms"))
        .or_else(|| text("retry-after").and_then(|value| number(value).or_else(|| date(value, now))))
}

/// A float with surrounding blanks, exponents, and underscores between digits.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let bytes = text.as_bytes();
    for (i, _) in text.match_indices('_') {
        let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
        if !digit(i.checked_sub(1)) || !digit(Some(i + 1)) {
            return None;
        }
    }
    text.replace('_', "").parse().ok()
}

fn date(text: &str, now: SystemTime) -> Option<f64> {
    let then = httpdate::parse_http_date(text.trim()).ok()?;
    Some(match then.duration_since(now) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(behind) => -behind.duration().as_secs_f64(),
    })
}

fn body_seconds(body: &[u8]) -> Option<f64> {
    #[derive(Deserialize)]
    struct Hint {
        retry_after_ms: Option<f64>,
    }
    if body.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice::<Hint>(body).ok()?.retry_after_ms.map(|ms| ms / 1000.0)
}
